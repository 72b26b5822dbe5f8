"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

import copy
import io
import logging
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from gan.errors import UserError, first_line
from gan.run.directory import CHECKPOINTS, best_paths, step_of
from gan.system.files import read_bytes, write_bytes
from gan.system.invocation import command_line

log = logging.getLogger(__name__)

READABLE = (Tensor, Parameter, bool, int, float, complex, str, bytes, type(None), torch.Size)
"""Types that `torch.load` is known to read with weights_only=True, besides lists and the like."""
KEPT = 2
"""The newest checkpoint is kept, and the one before it in case the newest is damaged."""
CHECKSUM = re.compile(rb"gan-sweeps crc32 ([0-9a-f]{8})$")
"""The comment at the end of a checkpoint's ZIP archive. Earlier versions wrote none."""


class Damaged(Exception):
    """The content of a file is not what was written."""


def save_checkpoint(run_dir: Path, content: dict[str, Any]) -> Path:
    """Save tensors and plain values under the step `content["step"]`; remove older checkpoints.

    Raises:
        OSError: the disk is full or cannot be written. Older checkpoints are untouched.
        UserError: a value cannot be read back. Nothing is written.
    """
    folder = run_dir / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    refuse_unreadable(content)
    archive = _archive(content)
    if not checkpoint_paths(run_dir):
        # The values were checked one by one. The first checkpoint is also read as a whole.
        torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    path = folder / f"step-{content['step']:08d}.pt"
    write_bytes(path, _with_checksum(archive))
    for old in checkpoint_paths(run_dir)[KEPT:]:
        old.unlink()
    return path


def save_best(run_dir: Path, content: dict[str, Any]) -> None:
    """Keep the content of a checkpoint as that of the run's best step so far.

    The best one before stays, for a run that goes on from an earlier step: see `keep_best_only`.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    folder = run_dir / CHECKPOINTS
    folder.mkdir(exist_ok=True)
    write_bytes(folder / f"best-{content['step']:08d}.pt", _with_checksum(_archive(content)))


def has_best(run_dir: Path, step: int) -> bool:
    """Return whether the checkpoint of a best step was kept."""
    return step in map(step_of, best_paths(run_dir))


def keep_best_only(run_dir: Path, step: int) -> None:
    """Remove all checkpoints of best steps except that of `step`, if that one was kept."""
    if not has_best(run_dir, step):
        return
    for path in best_paths(run_dir):
        if step_of(path) != step:
            path.unlink()


def load_best_checkpoint(run_dir: Path) -> dict[str, Any]:
    """Return the checkpoint of a run's best step by `trainer.keep_best`, on the CPU.

    Raises:
        UserError: none was kept, or it is damaged.
    """
    paths = best_paths(run_dir)
    if not paths:
        raise UserError(
            f"checkpoint=best: {run_dir} kept none; runs with trainer.keep_best=METRIC do"
        )
    return load_checkpoint(paths[0], str(paths[0]))


def refuse_unreadable(value: Any, place: str = "") -> None:
    """Check that everything in the content of a checkpoint can be read back from a file.

    Raises:
        UserError: names the first value that cannot be read back, by its place.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_unreadable(key, place)
            refuse_unreadable(item, f"{place}.{key}".strip("."))
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            refuse_unreadable(item, f"{place}[{index}]")
    elif type(value) not in READABLE:
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except Exception as error:  # Whatever is wrong, a checkpoint must not hold it.
            raise UserError(
                f"{place}: a {type(value).__name__} cannot be read back from a checkpoint, which "
                "holds tensors, numbers, texts, lists and dictionaries"
            ) from error


