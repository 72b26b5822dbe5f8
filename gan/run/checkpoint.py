"""Checkpoints: everything a run needs to go on as if it had never stopped."""

import io
import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from gan.files import write_bytes

log = logging.getLogger(__name__)

KEPT = 2
"""The newest checkpoint, and the one before it in case the newest is damaged."""


def save(run_dir: Path, state: dict[str, Any]) -> Path:
    """Save tensors and plain values under `state["step"]`, then remove older checkpoints.

    Raises:
        OSError: the disk is full or not writable; the checkpoints before are untouched.
    """
    folder = run_dir / "checkpoints"
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(_compact(state), buffer)
    path = folder / f"step-{state['step']:08d}.pt"
    write_bytes(path, buffer.getvalue())
    for old in paths(run_dir)[KEPT:]:
        old.unlink()
    return path


def _compact(value: Any) -> Any:
    """Without the memory around tensors that are parts of others, which would be saved too."""
    if isinstance(value, torch.Tensor):
        whole = value.untyped_storage().nbytes() == value.nbytes
        return value if whole else value.clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_compact, value))
    return value


def paths(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    found = (run_dir / "checkpoints").glob("step-*.pt")
    return sorted((p for p in found if re.fullmatch(r"step-\d+\.pt", p.name)), reverse=True)


def load_latest(run_dir: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, on the CPU; None where there is none.

    A damaged one is passed over with a warning.
    """
    for path in paths(run_dir):
        try:
            return _load(path)
        except (OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            log.warning("%s is damaged (%s): using the one before it", path, _line(error))
    return None


def _load(path: Path) -> dict[str, Any]:
    # torch does not compare the checksums that its archives hold.
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"wrong checksum of {damaged}")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
