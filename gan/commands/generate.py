"""Sample from a run's checkpoint: python scripts/generate.py RUN_DIR n=64 seed=1 out=digits.png

out=NAME.png makes a grid, out=NAME.npz an array of images, out=NAME.gif an endless walk through
n latents, and a name without an ending a folder of n PNG files. With interpolate=true, a PNG holds
n - 1 rows that lead from each latent to the next.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gan.commands.command_line import run_command
from gan.errors import UserError, nearest
from gan.files import replacing, write_bytes
from gan.run.directory import read_config
from gan.startup import fast_imports

# torch takes seconds to import. Help and mistakes on the command line need none of it, so the
# functions below import what needs torch when they are called.
if TYPE_CHECKING:
    from torch import Tensor, nn

FRAME_MS = 80
"""Milliseconds for which a GIF shows an image."""
WEIGHTS = ("auto", "average", "generator")
"""Values of the option `weights`."""


@dataclass
class Options:
    """Options of `scripts/generate.py`."""

    n: int = 64
    seed: int = 0
    out: str = "samples.png"
    label: int | None = None
    interpolate: bool = False
    frames: int = 12
    weights: str = "auto"
    device: str = "auto"


def main() -> None:
    """Run the command line."""
    run_command(generate, Options)


def generate(paths: list[Path], options: Options) -> None:
    """Write samples of one run, and print the file's name.

    Raises:
        UserError: there is nothing to sample from, or an option is wrong.
    """
    if len(paths) != 1:
        raise UserError("usage: python scripts/generate.py RUN_DIR n=64 seed=1 out=digits.png")
    with fast_imports():
        import gan.run.evaluation  # noqa: F401
    write_samples(
        paths[0],
        Path(options.out),
        count=options.n,
        seed=options.seed,
        label=options.label,
        interpolate=options.interpolate,
        frames=options.frames,
        weights=options.weights,
        device=options.device,
    )
    print(options.out)


class TrainedGenerator(NamedTuple):
    """A generator from a run's checkpoint, on the CPU."""

    network: "nn.Module"
    latent_dim: int
    classes: int
    """Number of labels that it takes; 0 if it is not conditional."""
    step: int
    weights: str
    """Either "average" or "generator"."""


def load_generator(run_dir: Path, weights: str = "auto") -> TrainedGenerator:
    """Return the generator of a run's newest readable checkpoint.

    Args:
        weights: "average", "generator", or "auto", which takes the average if the run has one.

    Raises:
        UserError: the directory is not a run's, or has no checkpoint or no such weights.
    """
    from gan.build import build_networks
    from gan.run import checkpoint

    if weights not in WEIGHTS:
        hint = nearest(weights, WEIGHTS)
        raise UserError(f"weights={weights}: must be one of {', '.join(WEIGHTS)}{hint}")
    cfg = read_config(run_dir)
    saved = checkpoint.load_newest_checkpoint(run_dir)
    if saved is None:
        raise UserError(f"{run_dir}: has no checkpoint yet")
    if weights == "average" and saved["average"] is None:
        raise UserError(f"weights=average: {run_dir} kept no average (trainer.ema_half_life=null)")
    chosen = "average" if weights != "generator" and saved["average"] else "generator"
    network, _ = build_networks(cfg, tuple(saved["image_shape"]), saved["classes"], cfg.trainer.pac)
    network.load_state_dict(saved[chosen])
    classes = saved["classes"] if cfg.model.conditional else 0
    return TrainedGenerator(network, cfg.model.latent_dim, classes, saved["step"], chosen)


