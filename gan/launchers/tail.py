"""Following a run from outside, by the files that it writes."""

from pathlib import Path
from typing import Any

from gan.launchers.pool import Progress, Task
from gan.run.result import METRICS_FILE, Record, read_records


class Tail:
    """What a task has logged since it was last looked at. A run that goes on from a
    checkpoint writes some lines again; they are told once."""

    def __init__(self, task: Task):
        self._task = task
        self._size = 0
        self._step = 0

    def news(self) -> list[Progress]:
        path = self._task.run_dir / METRICS_FILE
        size = path.stat().st_size if path.exists() else 0
        if size == self._size:
            return []
        self._size = size
        new = [record for record in read_records(self._task.run_dir) if record["step"] > self._step]
        if new:
            self._step = new[-1]["step"]
        total = [_total(self._task.config["trainer"], record) for record in new]
        return [
            Progress(self._task.name, record["step"], steps, record)
            for record, steps in zip(new, total, strict=True)
        ]


def _total(trainer: dict[str, Any], record: Record) -> int:
    """The step at which the run of a record ends."""
    if trainer["max_steps"] is not None:
        return int(trainer["max_steps"])
    total: int = round(trainer["max_epochs"] * record["step"] / record["epoch"])
    return total


def newest_checkpoint(run_dir: Path) -> str:
    """Its name; empty where there is none."""
    return max((path.name for path in (run_dir / "checkpoints").glob("step-*.pt")), default="")
