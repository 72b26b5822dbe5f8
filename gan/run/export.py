"""Generators as files for other programs, each compared with the run before it gets its name."""

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.export import Dim, ExportedProgram

from gan.errors import UserError, first_line, nearest
from gan.run.trained import SUFFIX, TrainedGenerator, describe, inputs, load_generator
from gan.system.files import replacing

BATCHES = (1, 2, 61)
"""Sizes of the batches in which a file's samples are compared with the run's."""
TOLERANCE = 1e-4
"""Largest difference of a value that may come from rounding: a hundredth of a grey level. Beyond
[-1, 1] it is a share of the largest value."""
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Sampler = Callable[..., Tensor]
"""A function from latents (n, latent_dim), and labels (n,) if conditional, to samples."""


def export(trained: TrainedGenerator, out: Path) -> float:
    """Write a generator to a .safetensors, .pt2 or .onnx file, and read it again.

    A .safetensors file holds weights and configuration, from which `load_generator` rebuilds the
    network. A .pt2 file is a program of torch.export, and an .onnx file one of ONNX. Both take
    `z`, float32 (n, latent_dim), and `labels`, int64 (n,), if the generator is conditional, with
    any n. They return samples, images in [-1, 1] or points.

    Returns:
        The largest difference of a value from the run's own samples, as TOLERANCE counts it.

    Raises:
        UserError: the format is unknown or needs packages that are missing, the network cannot be
            written in it, the file gives other samples, or it cannot be written.
    """
    if out.suffix not in FORMATS:
        hint = nearest(out.suffix, FORMATS)
        raise UserError(f"out={out}: must end in {', '.join(FORMATS)}{hint}")
    write, read = FORMATS[out.suffix]
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if out.suffix == ".onnx" and missing:
        raise UserError(
            f'out={out}: {", ".join(missing)} not installed; pip install "gan-sweeps[onnx]"'
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as temporary, warnings.catch_warnings(), torch.no_grad():
            # torch warns of changes in its own insides.
            warnings.simplefilter("ignore")
            write(trained, temporary)
            return _compare(trained, read(temporary), out)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error


def _compare(trained: TrainedGenerator, exported: Sampler, out: Path) -> float:
    largest = 0.0
    for n in BATCHES:
        batch = _batch(trained, n)
        expected, found = trained(*batch), exported(*batch)
        if not expected.isfinite().all():
            raise UserError(f"out={out}: the generator's samples are not finite")
        if expected.shape != found.shape:
            shapes = f"{tuple(found.shape)}, not {tuple(expected.shape)}"
            raise UserError(f"out={out}: not written, a file would give samples of shape {shapes}")
        # Numbers of one's own data may have any size.
        size = max(1.0, expected.abs().max().item())
        largest = max(largest, (expected - found).abs().max().item() / size)
    # Written so that NaN is refused as well.
    if not largest <= TOLERANCE:
        raise UserError(f"out={out}: not written, its samples would differ by {largest:.3g}")
    return largest


def _batch(trained: TrainedGenerator, n: int) -> tuple[Tensor, ...]:
    labels = [label % trained.classes for label in range(n)] if trained.classes else None
    z, chosen, _ = inputs(trained, n, seed=0, labels=labels)
    return (z,) if chosen is None else (z, chosen)


def _write_safetensors(trained: TrainedGenerator, path: Path) -> None:
    # Copies, since the format refuses tensors that share their memory.
    state = {
        name: value.clone().contiguous() for name, value in trained.network.state_dict().items()
    }
    save_file(state, path, metadata=describe(trained))


def _write_program(trained: TrainedGenerator, path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(_traced(trained), file, extra_files=describe(trained))


def _read_program(path: Path) -> Sampler:
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _write_onnx(trained: TrainedGenerator, path: Path) -> None:
    program = torch.onnx.export(
        _traced(trained), dynamo=True, output_names=["samples"], verbose=False
    )
    assert program is not None
    program.model.metadata_props.update(describe(trained))
    program.save(path)


def _read_onnx(path: Path) -> Sampler:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def sample(*batch: Tensor) -> Tensor:
        given = {name: tensor.numpy() for name, tensor in zip(names, batch, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return sample


def _traced(trained: TrainedGenerator) -> ExportedProgram:
    example = _batch(trained, 2)
    batch = Dim("batch")
    try:
        return torch.export.export(
            trained, example, dynamic_shapes=tuple({0: batch} for _ in example)
        )
    except Exception as error:
        raise UserError(f"torch.export cannot trace the generator: {first_line(error)}") from error


FORMATS: dict[str, tuple[Callable[[TrainedGenerator, Path], None], Callable[[Path], Sampler]]] = {
    SUFFIX: (_write_safetensors, load_generator),
    ".pt2": (_write_program, _read_program),
    ".onnx": (_write_onnx, _read_onnx),
}
"""Functions that write and read a file, by its ending."""
