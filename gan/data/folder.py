"""A folder of images as a data set."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

from gan.data.cache import Arrays, cached_arrays
from gan.data.images import ImageData
from gan.data.mapped import ChunkedArray, as_tensor, cached_array
from gan.errors import UserError
from gan.seeds import derive_seed
from gan.settings import Count

log = logging.getLogger(__name__)

DECODER_VERSION = 2
"""Version of the decoding below. Raise it when pixels change, so that no old cache is used."""
MAX_NAMED_CLASSES = 20
"""Number of classes up to which the log names each."""
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
"""Names of folders that are rather splits than classes."""
CHUNK_BYTES = 2**26
"""Bytes of images that are decoded together."""


def image_folder(
    *,
    root: str | Path,
    folder: str | Path,
    image_size: Count | None,
    channels: Literal[1, 3],
    stratify: bool = False,
    skip_unreadable: bool = False,
) -> ImageData:
    """Load the images in a folder and below it as (channels, height, width).

    Pillow must know their format. Sub-folders are classes, in the order of their names; without
    sub-folders there is one class. One image in ten is in the test split, always the same ones.
    Hidden files are ignored. Other files that are no images, and sub-folders without images, are
    left out and counted in the log. Links are followed. EXIF tags turn an image upright,
    transparent pixels become white, and 16 bits become 8.

    Args:
        root: folder of the cache. Decoded images are stored in `image_folder/` below it, and used
            again while the names, sizes and modification times of all files stay the same.
        folder: folder of the images.
        image_size: number of pixels of each side. The shorter side is resized to it and the
            centre is cut out. None leaves the images as they are.
        channels: 3, or 1 for grey images.
        stratify: whether to take one in ten of each class for the test split, and at least one
            where a class has two, or one in ten of all.
        skip_unreadable: whether to leave out images that cannot be decoded. All are decoded twice
            then, the first time.

    Raises:
        UserError: the folder does not exist or holds fewer than two images, some images lie
            beside sub-folders, files cannot be read, sizes differ, or the images of a large
            folder cannot be stored.
    """
    source = Path(folder).expanduser()
    names = _list_images(source)
    settings = [DECODER_VERSION, image_size, channels, *(["stratify"] if stratify else [])]
    file = f"{source.resolve().name}-{_digest([str(source.resolve()), *settings])[:16]}.npy"
    stored = Path(root).expanduser() / "image_folder" / file
    with _images_of_any_size():
        if skip_unreadable:
            names = _readable(source, names, image_size, channels, stored)
        labels, classes = _label(source, names)
        order, size = _train_then_test(labels, stratify=stratify)

        def make() -> ChunkedArray:
            log.info("%s: decoding %d images", source, len(names))
            return _decode_all(source, [names[index] for index in order], image_size, channels)

        try:
            key = _digest([settings, _fingerprints(source, names)])
            images, reader, digest = cached_array(stored, key, make)
        except _UnreadableError:
            unreadable = _find_unreadable(source, names, image_size, channels)
            raise UserError(
                f"data.folder={folder}: {'; '.join(unreadable.values())}; remove what cannot be "
                "read, or leave it out by data.skip_unreadable=true"
            ) from None
        except OSError as error:
            reason = f"{len(names)} decoded images cannot be stored there"
            raise UserError(
                f"data.root={root}: {reason} ({error.strerror or error}); lower data.image_size"
            ) from error
    pixels, ordered = as_tensor(images), labels[order]
    return ImageData(
        pixels[:size],
        ordered[:size],
        pixels[size:],
        ordered[size:],
        len(classes),
        target_device=torch.device("cpu") if reader else None,
        reader=reader,
        digest=digest,
    )


def _train_then_test(labels: Tensor, *, stratify: bool) -> tuple[list[int], int]:
    """Return the images' order in the cache, training split first, and the size of that split."""
    chosen = torch.Generator().manual_seed(derive_seed(0, "image_folder"))
    order = torch.randperm(len(labels), generator=chosen)
    groups: Sequence[Tensor] = [order]
    if stratify and len(counts := torch.bincount(labels)) < len(labels):
        groups = order[labels[order].argsort(stable=True)].split(counts.tolist())
    test = torch.zeros(len(labels), dtype=torch.bool)
    for group in groups:
        test[group[: max(min(1, len(group) - 1), len(group) // 10)]] = True
    # In this order each split is a slice of one array and needs no copy.
    return torch.cat([(~test).nonzero(), test.nonzero()]).flatten().tolist(), int((~test).sum())


def _list_images(folder: Path) -> list[str]:
    """Return the images' paths relative to the folder, and log what is left out."""
    endings = _endings()
    names, others = [], Counter[str]()
    try:
        for path in _files_below(folder):
            # A link that leads nowhere is an image that is missed.
            if path.suffix.lower() in endings and (path.is_file() or not path.exists()):
                names.append(path.relative_to(folder).as_posix())
            else:
                others[path.suffix.lower() or path.name] += 1
        folders = [path.name for path in _visible(folder) if path.is_dir()]
    except OSError as error:
        reason = f"{error.filename} cannot be read ({error.strerror})"
        raise UserError(f"data.folder={folder}: {reason}") from error
    classes = {name.partition("/")[0] for name in names if "/" in name}
    if classes and (loose := [name for name in names if "/" not in name]):
        raise UserError(
            f"data.folder={folder}: {loose[0]} is beside the sub-folder {min(classes)}; "
            "sub-folders are classes, so move it into one"
        )
    left_out = [f"{count} {ending}" for ending, count in sorted(others.items())]
    left_out += [f"{name}/ without images" for name in folders if name not in classes]
    if left_out:
        log.info("%s: left out %s", folder, ", ".join(left_out))
    return names


def _endings() -> set[str]:
    """Return the endings of the formats that Pillow can decode."""
    Image.init()
    readable = {
        name
        for name, (factory, _) in Image.OPEN.items()
        if not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))
    }
    # Pillow knows the size of a film, and no more.
    readable -= {"MPEG"}
    return {end for end, name in Image.registered_extensions().items() if name in readable}


def _label(folder: Path, names: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the class of each image and the names of the classes, and log their sizes."""
    if len(names) < 2:
        count = "one image" if names else "no image"
        raise UserError(f"data.folder={folder}: holds {count}; there must be two or more")
    tops = [name.rpartition("/")[0].partition("/")[0] for name in names]
    classes = sorted(set(tops))
    numbers = {name: number for number, name in enumerate(classes)}
    counts = Counter(tops)
    if len(classes) > MAX_NAMED_CLASSES:
        sizes = f"{len(classes)} classes of {min(counts.values())} to {max(counts.values())} images"
    else:
        sizes = ", ".join(f"{name} {counts[name]}" for name in classes if name) or "one class"
    log.info("%s: %d images: %s", folder, len(names), sizes)
    if {name.lower() for name in classes} <= SPLIT_NAMES:
        to_train = next((name for name in classes if name.lower().startswith("train")), classes[0])
        log.warning(
            "%s: its classes are %s; if these are splits, give data.folder=%s",
            folder,
            " and ".join(classes),
            folder / to_train,
        )
    return torch.tensor([numbers[top] for top in tops]), classes


def image_files(folder: Path) -> list[str]:
    """Return the paths of the images in a folder and below it, relative to it and sorted.

    Raises:
        UserError: the folder cannot be read.
    """
    endings = _endings()
    try:
        found = [path for path in _files_below(folder) if path.suffix.lower() in endings]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return [path.relative_to(folder).as_posix() for path in found]


def read_images(folder: Path, shape: tuple[int, ...]) -> Tensor:
    """Return the images in a folder and below it, uint8 (n, *shape), in the order of their names.

    They are decoded as by `image_folder`, and nothing is stored.

    Args:
        shape: (channels, height, width) of one image.

    Raises:
        UserError: the folder has no images, one of another size, or one that cannot be read; or
            the shape is not that of an image.
    """
    from joblib import Parallel, delayed

    if len(shape) != 3:
        raise UserError(f"{folder}: holds images, and the data are samples of shape {shape}")
    names = image_files(folder)

    def load(name: str) -> np.ndarray:
        image = _decode(folder, name, None, shape[0])
        if image.shape != shape:
            wanted = _size_text(np.empty(shape, np.uint8))
            raise UserError(
                f"{folder}: {name} is {_size_text(image)}, and images of the data are {wanted}"
            )
        return image

    try:
        with _images_of_any_size():
            images = Parallel(n_jobs=-1, prefer="threads")(delayed(load)(name) for name in names)
    except _UnreadableError as error:
        raise UserError(f"{folder}: {error}") from error
    return torch.from_numpy(np.stack(images))


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


def _fingerprints(folder: Path, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return facts about files that change when a file is changed."""
    facts = []
    for name in names:
        try:
            status = (folder / name).stat()
            facts.append((name, status.st_size, status.st_mtime_ns))
        except OSError:
            # It cannot be decoded either, which says why.
            facts.append((name, -1, -1))
    return facts


def _readable(
    folder: Path, names: Sequence[str], image_size: int | None, channels: int, stored: Path
) -> list[str]:
    """Return the names of images that can be decoded.

    Args:
        stored: the file of the decoded images, beside which the places of the others are kept.
    """

    def find() -> Arrays:
        found = _find_unreadable(folder, names, image_size, channels)
        return {"places": np.array([names.index(name) for name in found], dtype=np.int64)}

    key = _digest([image_size, channels, DECODER_VERSION, _fingerprints(folder, names)])
    places = set(cached_arrays(stored.with_suffix(".unreadable.npz"), key, find)["places"].tolist())
    if places:
        text = ", ".join(names[place] for place in sorted(places))
        log.warning("%s: %d images cannot be read, left out: %s", folder, len(places), text)
    return [name for place, name in enumerate(names) if place not in places]


def _find_unreadable(
    folder: Path, names: Sequence[str], image_size: int | None, channels: int
) -> dict[str, str]:
    """Return why images cannot be decoded, by their names."""
    from joblib import Parallel, delayed

    def problem(name: str) -> str | None:
        try:
            _decode(folder, name, image_size, channels)
        except _UnreadableError as error:
            return str(error)
        return None

    problems = Parallel(n_jobs=-1, prefer="threads")(delayed(problem)(name) for name in names)
    return {name: text for name, text in zip(names, problems, strict=True) if text}


@contextmanager
def _images_of_any_size() -> Iterator[None]:
    """Let Pillow open images of any size in the block. It refuses large ones of strangers."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


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
            image = ImageOps.exif_transpose(file)
            if file.format == "TIFF" and image.mode == "I" and 0 < np.asarray(image).max() <= 255:
                raise ValueError("its pixels have 32 bits and are at most 255: white is not known")
            image = _on_white(_to_8_bits(image))
        image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _UnreadableError(f"{name} cannot be read ({reason})") from error
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


class _UnreadableError(Exception):
    """An image that cannot be decoded. The text names it and says why."""


def _size_text(image: np.ndarray) -> str:
    _, height, width = image.shape
    return f"{width}x{height}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