def write_samples(
    run_dir: Path,
    out: Path,
    *,
    count: int,
    seed: int,
    label: int | None = None,
    interpolate: bool = False,
    frames: int = 12,
    weights: str = "auto",
    device: str = "auto",
) -> None:
    """Write samples of a run to `out`: a grid (.png), arrays (.npz), a walk (.gif) or a folder.

    The arrays are `images`, uint8 (n, height, width, channels), or `points`, float32 (n, 2), and
    `latents`, float32 (n, latent_dim). A conditional generator adds `labels` (n,); its samples
    are a row for each class, or all of the class `label`.

    Args:
        count: number of samples, or of latents that a walk passes.
        interpolate: walk from each latent to the next, one row of a grid for each pair.
        frames: images from one latent of a walk to the next, both included.
        weights: as for `load_generator`.

    Raises:
        UserError: there is nothing to sample from, or `out` cannot be written.
    """
    import torch

    from gan.build import find_device
    from gan.run import evaluation

    walk = interpolate or out.suffix == ".gif"
    for name, value, least in (("n", count, 2 if walk else 1), ("frames", frames, 2)):
        if value < least:
            raise UserError(f"{name}={value}: must be at least {least}")
    if interpolate and out.suffix not in (".png", ".gif"):
        raise UserError(f"out={out}: an interpolation is a .png or a .gif")
    trained = load_generator(run_dir, weights)
    if label is not None and not trained.classes:
        raise UserError(f"label={label}: {run_dir} is not conditional (model.conditional=false)")
    if label is not None and not 0 <= label < trained.classes:
        raise UserError(f"label={label}: must be a class from 0 to {trained.classes - 1}")
    target = find_device(device)
    z = evaluation.draw_latents(count, trained.latent_dim, seed)
    rows = trained.classes if label is None and not walk else 0
    z, labels, columns = evaluation.arrange_latents(z, rows)
    if trained.classes and labels is None:
        labels = torch.full((count,), label or 0)
    if walk:
        # A GIF runs in a circle, back to the first latent, and shows each latent once.
        corners = torch.cat([z, z[:1]]) if out.suffix == ".gif" else z
        z = interpolate_latents(corners, frames)
        z = (z[:, :-1] if out.suffix == ".gif" else z).flatten(0, 1)
        labels = labels[:1].expand(len(z)) if labels is not None else None
        columns = frames if interpolate else None
    network = trained.network.to(target)
    labels_there = labels if labels is None else labels.to(target)
    samples = evaluation.generate(network, z.to(target), labels_there).cpu()
    if samples.dim() == 2 and out.suffix != ".npz":
        raise UserError(f"out={out}: points are written as .npz")
    try:
        _write_file(out, samples, z, labels, columns)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error


def interpolate_latents(corners: "Tensor", frames: int) -> "Tensor":
    """Return latents on the great circles from each corner to the next.

    A straight line between two normal latents passes close to the origin, where the generator was
    not trained (arXiv:1609.04468).

    Args:
        corners: latents (n, latent_dim).

    Returns:
        Latents (n - 1, frames, latent_dim). Each row begins and ends with a corner.
    """
    import torch

    start, end = corners[:-1, None], corners[1:, None]
    t = torch.linspace(0, 1, frames)[None, :, None]
    angle = torch.acos(torch.cosine_similarity(start, end, dim=-1).clamp(-1, 1))[..., None]
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def _write_file(
    out: Path, samples: "Tensor", z: "Tensor", labels: "Tensor | None", columns: int | None
) -> None:
    import numpy as np

    from gan.data.pictures import grid, png, to_pil

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        write_bytes(out, png(grid(samples, columns)))
    elif out.suffix == ".gif":
        first, *rest = [to_pil(_enlarge(image)) for image in samples]
        with replacing(out) as path:
            first.save(
                path, format="GIF", save_all=True, append_images=rest, duration=FRAME_MS, loop=0
            )
    elif out.suffix == ".npz":
        points = samples.dim() == 2
        arrays = {"points": samples} if points else {"images": samples.permute(0, 2, 3, 1)}
        arrays |= {"latents": z} | ({} if labels is None else {"labels": labels})
        with replacing(out) as path, path.open("wb") as file:
            plain: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
            np.savez_compressed(file, **plain)
    elif out.suffix:
        raise UserError(f"out={out}: must end in .png, .npz or .gif, or be a folder's name")
    else:
        _write_folder(out, samples)


def _write_folder(out: Path, images: "Tensor") -> None:
    from gan.data.pictures import png

    if out.exists():
        raise UserError(f"out={out}: is there already")
    # The folder gets its name when it is complete.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        folder = Path(temporary, "images")
        folder.mkdir()
        digits = len(str(len(images) - 1))
        for index, image in enumerate(images):
            (folder / f"{index:0{digits}d}.png").write_bytes(png(image))
        folder.rename(out)


def _enlarge(image: "Tensor") -> "Tensor":
    return image.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
