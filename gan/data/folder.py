"""A folder of images as a data set."""

import hashlib
import json
import logging
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from gan.data.images import ImageData
from gan.data.mapped import ChunkedArray, as_tensor, cached_array
from gan.errors import UserError
from gan.seeds import stream
from gan.settings import Count

log = logging.getLogger(__name__)

DECODER_VERSION = 2
"""Version of the decoding below. Raise it when pixels change, so that no old cache is used."""
CHUNK_BYTES = 2**26
"""Bytes of images that are decoded together."""


def image_folder(
    *, root: str | Path, folder: str | Path, image_size: Count | None, channels: Literal[1, 3]
) -> ImageData:
    """Load the images in a folder and below it as (channels, height, width).

    Pillow must know their format. Sub-folders are classes, in the order of their names; without
    sub-folders there is one class. One image in ten is in the test split, always the same ones.
    Hidden files and files without the ending of an image format are ignored. Links are followed.
    EXIF tags turn an image upright, transparent pixels become white, and 16 bits become 8.

    Args:
        root: folder of the cache. Decoded images are stored in `image_folder/` below it, and used
            again while the names, sizes and modification times of all files stay the same.
        folder: folder of the images.
        image_size: number of pixels of each side. The shorter side is resized to it and the
            centre is cut out. None leaves the images as they are.
        channels: 3, or 1 for grey images.

    Raises:
        UserError: the folder does not exist or holds fewer than two images, some images lie
            beside sub-folders, a file cannot be read, sizes differ, or the images of a large
            folder cannot be stored.
    """
    source = Path(folder).expanduser()
    names, labels, classes = _list_images(source)
    settings = [DECODER_VERSION, image_size, channels]
    file = f"{source.resolve().name}-{_digest([str(source.resolve()), *settings])[:16]}.npy"
    key = _digest([settings, [_fingerprint(source, name) for name in names]])
    order, size = _train_then_test(len(names))

    def make() -> ChunkedArray:
        log.info("%s: decoding %d images", source, len(names))
        return _decode_all(source, [names[index] for index in order], image_size, channels)

    try:
        stored = Path(root).expanduser() / "image_folder" / file
        images, reader, digest = cached_array(stored, key, make)
    except OSError as error:
        reason = f"{len(names)} decoded images cannot be stored there ({error.strerror or error})"
        raise UserError(f"data.root={root}: {reason}; lower data.image_size") from error
    pixels, ordered = as_tensor(images), torch.tensor(labels)[order]
    return ImageData(
        pixels[:size],
        ordered[:size],
        pixels[size:],
        ordered[size:],
        classes,
        target_device=torch.device("cpu") if reader else None,
        reader=reader,
        digest=digest,
    )


def _train_then_test(count: int) -> tuple[list[int], int]:
    """Return the images' order in the cache, training split first, and the size of that split."""
    chosen = torch.Generator().manual_seed(stream(0, "image_folder"))
    test = torch.zeros(count, dtype=torch.bool)
    test[torch.randperm(count, generator=chosen)[: max(1, count // 10)]] = True
    # In this order each split is a slice of one array and needs no copy.
    return torch.cat([(~test).nonzero(), test.nonzero()]).flatten().tolist(), int((~test).sum())


def _list_images(folder: Path) -> tuple[list[str], list[int], int]:
    """Return the images' paths relative to the folder, their labels and the number of classes."""
    Image.init()
    endings = {end for end, name in Image.registered_extensions().items() if name in Image.OPEN}
    try:
        paths = [path for path in _files_below(folder) if path.suffix.lower() in endings]
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


def _files_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Yield all files in the folder and its sub-folders, without following links in a circle."""
    real = folder.resolve()
    if real in above:
        return
    for path in _visible(folder):
        if path.is_dir():
            yield from _files_below(path, above | {real})
        else:
            yield path


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _fingerprint(folder: Path, name: str) -> tuple[str, int, int]:
    """Return facts about a file that change when the file is changed."""
    try:
        status = (folder / name).stat()
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if not stat.S_ISREG(status.st_mode):
        # To open a pipe would wait for ever.
        raise _unreadable(folder, name, ValueError("it is no file but a pipe or a device"))
    return name, status.st_size, status.st_mtime_ns


def _decode_all(
    folder: Path, names: Sequence[str], image_size: int | None, channels: int
) -> ChunkedArray:
    """Return uint8 images (n, channels, height, width)."""
    # Only folders need this import; most data sets are none.
    from joblib import Parallel, delayed

    first = _decode(folder, names[0], image_size, channels)

    def load(name: str) -> np.ndarray:
        image = _decode(folder, name, image_size, channels)
        if image.shape != first.shape:
            raise UserError(
                f"data.folder={folder}: {names[0]} is {_size_text(first)} and {name} "
                f"{_size_text(image)}; give data.image_size a number to have all of one size"
            )
        return image

    def chunks() -> Iterator[np.ndarray]:
        count = max(1, CHUNK_BYTES // first.size)
        # Threads are enough, because Pillow decodes without holding the interpreter's lock.
        with Parallel(n_jobs=-1, prefer="threads") as parallel:
            for start in range(0, len(names), count):
                part = names[start : start + count]
                yield np.stack(parallel(delayed(load)(name) for name in part))

    return ChunkedArray((len(names), *first.shape), chunks())


def _decode(folder: Path, name: str, image_size: int | None, channels: int) -> np.ndarray:
    """Return a uint8 image (channels, height, width)."""
    # Pillow's plugins raise errors of any kind if a file is damaged.
    try:
        with Image.open(folder / name) as file:
            image = _on_white(_to_8_bits(ImageOps.exif_transpose(file)))
        image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:
        raise _unreadable(folder, name, error) from error
    if image_size is not None:
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8; Pillow would clip them instead."""
    if image.mode == "F":
        raise ValueError("its pixels are fractions")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its pixels have more than 16 bits")
    return Image.fromarray((pixels / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _unreadable(folder: Path, name: str, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"data.folder={folder}: {name} cannot be read ({reason})")


def _size_text(image: np.ndarray) -> str:
    _, height, width = image.shape
    return f"{width}x{height}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
