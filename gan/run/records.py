"""The records of a run while it trains: metrics.jsonl, sample pictures, TensorBoard, train.log."""

import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from gan.data.pictures import to_pil
from gan.errors import PrintableFormatter, UserError
from gan.run.directory import (
    CHECKPOINTS,
    EVALUATION_FILES,
    LOG_FILE,
    METRICS_FILE,
    REAL_FILE,
    RESULT_FILE,
    SAMPLES,
)
from gan.run.pictures import encode, open_exact, sample_file, sample_files
from gan.run.result import Best, Record, best_values, read_records, whole_lines
from gan.run.tensorboard import REAL_TAG, EventFile, event_files
from gan.system.files import read_bytes, sync, write_bytes

log = logging.getLogger(__name__)

PNG_END = b"IEND\xaeB`\x82"
"""The last chunk of a PNG file: its name and its checksum."""


class Records:
    """The files of one run that grow while it trains.

    metrics.jsonl holds no times, so that its content depends on the configuration only.
    """

    def __init__(self, run_dir: Path, *, tensorboard: bool, scheduled: bool):
        """Open the files, and write what a lost event file held again.

        Args:
            tensorboard: write an event file.
            scheduled: the learning rates change from step to step.
        """
        self._run_dir = run_dir
        self._samples = run_dir / SAMPLES
        self._samples.mkdir(exist_ok=True)
        self._metrics = (run_dir / METRICS_FILE).open("a", encoding="utf-8")
        self._marks: dict[str, tuple[int, int]] = {}
        self.events = EventFile(run_dir, scheduled=scheduled) if tensorboard else None
        if self.events and self.events.is_new and (records := read_records(run_dir)):
            self._repeat_events(self.events, records)

    def write(self, record: Record, best: Best, rate: float | None) -> None:
        """Append a line to metrics.jsonl, and its values to TensorBoard.

        Args:
            best: the best value of each metric so far, for TensorBoard.
            rate: images per second, for TensorBoard, if they are known.
        """
        self._metrics.write(json.dumps(record, allow_nan=False) + "\n")
        self._metrics.flush()
        if self.events:
            self.events.write_record(record, best, rate)
            self.events.flush()

    def write_samples(self, step: int, picture: Tensor, caption: str) -> None:
        """Write a picture of samples, uint8 (channels, height, width)."""
        exact = write_samples(self._run_dir, step, picture, caption)
        if self.events:
            self.events.write_image(step, "samples", exact)
            self.events.flush()

    def write_real_samples(self, picture: Tensor) -> None:
        """Write a picture of real samples, to compare with. A new event file gets it too."""
        exact = to_pil(picture)
        write_bytes(self._samples / REAL_FILE, encode(exact, "real samples"))
        if self.events and self.events.is_new:
            self.events.write_image(0, REAL_TAG, exact)

    def write_remark(self, step: int, tag: str, text: str) -> None:
        """Write a text to TensorBoard."""
        if self.events:
            self.events.write_remark(step, tag, text)
            self.events.flush()

    def marks(self) -> dict[str, list[int]]:
        """Write the files to the disk, and return the size and CRC-32 of each for `rewind`."""
        paths = [self._run_dir / METRICS_FILE]
        if self.events:
            self.events.flush()
            paths.append(self.events.path)
        for path in paths:
            sync(path)
            size, checksum = self._marks.get(path.name, (0, 0))
            with path.open("rb") as file:
                file.seek(size)
                added = file.read()
            self._marks[path.name] = size + len(added), zlib.crc32(added, checksum)
        return {path.name: list(self._marks[path.name]) for path in paths}

    def close(self) -> None:
        """Close the files."""
        self._metrics.close()
        if self.events:
            self.events.close()

    def _repeat_events(self, events: EventFile, records: list[Record]) -> None:
        """Write what a lost or damaged event file held, as far as other files hold it too."""
        log.warning(
            "%s: has no whole event file up to step %d; it is written again from %s and %s/, "
            "without images_per_second",
            self._run_dir,
            records[-1]["step"],
            METRICS_FILE,
            SAMPLES,
        )
        best: Best = {}
        for record in records:
            best = best_values([record], best)
            events.write_record(record, best)
        for step, path in sample_files(self._run_dir).items():
            events.write_image(step, "samples", open_exact(path))


