"""Sample from a run's checkpoint: gan generate RUN_DIR n=64 seed=1 out=digits.png

out=NAME.png makes a grid, out=NAME.npz an array of samples, out=NAME.gif an endless walk through
n latents, and a name without an ending a folder of n PNG files. With interpolate=true, a PNG holds
n - 1 rows that lead from each latent to the next. With progress=true, a GIF shows the samples that
the run drew while it trained, always of the same latents. Points and vectors are shown in one
plot, over real ones: they make a PNG, an array or a GIF of the progress. With neighbours=4, each
image of a PNG is followed by the four training images nearest to it, which shows copies.

Grids and GIFs are enlarged to about 800 pixels and say at which step they are; caption=false
leaves that out. Arrays and PNG files in a folder are exact.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan.commands.command_line import run_command
from gan.commands.help import CHECKPOINT, DEVICES, STANDING, TRUNCATION, WEIGHTS, option
from gan.config.checks import plain
from gan.config.trust import powers, refuse_untrusted
from gan.errors import UserError
from gan.run.directory import read_config
from gan.run.pictures import (
    as_png,
    caption,
    encode,
    for_people,
    open_exact,
    read_steps_per_epoch,
    sample_files,
)
from gan.system.files import replacing, temporary_folder, write_bytes
from gan.system.invocation import command_line
from gan.system.startup import fast_imports

# torch takes seconds to import. Help and mistakes on the command line need none of it, so the
# functions below import what needs torch when they are called.
if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from gan.data import Data
    from gan.run.trained import TrainedGenerator

    Picture = Callable[[Tensor, int | None], Tensor]

FRAME_MS = 80
"""Milliseconds for which a walk shows an image."""
PROGRESS_MS, LONGEST_FRAME_MS, LAST_FRAME_MS = 10_000, 500, 2_000
"""Milliseconds of a GIF of the progress without its last image, of one of its images at most, and
of the last one."""
MOST_FRAMES = 60
"""Images in a GIF of the progress, at most. More grids are thinned evenly."""


@dataclass
class Options:
    """Options of `gan generate`."""

    n: int = option(
        64,
        "number of samples, or of latents that a walk passes; with classes, of as many whole rows "
        "as fit into it",
    )
    seed: int = option(0, "seed of the latents")
    out: Path = option(
        Path("samples.png"),
        "NAME.png is a grid, NAME.npz arrays, NAME.gif an endless walk, NAME a folder of PNG files",
    )
    label: int | None = option(
        None,
        "class of all samples, if the generator is conditional; null takes all classes, and class "
        "0 for a walk",
    )
    interpolate: bool = option(
        False,
        "in a PNG, draw n - 1 rows that lead from each latent to the next",
    )
    frames: int = option(12, "images from one latent of a walk to the next, both included")
    progress: bool = option(
        False, "make a GIF of the samples that training drew, always of the same latents"
    )
    neighbours: int = option(
        0, "in a PNG, the number of training images beside each sample that are nearest to it"
    )
    caption: bool = option(
        True, "write the step, and the epoch if it is known, over a PNG or a GIF"
    )
    truncation: float | None = option(None, TRUNCATION)
    standing: int = option(0, STANDING)
    weights: str = option("auto", WEIGHTS)
    checkpoint: str = option("newest", CHECKPOINT)
    device: str = option("auto", DEVICES)


FREE_IN_PROGRESS = ("out", "progress", "caption")
"""The options that count where the samples were drawn in training."""


def main() -> None:
    """Run the command line."""
    run_command(generate, Options)


def generate(paths: list[Path], options: Options) -> None:
    """Write samples of one run, and print the file's name.

    Raises:
        UserError: there is nothing to sample from, or an option is wrong.
    """
    if len(paths) != 1:
        raise UserError(f"usage: {command_line('generate')} RUN_DIR n=64 seed=1 out=digits.png")
    out = options.out
    if options.progress:
        for name, default in vars(Options()).items():
            if name not in FREE_IN_PROGRESS and (value := getattr(options, name)) != default:
                shown = str(value).lower() if isinstance(value, bool) else value
                raise UserError(
                    f"{name}={shown}: not with progress=true, which shows what training drew"
                )
        write_progress(paths[0], out, with_caption=options.caption)
        print(out)
        return
    with fast_imports():
        import gan.run.trained  # noqa: F401
    write_samples(
        paths[0],
        out,
        count=options.n,
        seed=options.seed,
        label=options.label,
        interpolate=options.interpolate,
        frames=options.frames,
        neighbours=options.neighbours,
        with_caption=options.caption,
        truncation=options.truncation,
        standing=options.standing,
        weights=options.weights,
        checkpoint=options.checkpoint,
        device=options.device,
    )
    print(out)


def write_progress(run_dir: Path, out: Path, *, with_caption: bool = True) -> None:
    """Write a GIF of the samples that a run drew in training, always of the same latents.

    Raises:
        UserError: `run_dir` has none, or not of one size; or `out` is no GIF, or cannot be written.
    """
    if out.suffix != ".gif":
        raise UserError(f"out={out}: progress=true makes a GIF, so the name must end in .gif")
    read_config(run_dir)
    paths = sample_files(run_dir)
    if not paths:
        raise UserError(f"{run_dir}: has no samples/step-*.png that progress=true could show")
    steps = list(paths)
    if len(steps) > MOST_FRAMES:
        last = len(steps) - 1
        steps = [steps[round(n * last / (MOST_FRAMES - 1))] for n in range(MOST_FRAMES)]
    exact = {step: open_exact(paths[step]) for step in steps}
    size = exact[steps[-1]].size
    for step in steps:
        if exact[step].size != size:
            raise UserError(
                f"{paths[step]}: is not as large as {paths[steps[-1]].name}, so they make no GIF "
                "together (logging.samples was changed when the run went on); move it away"
            )
    per_epoch = read_steps_per_epoch(run_dir) if with_caption else None
    frames = [
        for_people(image, caption(step, per_epoch) if with_caption else None)
        for step, image in exact.items()
    ]
    frame_ms = min(PROGRESS_MS // len(frames), LONGEST_FRAME_MS)
    with _explained(out):
        _write_gif(out, frames, [*[frame_ms] * (len(frames) - 1), LAST_FRAME_MS])


def write_samples(
    run_dir: Path,
    out: Path,
    *,
    count: int,
    seed: int,
    label: int | None = None,
    interpolate: bool = False,
    frames: int = 12,
    neighbours: int = 0,
    with_caption: bool = True,
    truncation: float | None = None,
    standing: int = 0,
    weights: str = "auto",
    checkpoint: str = "newest",
    device: str = "auto",
) -> None:
    """Write samples of a run to `out`: a grid (.png), arrays (.npz), a walk (.gif) or a folder.

    Grids and walks are enlarged, and their caption has the step of the checkpoint.

    The arrays are `images`, uint8 (n, height, width, channels), `points`, (n, 2), or `samples`,
    (n, *shape), and `latents`, float32 (n, latent_dim). Samples are in the data's own units. A
    conditional generator adds `labels` (n,); its samples
    are a row for each class, or all of the class `label`.

    Args:
        count: number of samples, or of latents that a walk passes.
        interpolate: walk from each latent to the next, one row of a grid for each pair.
        frames: images from one latent of a walk to the next, both included.
        truncation: threshold of the latents, see `gan.run.evaluation.draw_latents`.
        standing: see `gan.run.trained.take_standing_statistics`.
        neighbours: training images, the nearest ones by their pixels, that follow each image of a
            grid. They show whether samples are copies.
        weights, checkpoint: as for `gan.run.trained.load_generator`.

    Raises:
        UserError: there is nothing to sample from, or `out` cannot be written.
    """
    import torch

    from gan.build import find_device
    from gan.data.pictures import grid
    from gan.run.evaluation import generate
    from gan.run.trained import inputs, load_generator, take_standing_statistics

    if out.suffix not in ("", ".png", ".npz", ".gif"):
        raise UserError(f"out={out}: must end in .png, .npz or .gif, or be a folder's name")
    if not out.suffix and out.exists():
        raise UserError(f"out={out}: is there already")
    walk = interpolate or out.suffix == ".gif"
    for name, value, least in (("n", count, 2 if walk else 1), ("frames", frames, 2)):
        if value < least:
            raise UserError(f"{name}={value}: must be at least {least}")
    if neighbours < 0:
        raise UserError(f"neighbours={neighbours}: must be at least 0")
    if neighbours and (interpolate or out.suffix != ".png"):
        raise UserError(f"neighbours={neighbours}: needs out=NAME.png without interpolate=true")
    if interpolate and out.suffix not in (".png", ".gif"):
        raise UserError(f"out={out}: an interpolation is a .png or a .gif")
    trained = load_generator(run_dir, weights, checkpoint)
    if walk and trained.classes and label is None:
        label = 0
    z, labels, columns = inputs(trained, count, seed, label, truncation)
    target = find_device(device)
    take_standing_statistics(trained.to(target), standing, truncation)
    if walk:
        # A GIF runs in a circle, back to the first latent, and shows each latent once.
        corners = torch.cat([z, z[:1]]) if out.suffix == ".gif" else z
        z = interpolate_latents(corners, frames)
        z = (z[:, :-1] if out.suffix == ".gif" else z).flatten(0, 1)
        labels = labels[:1].expand(len(z)) if labels is not None else None
        columns = frames if interpolate else None
    labels_there = labels if labels is None else labels.to(target)
    samples = generate(trained.to(target), z.to(target), labels_there).cpu()
    show: Picture = grid
    if neighbours:
        samples = _with_neighbours(samples, run_dir, trained, neighbours)
        # Several groups in a row make the grid about square.
        columns = (1 + neighbours) * max(1, round((count / (1 + neighbours)) ** 0.5))
    if samples.dim() != 4 and out.suffix != ".npz":
        show = _load_picture(run_dir, out, trained, one_by_one=walk or not out.suffix)
    elif trained.scaling:
        samples = trained.scaling.to_own_units(samples)
    text = None
    if with_caption:
        text = caption(trained.step, read_steps_per_epoch(run_dir) if run_dir.is_dir() else None)
    with _explained(out):
        _write_file(out, samples, z, labels, columns, show, text)


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Report errors in writing within the block as mistakes in the option `out`."""
    try:
        yield
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
    circle = (torch.sin((1 - t) * angle) * start + torch.sin(t * angle) * end) / torch.sin(angle)
    # Many circles, or none, go through latents on one line, such as all those of one number.
    return torch.where(torch.sin(angle) > 1e-3, circle, (1 - t) * start + t * end)


