"""Images from a run's checkpoint, as files."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gan import checkpoint
from gan.build import find_device, networks
from gan.errors import UserError
from gan.evaluate import generate, latents
from gan.files import replacing, write_bytes
from gan.pictures import grid, picture, png
from gan.run_dir import read_config

FRAME_MS = 80


def load_generator(run_dir: Path) -> tuple[nn.Module, int]:
    """The generator of a run's newest whole checkpoint, on the CPU, and its latent_dim.

    Raises:
        UserError: the directory is no run's, or holds no checkpoint.
    """
    cfg = read_config(run_dir)
    saved = checkpoint.load_latest(run_dir)
    if saved is None:
        raise UserError(f"{run_dir}: has no checkpoint yet")
    generator, _ = networks(cfg, tuple(saved["image_shape"]))
    generator.load_state_dict(saved["generator"])
    return generator, cfg.model.latent_dim


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
    interpolate: bool = False,
    frames: int = 12,
    device: str = "auto",
) -> None:
    """Write images to `out`: a grid (.png), an array (.npz), a walk (.gif) or a folder.

    The array `images` is uint8 (n, height, width, channels); `latents` lie beside it.

    Raises:
        UserError: there is nothing to sample from, or `out` cannot be written.
    """
    walk = interpolate or out.suffix == ".gif"
    for name, value, least in (("n", count, 2 if walk else 1), ("frames", frames, 2)):
        if value < least:
            raise UserError(f"{name}={value}: must be at least {least}")
    if interpolate and out.suffix not in (".png", ".gif"):
        raise UserError(f"out={out}: an interpolation is a .png or a .gif")
    generator, latent_dim = load_generator(run_dir)
    target = find_device(device)
    generator = generator.to(target)
    z = latents(count, latent_dim, seed)
    if walk:
        # A GIF runs in a circle: back to the first latent, which is then not shown twice.
        corners = torch.cat([z, z[:1]]) if out.suffix == ".gif" else z
        z = interpolation(corners, frames)
        z = (z[:, :-1] if out.suffix == ".gif" else z).flatten(0, 1)
    images = generate(generator, z.to(target)).cpu()
    try:
        _write(out, images, z, columns=frames if interpolate else None)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error


def _write(out: Path, images: Tensor, z: Tensor, columns: int | None) -> None:
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
        pixels = images.permute(0, 2, 3, 1).numpy()
        with replacing(out) as path, path.open("wb") as file:
            np.savez_compressed(file, images=pixels, latents=z.numpy())
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