def write_samples(run_dir: Path, step: int, picture: Tensor, caption: str) -> Image.Image:
    """Write a picture of samples, uint8 (channels, height, width), into its file for people.

    Returns:
        The picture without its caption, as it was before it was enlarged.
    """
    exact = to_pil(picture)
    write_bytes(sample_file(run_dir, step), encode(exact, caption))
    return exact


def rewind(run_dir: Path, step: int, marks: Mapping[str, Any], samples_every: int) -> None:
    """Remove what was written after the checkpoint of `step`, because it is written again.

    A file that is not as it was at the checkpoint loses what is damaged, with a warning.

    Args:
        marks: `Records.marks` at the checkpoint. Earlier versions saved the sizes alone.
        samples_every: the steps between two pictures.
    """
    if not marks:
        (run_dir / METRICS_FILE).unlink(missing_ok=True)
    else:
        _rewind_metrics(run_dir / METRICS_FILE, step, marks[METRICS_FILE])
    for path in event_files(run_dir):
        mark = marks.get(path.name)
        if mark is not None and _is_as_marked(read_bytes(path), mark):
            os.truncate(path, _size(mark))
        else:
            path.unlink()
    for drawn, path in sample_files(run_dir).items():
        if drawn > step or not _mend_picture(path):
            path.unlink()
    for lost in range(samples_every, step + 1, samples_every):
        if not (path := sample_file(run_dir, lost)).exists():
            log.warning("%s: is missing or was damaged, and is not drawn again", path)


def forget(run_dir: Path) -> None:
    """Remove everything that a run has written since its first step, and what measured it since.

    The caller keeps other processes out of the directory.
    """
    folders = run_dir / CHECKPOINTS, run_dir / SAMPLES
    kinds = ("step-*", "best-*")
    found = [path for folder in folders for kind in kinds for path in folder.glob(kind)]
    found += [run_dir / RESULT_FILE, *event_files(run_dir), *run_dir.glob(EVALUATION_FILES)]
    # The records go last: without them, a run that was forgotten in part begins again.
    for path in [*found, run_dir / METRICS_FILE]:
        path.unlink(missing_ok=True)


def last_step(run_dir: Path) -> int:
    """Return the last step that the records or the pictures of a run tell of; 0 without any."""
    steps = [record["step"] for record in read_records(run_dir)]
    return max([*steps, *sample_files(run_dir)], default=0)


def _rewind_metrics(path: Path, step: int, mark: Any) -> None:
    content = read_bytes(path) if path.exists() else b""
    kept = [line for line, record in whole_lines(content) if record["step"] <= step]
    if (new := b"".join(kept)) != content:
        write_bytes(path, new)
    if not _is_as_marked(new, mark):
        log.warning(
            "%s: was damaged before step %d; %d of its lines were whole and are kept, and the "
            "best values do not count the others",
            path,
            step,
            len(kept),
        )


def _is_as_marked(content: bytes, mark: Any) -> bool:
    """Return whether a file begins with what it held at a checkpoint."""
    before = content[: _size(mark)]
    same = isinstance(mark, int) or zlib.crc32(before) == mark[1]
    return len(before) == _size(mark) and same


def _size(mark: Any) -> int:
    return int(mark if isinstance(mark, int) else mark[0])


def _mend_picture(path: Path) -> bool:
    """Cut off what follows the end of a PNG file, and return whether it is whole then."""
    content = read_bytes(path)
    _, end, rest = content.rpartition(PNG_END)
    if end and rest:
        os.truncate(path, len(content) - len(rest))
    try:
        open_exact(path)
    except UserError:
        return False
    return True


@contextmanager
def log_file(run_dir: Path) -> Iterator[None]:
    """Append everything that this package logs within the block to the run's log file."""
    logger = logging.getLogger("gan")
    handler = logging.FileHandler(run_dir / LOG_FILE, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
