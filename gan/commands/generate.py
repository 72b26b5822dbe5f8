"""Images from a run's checkpoint, as files."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gan.build import find_device, networks
from gan.data.pictures import grid, picture, png
from gan.errors import UserError, nearest
from gan.files import replacing, write_bytes
from gan.run import checkpoint
from gan.run.directory import read_config
from gan.run.evaluation import arranged, generate, latents

FRAME_MS = 80
WEIGHTS = ("auto", "average", "generator")


class Trained(NamedTuple):
    """A generator read from a run's checkpoint, on the CPU."""

    network: nn.Module
    latent_dim: int
    classes: int
    """How many labels it takes; 0 if it is not conditional."""
    step: int
    weights: str
    """Which ones these are: "average" or "generator"."""


def load_generator(run_dir: Path, weights: str = "auto") -> Trained:
    """The generator of a run's newest whole checkpoint.

    Args:
        weights: "average", "generator", or "auto" for the averaged ones where there are such.

    Raises:
        UserError: the directory is no run's, or holds no checkpoint or no such weights.
    """
    if weights not in WEIGHTS:
        hint = nearest(weights, WEIGHTS)
        raise UserError(f"weights={weights}: must be one of {', '.join(WEIGHTS)}{hint}")
    cfg = read_config(run_dir)
    saved = checkpoint.load_latest(run_dir)
    if saved is None:
        raise UserError(f"{run_dir}: has no checkpoint yet")
    if weights == "average" and saved["average"] is None:
        raise UserError(f"weights=average: {run_dir} kept no average (trainer.ema_half_life=null)")
    chosen = "average" if weights != "generator" and saved["average"] else "generator"
    network, _ = networks(cfg, tuple(saved["image_shape"]), saved["classes"], cfg.trainer.pac)
    network.load_state_dict(saved[chosen])
    classes = saved["classes"] if cfg.model.conditional else 0
    return Trained(network, cfg.model.latent_dim, classes, saved["step"], chosen)


def interpolation(corners: Tensor, frames: int) -> Tensor:
    """Latents on the great circles from each corner to the next.

    A straight line between normal latents passes too near the origin, where a generator was
    not trained (arXiv:1609.04468).

    Args:
        corners: latents (n, latent_dim).

    Returns:
        (n - 1, frames, latent_dim), each row from one corner to the next, both included.
    """
    start, end = corners[:-1, None], corners[1:, None]
    t = torch.linspace(0, 1, frames)[None, :, None]
    angle = torch.acos(torch.cosine_similarity(start, end, dim=-1).clamp(-1, 1))[..., None]
    return (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)


def write(
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
    """Write samples to `out`: a grid (.png), an array (.npz), a walk (.gif) or a folder.

    The array `images` is uint8 (n, height, width, channels), or `points` float32 (n, 2);
    `latents` lie beside it, and `labels` (n,) if the generator is conditional. It makes a row of
    a grid for each class, or `label` alone.

    Raises:
        UserError: there is nothing to sample from, or `out` cannot be written.
    """
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
    z = latents(count, trained.latent_dim, seed)
    z, labels, columns = arranged(z, trained.classes if label is None and not walk else 0)
    if trained.classes and labels is None:
        labels = torch.full((count,), label or 0)
    if walk:
        # A GIF runs in a circle: back to the first latent, which is then not shown twice.
        corners = torch.cat([z, z[:1]]) if out.suffix == ".gif" else z
        z = interpolation(corners, frames)
        z = (z[:, :-1] if out.suffix == ".gif" else z).flatten(0, 1)
        labels = labels[:1].expand(len(z)) if labels is not None else None
        columns = frames if interpolate else None
    network = trained.network.to(target)
    samples = generate(network, z.to(target), labels if labels is None else labels.to(target)).cpu()
    if samples.dim() == 2 and out.suffix != ".npz":
        raise UserError(f"out={out}: points are written as .npz")
    try:
        _write(out, samples, z, labels, columns)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error


def _write(
    out: Path, images: Tensor, z: Tensor, labels: Tensor | None, columns: int | None
) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        write_bytes(out, png(grid(images, columns)))
    elif out.suffix == ".gif":
        first, *rest = [picture(_enlarged(image)) for image in images]
        with replacing(out) as path:
            first.save(
                path, format="GIF", save_all=True, append_images=rest, duration=FRAME_MS, loop=0
            )
    elif out.suffix == ".npz":
        points = images.dim() == 2
        arrays = {"points": images} if points else {"images": images.permute(0, 2, 3, 1)}
        arrays |= {"latents": z} | ({} if labels is None else {"labels": labels})
        with replacing(out) as path, path.open("wb") as file:
            plain: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
            np.savez_compressed(file, **plain)
    elif out.suffix:
        raise UserError(f"out={out}: must end in .png, .npz or .gif, or be a folder's name")
    else:
        _write_folder(out, images)


def _write_folder(out: Path, images: Tensor) -> None:
    if out.exists():
        raise UserError(f"out={out}: is there already")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        folder = Path(temporary, "images")
        folder.mkdir()
        digits = len(str(len(images) - 1))
        for index, image in enumerate(images):
            (folder / f"{index:0{digits}d}.png").write_bytes(png(image))
        folder.rename(out)


def _enlarged(image: Tensor) -> Tensor:
    return image.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
