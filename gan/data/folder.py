"""Any folder of images."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from gan.data.images import ImageData
from gan.data.mapped import Made, as_tensor, kept
from gan.errors import UserError
from gan.seeds import stream

log = logging.getLogger(__name__)

DECODING = 2
"""Counted up when files come to be read in another way, so that kept images are not used."""
PIECE = 2**26
"""Bytes of images that are decoded together."""


def image_folder(*, root: str, folder: str, image_size: int | None, channels: int) -> ImageData:
    """The images below a folder, in any format that Pillow reads, (channels, height, width).

    Sub-folders are classes, in the order of their names; without any there is one class. One
    image in ten, always the same ones, is in the test split. Files without the ending of an image
    format and hidden ones are left out, links are followed. Images are turned upright as their
    EXIF tags say, what is transparent becomes white, and 16 bits become 8.

    Args:
        root: decoded images are kept in `image_folder/` below it, and used again as long as all
            names, sizes and times of change are the same.
        folder: where the images are.
        image_size: pixels of a side: the shorter one is resized to it, the centre cut out. None
            takes the images as they are.
        channels: 3, or 1 for grey.

    Raises:
        UserError: the folder is not there or holds fewer than two images, some are beside
            sub-folders, a file cannot be read, sizes differ, or those of a large folder cannot be
            kept.
    """
    place = Path(folder).expanduser()
    names, labels, classes = _listed(place)
    settings = [DECODING, image_size, channels]
    name = f"{place.resolve().name}-{_digest([str(place.resolve()), *settings])[:16]}.npy"
    key = _digest([settings, [_state(place, name) for name in names]])
    order, size = _split(len(names))

    def make() -> Made:
        log.info("%s: decoding %d images", place, len(names))
        return _decoded(place, [names[index] for index in order], image_size, channels)

    try:
        images, rows = kept(Path(root).expanduser() / "image_folder" / name, key, make)
    except OSError as error:
        reason = f"{len(names)} decoded images cannot be kept there ({error.strerror or error})"
        raise UserError(f"data.root={root}: {reason}; lower data.image_size") from error
    pixels, ordered = as_tensor(images), torch.tensor(labels)[order]
    return ImageData(
        pixels[:size],
        ordered[:size],
        pixels[size:],
        ordered[size:],
        classes,
        sent_to=torch.device("cpu") if rows else None,
        rows=rows,
    )


def _split(count: int) -> tuple[list[int], int]:
    """Images in the order they are kept in: first those to train on, and how many these are."""
    chosen = torch.Generator().manual_seed(stream(0, "image_folder"))
    test = torch.zeros(count, dtype=torch.bool)
    test[torch.randperm(count, generator=chosen)[: max(1, count // 10)]] = True
    # Each split is then a slice of one array, and no copy.
    return torch.cat([(~test).nonzero(), test.nonzero()]).flatten().tolist(), int((~test).sum())


def _listed(folder: Path) -> tuple[list[str], list[int], int]:
    """The images' paths below the folder, their classes, and how many of these there are."""
    Image.init()
    endings = {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    try:
        paths = [path for path in _below(folder) if path.suffix.lower() in endings]
        classes = sorted(path.name for path in _visible(folder) if path.is_dir())
    except OSError as error:
        reason = f"{error.filename} cannot be read ({error.strerror})"
        raise UserError(f"data.folder={folder}: {reason}") from error
    parts = [path.relative_to(folder).parts for path in paths]
    if classes and (loose := [part[0] for part in parts if len(part) == 1]):
        raise UserError(
            f"data.folder={folder}: {loose[0]} is beside the sub-folder {classes[0]}; sub-folders "
            "are classes, so move it into one"
        )
    if empty := sorted(set(classes) - {part[0] for part in parts}):
        raise UserError(f"data.folder={folder}: its sub-folder {empty[0]} holds no image")
    if len(paths) < 2:
        count = "one image" if paths else "no image"
        raise UserError(f"data.folder={folder}: holds {count}; there must be two or more")
    labels = [classes.index(part[0]) if classes else 0 for part in parts]
    return ["/".join(part) for part in parts], labels, len(classes) or 1


def _below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files in the folder and in those below it, except in one that a link leads back to."""
    real = folder.resolve()
    if real in above:
        return
    for path in _visible(folder):
        if path.is_dir():
            yield from _below(path, above | {real})
        else:
            yield path


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _state(folder: Path, name: str) -> tuple[str, int, int]:
    """What tells that a file has changed."""
    try:
        status = (folder / name).stat()
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    return name, status.st_size, status.st_mtime_ns


def _decoded(folder: Path, names: Sequence[str], image_size: int | None, channels: int) -> Made:
    """uint8 images (n, channels, height, width)."""
    # Most data sets are not folders.
    from joblib import Parallel, delayed

    first = _decode(folder, names[0], image_size, channels)

    def load(name: str) -> np.ndarray:
        image = _decode(folder, name, image_size, channels)
        if image.shape != first.shape:
            raise UserError(
                f"data.folder={folder}: {names[0]} is {_size(first)} and {name} "
                f"{_size(image)}; give data.image_size a number to have all of one size"
            )
        return image

    def pieces() -> Iterator[np.ndarray]:
        count = max(1, PIECE // first.size)
        # Pillow decodes without holding the interpreter's lock.
        with Parallel(n_jobs=-1, prefer="threads") as parallel:
            for start in range(0, len(names), count):
                part = names[start : start + count]
                yield np.stack(parallel(delayed(load)(name) for name in part))

    return Made((len(names), *first.shape), pieces())


def _decode(folder: Path, name: str, image_size: int | None, channels: int) -> np.ndarray:
    """A uint8 image (channels, height, width)."""
    # Its plugins raise errors of any kind where a file is damaged.
    try:
        with Image.open(folder / name) as file:
            image = _opaque(_of_8_bits(ImageOps.exif_transpose(file)))
        image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:
        raise _unreadable(folder, name, error) from error
    if image_size is not None:
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Pillow would clip numbers of more bits when it converts them."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its pixels have more than 16 bits")
    return Image.fromarray((pixels / 257).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _unreadable(folder: Path, name: str, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"data.folder={folder}: {name} cannot be read ({reason})")


def _size(image: np.ndarray) -> str:
    _, height, width = image.shape
    return f"{width}x{height}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
