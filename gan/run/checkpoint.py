"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import io
import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from gan.files import write_bytes

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
"""The name of the folder in a run directory."""
KEPT = 2
"""The newest checkpoint is kept, and the one before it in case the newest is damaged."""


def save_checkpoint(run_dir: Path, content: dict[str, Any]) -> Path:
    """Save tensors and plain values under the step `content["step"]`; remove older checkpoints.

    Raises:
        OSError: the disk is full or cannot be written. Older checkpoints are untouched.
    """
    folder = run_dir / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(_compact(content), buffer)
    path = folder / f"step-{content['step']:08d}.pt"
    write_bytes(path, buffer.getvalue())
    for old in checkpoint_paths(run_dir)[KEPT:]:
        old.unlink()
    return path


def checkpoint_paths(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    paths = (run_dir / CHECKPOINTS).glob("step-*.pt")
    return sorted((p for p in paths if re.fullmatch(r"step-\d+\.pt", p.name)), reverse=True)


def load_newest_checkpoint(run_dir: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that is whole, on the CPU; None where there is none.

    A damaged checkpoint is skipped with a warning.
    """
    for path in checkpoint_paths(run_dir):
        try:
            return _load(path)
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            log.warning("%s is damaged (%s): using the one before it", path, reason)
    return None


def _compact(value: Any) -> Any:
    """Copy tensors that are parts of larger ones, which would be saved whole otherwise."""
    if isinstance(value, torch.Tensor):
        whole = value.untyped_storage().nbytes() == value.nbytes
        return value if whole else value.clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_compact, value))
    return value


def _load(path: Path) -> dict[str, Any]:
    # torch does not compare the checksums that its archives hold.
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"wrong checksum of {damaged}")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content
