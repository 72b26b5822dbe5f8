"""Measure runs from their checkpoints: python scripts/evaluate.py RUN_DIR... metrics=fast

Takes directories of runs and of sweeps, whether training goes on or not. `metrics` is an option
of that config group; `samples` and `split` (train or test) change its settings. Writes
metrics-NAME.json into each run's directory, where `name` is that of the option unless given, and
prints a table, with what real training images would get as the floor.
"""

from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import script
from gan.errors import UserError
from gan.launchers.startup import lasting


@dataclass
class Options:
    metrics: str = "fast"
    name: str | None = None
    samples: int | None = None
    split: str | None = None
    weights: str = "auto"
    device: str = "auto"


def evaluate(paths: list[Path], options: Options) -> None:
    if not paths:
        raise UserError("usage: python scripts/evaluate.py RUN_DIR... metrics=fast")
    from rich.progress import track

    with lasting():
        from gan.commands.evaluate import FLOOR, find_runs, measure_runs, settings_of
    from gan.sweep.report import console, print_measured

    run_dirs = find_runs(paths)
    settings = settings_of(options.metrics, options.samples, options.split)
    rows = measure_runs(
        run_dirs,
        settings,
        name=options.name or options.metrics,
        weights=options.weights,
        device=options.device,
    )
    done = []
    shown = console()
    for row in track(
        rows, "measuring", len(run_dirs), console=shown, disable=not shown.is_terminal
    ):
        done.append(row)
    done.sort(key=lambda row: row.name == FLOOR)
    print_measured(done)


if __name__ == "__main__":
    script(evaluate, Options)