def _with_neighbours(
    samples: "Tensor", run_dir: Path, trained: "TrainedGenerator", count: int
) -> "Tensor":
    """Return images, each followed by the `count` training images that are nearest to it.

    Raises:
        UserError: the data cannot be loaded or are others now, are no images or are too few.
    """
    import torch

    from gan.data import to_float
    from gan.metrics.copying import nearest

    data = _load_data(run_dir, trained)
    available = data.real_size("train")
    if samples.dim() != 4 or available is None or available < count:
        raise UserError(
            f"neighbours={count}: needs data of images, and as many of them; these have samples of "
            f"shape {data.shape}, {'without end' if available is None else available}"
        )
    real, _ = data.real("train", available)
    found = nearest(to_float(samples).flatten(1), to_float(real).flatten(1), k=count).indices
    return torch.cat([samples[:, None], real[found]], dim=1).flatten(0, 1)


def _load_data(run_dir: Path, trained: "TrainedGenerator") -> "Data":
    """Return the data set that a run was trained on, on the CPU.

    Raises:
        UserError: the data cannot be loaded or are others now.
    """
    import torch

    from gan.build import load_data
    from gan.data import content_hash
    from gan.run import checkpoint

    refuse_untrusted(run_dir, powers({"data": plain(trained.cfg.data)}))
    data = load_data(trained.cfg, torch.device("cpu"))
    checkpoint.refuse_other_data(run_dir, trained.data_hash, content_hash(data))
    return data


