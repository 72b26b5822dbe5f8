"""What things cost: python scripts/benchmark.py [what=steps] [rounds=9]

what=steps       steps per second, beside a plain loop and bare arithmetic
                 (steps, hidden_dim, device)
what=sweeps      the time that launchers take (steps)
what=metrics     the time that metrics take, beside torchmetrics where installed (samples, device)
what=compare     the time that tables and pages of 1,000 made-up runs take
what=vectorized  runs trained together, one after another, and in 2, 4 and 8 processes, beside what
                 the device takes at least
                 (members, steps, model, hidden_dim where it has one, data, device, compile)

steps=null is 100, or 32 of each member with what=vectorized.
Every row is timed in each round, one after another, so that whatever else the machine does falls
on all of them; the tables show medians over the rounds.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import script
from gan.errors import UserError, nearest

KINDS = ("steps", "sweeps", "metrics", "compare", "vectorized")


@dataclass
class Options:
    what: str = "steps"
    rounds: int = 9
    steps: int | None = None
    hidden_dim: int = 256
    samples: int = 10_000
    device: str = "cpu"
    members: int = 16
    model: str = "base"
    data: str = "mnist5k"
    compile: bool = True


def benchmark(paths: list[Path], options: Options) -> None:
    if paths:
        raise UserError(f"{paths[0]}: no paths are needed; usage: what=steps rounds=9")
    if options.what not in KINDS:
        hint = nearest(options.what, KINDS)
        raise UserError(f"what={options.what}: must be one of {', '.join(KINDS)}{hint}")
    rounds, device = options.rounds, options.device
    steps = (
        options.steps
        if options.steps is not None
        else (32 if options.what == "vectorized" else 100)
    )
    for name, value in (("rounds", rounds), ("steps", steps), ("members", options.members)):
        if value < 1:
            raise UserError(f"{name}={value}: must be at least 1")
    if options.what == "steps":
        from benchmarks.steps import compare_steps

        compare_steps(rounds=rounds, steps=steps, hidden_dim=options.hidden_dim, device=device)
    elif options.what == "sweeps":
        from benchmarks.sweeps import compare_sweeps

        compare_sweeps(rounds=rounds, steps=steps)
    elif options.what == "metrics":
        from benchmarks.metrics import compare_metrics

        compare_metrics(rounds=rounds, samples=options.samples, device=device)
    elif options.what == "vectorized":
        from benchmarks.vectorized import compare_vectorized

        compare_vectorized(
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
        from benchmarks.compare import compare_reading

        compare_reading(rounds=rounds)


if __name__ == "__main__":
    # Before torch is there: what its profiler says of itself, in this process and in others.
    os.environ |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    script(benchmark, Options)
