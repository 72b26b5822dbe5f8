"""The records of a run while it trains: metrics.jsonl, sample pictures, TensorBoard, train.log."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from gan.data.pictures import png
from gan.files import sync, write_bytes
from gan.run.directory import LOG_FILE, METRICS_FILE, REAL_FILE, SAMPLES
from gan.run.result import Record
from gan.run.tensorboard import EventFile, event_files


class Records:
    """The files of one run that grow while it trains.

    metrics.jsonl holds no times, so that its content depends on the configuration only.
    """

    def __init__(self, run_dir: Path, *, tensorboard: bool):
        self._run_dir = run_dir
        self._samples = run_dir / SAMPLES
        self._samples.mkdir(exist_ok=True)
        self._metrics = (run_dir / METRICS_FILE).open("a")
        self.events = EventFile(run_dir) if tensorboard else None

    def write(self, record: Record, tensorboard_only: Record) -> None:
        """Append a line to metrics.jsonl, and its values and more to TensorBoard."""
        self._metrics.write(json.dumps(record, allow_nan=False) + "\n")
        self._metrics.flush()
        if self.events:
            values = {tag: value for tag, value in record.items() if tag != "step"}
            self.events.write_scalars(record["step"], values | tensorboard_only)
            self.events.flush()

    def write_samples(self, step: int, picture: Tensor) -> None:
        """Write a picture of samples, uint8 (channels, height, width)."""
        content = png(picture)
        write_bytes(self._samples / f"step-{step:06d}.png", content)
        if self.events:
            self.events.write_image(step, "samples", content, tuple(picture.shape))
            self.events.flush()

    def write_real_samples(self, picture: Tensor | None) -> None:
        """Write a picture of real samples once, to compare with."""
        path = self._samples / REAL_FILE
        if picture is not None and not path.exists():
            write_bytes(path, png(picture))

    def file_sizes(self) -> dict[str, int]:
        """Write the files to the disk, and return their sizes in bytes for `rewind`."""
        paths = [self._run_dir / METRICS_FILE]
        if self.events:
            self.events.flush()
            paths.append(self.events.path)
        for path in paths:
            sync(path)
        return {path.name: path.stat().st_size for path in paths}

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        if self.events:
            self.events.close()


def rewind(run_dir: Path, step: int, file_sizes: dict[str, int]) -> None:
    """Remove what was written after the checkpoint of `step`, because it is written again.

    Args:
        file_sizes: `Records.file_sizes` at the checkpoint.
    """
    for path in [run_dir / METRICS_FILE, *event_files(run_dir)]:
        if path.name in file_sizes:
            with path.open("r+b") as file:
                file.truncate(file_sizes[path.name])
        else:
            path.unlink(missing_ok=True)
    for path in (run_dir / SAMPLES).glob("step-*.png"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()


@contextmanager
def log_file(run_dir: Path) -> Iterator[None]:
    """Append everything that this package logs within the block to the run's log file."""
    logger = logging.getLogger("gan")
    handler = logging.FileHandler(run_dir / LOG_FILE)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