def _load_picture(
    run_dir: Path, out: Path, trained: "TrainedGenerator", *, one_by_one: bool
) -> "Picture":
    """Return the method of the run's data set that draws samples, as it did in training.

    Raises:
        UserError: the data cannot be loaded or are others now, or one sample makes no picture.
    """
    data = _load_data(run_dir, trained)
    if one_by_one and data.real_picture(1, None) is None:
        raise UserError(
            f"out={out}: points and vectors make no walk and no folder, as they are shown in one "
            "plot; allowed are NAME.png with interpolate=false, and NAME.npz"
        )
    return data.picture


def _write_file(
    out: Path,
    samples: "Tensor",
    z: "Tensor",
    labels: "Tensor | None",
    columns: int | None,
    show: "Picture",
    text: str | None,
) -> None:
    import numpy as np

    from gan.data.pictures import to_pil

    is_image = samples.dim() == 4
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        write_bytes(out, encode(to_pil(show(samples, columns)), text))
    elif out.suffix == ".gif":
        images = samples if is_image else (show(one[None], 1) for one in samples)
        frames = [for_people(to_pil(image), text) for image in images]
        _write_gif(out, frames, [FRAME_MS] * len(frames))
    elif out.suffix == ".npz":
        points = samples.dim() == 2 and samples.shape[1] == 2
        arrays = {"points" if points else "samples": samples}
        if is_image:
            arrays = {"images": samples.permute(0, 2, 3, 1)}
        arrays |= {"latents": z} | ({} if labels is None else {"labels": labels})
        with replacing(out) as path, path.open("wb") as file:
            plain: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
            np.savez_compressed(file, **plain)
    else:
        _write_folder(out, list(samples) if is_image else [show(one[None], 1) for one in samples])


def _write_folder(out: Path, images: "Sequence[Tensor]") -> None:
    from gan.data.pictures import to_pil

    # The folder gets its name when it is complete.
    with temporary_folder(out) as temporary:
        folder = temporary / "images"
        folder.mkdir()
        digits = len(str(len(images) - 1))
        for index, image in enumerate(images):
            (folder / f"{index:0{digits}d}.png").write_bytes(as_png(to_pil(image)))
        folder.rename(out)


def _padded(frame: "Image", width: int, height: int) -> "Image":
    """Return a picture with more of the colour of its corner to the right and below."""
    from PIL import Image as images

    if frame.size == (width, height):
        return frame
    larger = images.new(frame.mode, (width, height), frame.getpixel((0, 0)))
    larger.paste(frame, (0, 0))
    return larger


def _write_gif(out: Path, frames: "list[Image]", milliseconds: list[int]) -> None:
    """Write an endless GIF of frames that are shown for so long each."""
    # A caption may be wider than its picture, and the later ones are longer.
    width, height = (max(frame.size[side] for frame in frames) for side in (0, 1))
    first, *rest = (_padded(frame, width, height) for frame in frames)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as path:
        first.save(
            path, format="GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0
        )
