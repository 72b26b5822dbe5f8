"""Time this program: python scripts/benchmark.py [what=steps] [rounds=9]

what=steps       steps per second in each precision, as they are and compiled, beside a plain loop
                 and the products of a step alone, by the fastest library for each
                 (steps, hidden_dim, device, threads, compile)
what=waiting     ways in which idle threads wait, alone and beside busy programs (steps, hidden_dim)
what=sweeps      the time that launchers take (steps)
what=metrics     the time that metrics take, beside torchmetrics where installed (samples, device)
what=compare     the time that tables and pages of 1,000 made-up runs take
what=size        sweeps and searches of made-up runs in three sizes: to plan them, to find them
                 finished, to compare them, and the bookkeeping for each run; everything once (runs)
what=vectorized  runs trained together, one after another, and in 2, 4 and 8 processes, beside what
                 the device takes at least
                 (members, steps, model, hidden_dim where it has one, data, device, compile)

steps=null is 100, or 32 for each run with what=vectorized.
Each round times every row once, one after another, so that whatever else the machine does slows all
of them down. The tables show medians over the rounds. What is first done once is not counted.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import run_command
from gan.commands.help import option
from gan.errors import UserError, nearest

KINDS = ("steps", "waiting", "sweeps", "metrics", "compare", "size", "vectorized")
"""Values of the option `what`."""


@dataclass
class Options:
    """Options of `scripts/benchmark.py`."""

    what: str = option("steps", "steps, waiting, sweeps, metrics, compare, size or vectorized")
    rounds: int = option(9, "rounds; each one times every row once, and the table shows medians")
    steps: int | None = option(
        None,
        "training steps of a run; null is 100, or 32 with what=vectorized",
    )
    hidden_dim: int = option(256, "width of the networks, where the model has one")
    samples: int = option(10_000, "samples to measure")
    runs: int = option(
        10_000, "runs of the largest sweep with what=size; its largest search has half as many"
    )
    device: str = option("cpu", "auto, cpu, cuda, cuda:N or mps")
    members: int = option(16, "runs that are trained together")
    model: str = option("base", "option of the config group model")
    data: str = option("mnist5k", "option of the config group data")
    compile: bool = option(True, "also time compiled steps")
    threads: int | None = option(None, "threads of a training on the CPU; null takes all cores")


def main() -> None:
    """Run the command line."""
    # torch's profiler reads these when torch is imported, here and in child processes. Without
    # them it prints about itself.
    os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    run_command(benchmark, Options)


def benchmark(paths: list[Path], options: Options) -> None:
    """Print one table of timings.

    Raises:
        UserError: an option is wrong.
    """
    if paths:
        raise UserError(f"{paths[0]}: no paths are needed; usage: what=steps rounds=9")
    if options.what not in KINDS:
        hint = nearest(options.what, KINDS)
        raise UserError(f"what={options.what}: must be one of {', '.join(KINDS)}{hint}")
    rounds, device = options.rounds, options.device
    steps = options.steps
    if steps is None:
        steps = 32 if options.what == "vectorized" else 100
    # The metrics compare up to 512 features, and need more samples than that.
    least = {"samples": 513 if options.what == "metrics" else 1}
    counts = {"rounds": rounds, "steps": steps}
    for name in ("members", "runs", "hidden_dim", "threads", "samples"):
        counts[name] = getattr(options, name)
    for name, value in counts.items():
        if value is not None and value < least.get(name, 1):
            raise UserError(f"{name}={value}: must be at least {least.get(name, 1)}")
    # torch takes seconds to import. Help and mistakes on the command line need none of it.
    if options.what == "steps":
        from benchmarks.steps import time_steps

        time_steps(
            rounds=rounds,
            steps=steps,
            hidden_dim=options.hidden_dim,
            device=device,
            threads=options.threads,
            compile=options.compile,
        )
    elif options.what == "waiting":
        from benchmarks.waiting import time_waiting

        time_waiting(rounds=rounds, steps=steps, hidden_dim=options.hidden_dim)
    elif options.what == "sweeps":
        from benchmarks.sweeps import time_sweeps

        time_sweeps(rounds=rounds, steps=steps)
    elif options.what == "metrics":
        from benchmarks.metrics import time_metrics

        time_metrics(rounds=rounds, samples=options.samples, device=device)
    elif options.what == "size":
        from benchmarks.size import time_sizes

        time_sizes(runs=options.runs)
    elif options.what == "vectorized":
        from benchmarks.vectorized import time_vectorized

        time_vectorized(
            rounds=rounds,
            steps=steps,
            members=options.members,
            model=options.model,
            data=options.data,
            hidden_dim=options.hidden_dim,
            device=device,
            compile=options.compile,
        )
    else:
        from benchmarks.compare import time_compare

        time_compare(rounds=rounds)