def checkpoint_paths(run_dir: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    paths = (run_dir / CHECKPOINTS).glob("step-*.pt")
    return sorted((path for path in paths if step_of(path) >= 0), reverse=True)


def load_newest_checkpoint(run_dir: Path) -> dict[str, Any] | None:
    """Return the newest checkpoint that is whole, on the CPU; None where there is no checkpoint.

    A damaged checkpoint is skipped with a warning.

    Raises:
        UserError: all checkpoints are damaged, or one that may be whole cannot be read, for lack of
            permission or memory, or for values of other types.
    """
    paths = checkpoint_paths(run_dir)
    for path, earlier in zip_longest(paths, paths[1:]):
        try:
            return load_checkpoint(path, str(path))
        except UserError as error:
            if not isinstance(error.__cause__, Damaged):
                raise
            if earlier is None:
                raise UserError(
                    f"{error}, and there is no other; {restart_hint(run_dir)}"
                ) from None
            log.warning("%s; going on from %s", error, earlier.name)
    return None


def restart_hint(run_dir: Path) -> str:
    """Return the end of a message about a run that has no checkpoint to go on from."""
    restart = command_line("resume", run_dir, "restart=true")
    return f"restore one, or let the run begin again, without its records: {restart}"


def refuse_other_data(
    run_dir: Path, trained_on: str | None, present: str | None, moved: Sequence[str] = ()
) -> None:
    """Refuse data that are not those that a run was trained on.

    Args:
        trained_on: the hash in the run's checkpoint; None in a checkpoint of an earlier version.
        present: `gan.data.content_hash` of the data that are there now; None cannot be checked.
        moved: keys of the places of data that are others than before.

    Raises:
        UserError: the hashes differ, or the data were moved and cannot be checked.
    """
    if moved and not (trained_on and present):
        raise UserError(
            f"{run_dir}: its run has another {moved[0]}, and no hash of the data tells if they are "
            "the same; choose the place as it was, or another hydra.run.dir"
        )
    if trained_on and present and trained_on != present:
        raise UserError(
            f"{run_dir}: its run was trained on other data: their hash is {trained_on[:12]}, and "
            f"that of the data there now is {present[:12]}; restore them, or choose another "
            "hydra.run.dir"
        )


def load_weights(network: nn.Module, role: str, weights: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a network.

    Args:
        role: "generator" or "discriminator".
        where: names the place that the weights come from, for an error.

    Raises:
        UserError: names the first weight that does not fit.
    """
    try:
        network.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        problem = first_misfit(network.state_dict(), weights)
        reason = f"weight {problem}" if problem else f"weights do not fit ({first_line(error)})"
        raise UserError(
            f"{where}: the {role}'s {reason}; the code of the model has changed since, restore it"
        ) from error


def refuse_other_network(
    network: nn.Module, role: str, weights: Mapping[str, Tensor], where: str
) -> None:
    """Refuse weights that do not fit a network, which stays as it is. See `load_weights`."""
    # A network may know how to read weights with other names, so only trying tells.
    if first_misfit(network.state_dict(), weights):
        load_weights(copy.deepcopy(network), role, weights, where)


def first_misfit(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> str | None:
    """Describe the first weight that differs in its name or its shape; None if there is none."""
    for name in [*here, *there]:
        if name not in there:
            return f"'{name}' is not there"
        if name not in here:
            return f"'{name}' is there only"
        # Some layers keep other things than tensors, too.
        old, new = (tuple(getattr(state[name], "shape", ())) for state in (there, here))
        if old != new:
            return f"'{name}' has shape {old} there and {new} here"
    return None


def load_checkpoint(path: Path, where: str) -> dict[str, Any]:
    """Return the content of one checkpoint, on the CPU.

    Args:
        where: names the file in an error.

    Raises:
        UserError: it cannot be read. Its cause is `Damaged` if that is the fault of its content.
    """
    try:
        _refuse_damage(path)
        # The content is what was written, so other errors are no damage.
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Damaged as error:
        raise UserError(f"{where}: is damaged, or no checkpoint ({error})") from error
    except pickle.UnpicklingError as error:
        reason = "it holds other values than tensors, numbers, texts, lists and dictionaries"
        raise UserError(f"{where}: cannot be read, {reason}") from error
    except (OSError, MemoryError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{where}: cannot be read ({first_line(error)}); try again") from error
    return content


def _archive(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(_compact(content), buffer)
    return buffer.getvalue()


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


def _with_checksum(archive: bytes) -> bytes:
    """Return a ZIP archive that ends in a comment with the checksum of everything before it."""
    # The last two bytes are the length of the comment, which torch leaves empty.
    length = len("gan-sweeps crc32 01234567")
    content = archive[:-2] + length.to_bytes(2, "little")
    return content + b"gan-sweeps crc32 %08x" % zlib.crc32(content)


def _refuse_damage(path: Path) -> None:
    """Check that a file is a whole checkpoint.

    Raises:
        Damaged: it is not.
        OSError, MemoryError: it cannot be read at the moment.
    """
    content = read_bytes(path)
    if known := CHECKSUM.search(content[-32:]):
        size = len(content) - len(known[0])
        if zlib.crc32(memoryview(content)[:size]) != int(known[1], 16):
            raise Damaged("its checksum is another")
        return
    try:
        # torch does not compare the checksums that its archives hold.
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            damaged = archive.testzip()
    except MemoryError:
        raise
    except Exception as error:  # Damaged archives raise errors of ten types.
        raise Damaged(first_line(error)) from error
    if damaged is not None:
        raise Damaged(f"wrong checksum of {damaged}")
