"""What things cost: python scripts/benchmark.py [what=steps] [rounds=9]

what=steps    steps per second, beside a plain loop and bare arithmetic (steps, hidden_dim, device)
what=sweeps   the time that launchers take (steps)
what=metrics  the time that metrics take, beside torchmetrics where installed (samples, device)
what=compare  the time that tables and pages of 1,000 made-up runs take

Every row is timed in each round, one after another, so that whatever else the machine does falls
on all of them; the tables show medians over the rounds.
"""

from dataclasses import dataclass
from pathlib import Path

from gan.cli import script
from gan.errors import UserError, nearest

KINDS = ("steps", "sweeps", "metrics", "compare")


@dataclass
class Options:
    what: str = "steps"
    rounds: int = 9
    steps: int = 100
    hidden_dim: int = 256
    samples: int = 10_000
    device: str = "cpu"


def benchmark(paths: list[Path], options: Options) -> None:
    if paths:
        raise UserError(f"{paths[0]}: no paths are needed; usage: what=steps rounds=9")
    if options.what not in KINDS:
        hint = nearest(options.what, KINDS)
        raise UserError(f"what={options.what}: must be one of {', '.join(KINDS)}{hint}")
    if options.rounds < 1:
        raise UserError(f"rounds={options.rounds}: must be at least 1")
    rounds, device = options.rounds, options.device
    if options.what == "steps":
        from benchmarks.steps import compare_steps

        compare_steps(
            rounds=rounds, steps=options.steps, hidden_dim=options.hidden_dim, device=device
        )
    elif options.what == "sweeps":
        from benchmarks.sweeps import compare_sweeps

        compare_sweeps(rounds=rounds, steps=options.steps)
    elif options.what == "metrics":
        from benchmarks.metrics import compare_metrics

        compare_metrics(rounds=rounds, samples=options.samples, device=device)
    else:
        from benchmarks.compare import compare_reading

        compare_reading(rounds=rounds)


if __name__ == "__main__":
    script(benchmark, Options)
