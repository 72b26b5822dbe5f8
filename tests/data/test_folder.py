"""Folders of images: which files count, how they are decoded and cached, and errors."""

import errno
import gc
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from runs import content, interrupt_at, short

from gan.config.compose import compose
from gan.data import ImageData, Sampler, image_folder, to_float
from gan.errors import Interrupted, UserError
from gan.run.directory import read_config
from gan.run.pictures import open_exact
from gan.run.result import read_result
from gan.train import run

RED, WHITE = (255, 0, 0), (255, 255, 255)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    return path


def fill(folder: Path, *names: str, size: tuple[int, int] = (4, 4)) -> None:
    """Write grey images, each one lighter than the one before."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, number + 1).save(path)


def load(folder: Path, **settings: Any) -> ImageData:
    """Load a folder with the cache beside it."""
    settings = {"image_size": None, "channels": 1} | settings
    return image_folder(root=str(folder.parent / "cache"), folder=str(folder), **settings)


def greys(data: ImageData) -> dict[int, int]:
    """Return the class of each image written by `fill`, by its shade of grey."""
    images = torch.cat([data.images, data.test_images])
    assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
    labels = torch.cat([data.labels, data.test_labels])
    return dict(zip(images[:, 0, 0, 0].tolist(), labels.tolist(), strict=True))


def decoded(photos: Path, name: str, **settings: Any) -> torch.Tensor:
    """Return the decoded image of this name; a second, white image fills the other split."""
    width, height = Image.open(photos / name).size
    orientation = Image.open(photos / name).getexif().get(0x0112, 1)
    size = (height, width) if orientation > 4 else (width, height)
    Image.new("RGB", size, WHITE).save(photos / "white.png")
    data = load(photos, **settings)
    pair = [data.images[0], data.test_images[0]]
    (other,) = (image for image in pair if not bool((image == 255).all()))
    return other


def test_without_sub_folders_there_is_one_class(photos: Path) -> None:
    fill(photos, "b.png", "a.PNG", "c.bmp")
    data = load(photos)
    assert greys(data) == {1: 0, 2: 0, 3: 0}
    assert (data.classes, data.classifier, data.shape) == (1, None, (1, 4, 4))
    assert data.images.dtype == torch.uint8
    assert data.labels.dtype == torch.int64


def test_sub_folders_are_classes_in_the_order_of_their_names(photos: Path) -> None:
    fill(photos, "dog/1.png", "cat/deep/er/1.png", "cat/2.png", "bird/1.png")
    data = load(photos)
    assert greys(data) == {1: 2, 2: 1, 3: 1, 4: 0}
    assert data.classes == 3


def test_hidden_files_and_other_files_are_ignored(photos: Path) -> None:
    fill(photos, "a.png", "b.png", ".c.png", ".hidden/d.png")
    (photos / "labels.csv").write_text("a,1")
    (photos / "README").write_text("photos")
    assert greys(load(photos)) == {1: 0, 2: 0}


def test_links_are_followed_but_not_in_circles(photos: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "1.png", "2.png")
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "own").mkdir()
    (photos / "own/one.png").symlink_to(tmp_path / "elsewhere/1.png")
    (photos / "own/circle").symlink_to(photos)
    (tmp_path / "elsewhere/circle").symlink_to(photos / "own")
    data = load(photos)
    assert data.classes == 2
    assert set(greys(data)) == {1, 2}


def test_one_image_in_ten_is_in_the_test_split_and_always_the_same(photos: Path) -> None:
    fill(photos, *(f"{number:03d}.png" for number in range(57)))
    state = torch.get_rng_state()
    data = load(photos)
    assert torch.equal(torch.get_rng_state(), state)
    assert (data.size, data.real_size("train"), data.real_size("test")) == (52, 52, 5)
    shades = torch.cat([data.images, data.test_images])[:, 0, 0, 0].tolist()
    test_shades = [9, 32, 33, 39, 42]
    assert shades == [shade for shade in range(1, 58) if shade not in test_shades] + test_shades
    moved = photos.rename(photos.with_name("moved"))
    assert torch.equal(load(moved).test_images, data.test_images)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "gif", "ppm", "tga", "jp2"])
def test_lossless_formats_give_their_exact_pixels(photos: Path, ending: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    lossless: dict[str, Any] = {"webp": {"lossless": True}, "jp2": {"irreversible": False}}
    if ending == "gif":
        image = image.quantize(256)
        pixels = np.asarray(image.convert("RGB"))
    image.save(photos / f"image.{ending}", **lossless.get(ending, {}))
    assert np.array_equal(decoded(photos, f"image.{ending}", channels=3), pixels.transpose(2, 0, 1))


def test_a_jpeg_is_close_to_its_pixels_and_turned_upright(photos: Path) -> None:
    image = Image.new("RGB", (32, 16), RED)
    image.paste((0, 0, 255), (16, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the right edge of the picture is its bottom
    image.save(photos / "image.jpg", exif=exif, quality=95, subsampling=0)
    upright = decoded(photos, "image.jpg", channels=3).float()
    assert upright.shape == (3, 32, 16)
    expected = torch.zeros(3, 32, 16)
    expected[0, :16], expected[2, 16:] = 255, 255
    assert (upright - expected).abs().mean() < 3


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 0), WHITE),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), WHITE),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("I;16", 257 * 200, (200, 200, 200)),
        ("I", 257 * 200, (200, 200, 200)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    photos: Path, mode: str, colour: Any, expected: tuple[int, int, int]
) -> None:
    for name in ("a.tif", "b.tif"):
        Image.new(mode, (3, 2), colour).save(photos / name)
    data = load(photos, channels=3)
    images = torch.cat([data.images, data.test_images])
    assert images.shape == (2, 3, 2, 3)
    assert images.amax((0, 2, 3)).tolist() == images.amin((0, 2, 3)).tolist() == list(expected)


def test_a_palette_may_have_a_transparent_colour(photos: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, 0, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(photos / "image.png", transparency=1)
    assert decoded(photos, "image.png", channels=3).permute(1, 2, 0).tolist() == [
        [[*RED], [*WHITE]]
    ]


def test_colour_becomes_grey_if_one_channel_is_wanted(photos: Path) -> None:
    Image.new("RGB", (2, 2), RED).save(photos / "image.png")
    assert decoded(photos, "image.png", channels=1).tolist() == [[[76, 76], [76, 76]]]


def test_the_shorter_side_is_resized_and_the_centre_cut_out(photos: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 14), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "wide.png")
    Image.fromarray(pixels.T.copy()).save(photos / "tall.png")
    same = load(photos, image_size=8)
    images = torch.cat([same.images, same.test_images]).numpy()
    assert {image.tobytes() for image in images} == {
        pixels[:, 3:11].tobytes(),
        pixels[:, 3:11].T.tobytes(),
    }
    pixels = np.random.default_rng(1).integers(0, 256, (40, 120), dtype=np.uint8)
    for name in ("wide.png", "tall.png"):
        Image.fromarray(pixels).save(photos / name)
    for size in (10, 100):
        whole = Image.fromarray(pixels).resize((3 * size, size), Image.Resampling.LANCZOS)
        expected = torch.from_numpy(np.asarray(whole)[:, size : 2 * size].astype(np.int64))
        smaller = load(photos, image_size=size)
        assert smaller.shape == (1, size, size)
        assert (smaller.images[0, 0] - expected).abs().max() <= 1


def error_of(folder: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as raised:
        load(folder, **settings)
    text = str(raised.value)
    assert "\n" not in text
    assert text.startswith(f"data.folder={folder}: ")
    assert not list(folder.parent.rglob("image_folder/*"))
    return text


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "none cannot be read (No such file" in error_of(tmp_path / "none")
    (tmp_path / "file").touch()
    assert "file cannot be read (Not a directory)" in error_of(tmp_path / "file")


def test_a_folder_with_fewer_than_two_images_is_refused(photos: Path) -> None:
    (photos / "notes.txt").write_text("none yet")
    assert "holds no image; there must be two or more" in error_of(photos)
    fill(photos, "a.png")
    assert "holds one image; there must be two or more" in error_of(photos)


def test_sub_folders_that_cannot_be_classes_are_refused(photos: Path) -> None:
    fill(photos, "a/1.png", "b/1.png", "c/1.png", "loose.png")
    assert "loose.png is beside the sub-folder a" in error_of(photos)


def test_an_error_about_two_sizes_names_two_files(photos: Path) -> None:
    fill(photos, "a.png", "b.png", "d.png")
    fill(photos, "c.png", size=(5, 4))
    text = error_of(photos)
    assert "a.png is 4x4 and c.png 5x4; give data.image_size a number" in text
    assert load(photos, image_size=4).shape == (1, 4, 4)


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("content", [b"", b"no image", PNG, PNG + bytes(200), None])
@pytest.mark.parametrize("name", ["a.png", "c/c.png"])
def test_an_error_names_the_file_that_is_no_image(
    photos: Path, content: bytes | None, name: str
) -> None:
    folder = f"{Path(name).parent}/"
    fill(photos, *(f"{folder}{other}.png" for other in ("a", "b", "c", "d")))
    if content is None:
        (photos / name).write_bytes((photos / name).read_bytes()[:-20])
    else:
        (photos / name).write_bytes(content)
    assert f"{name} cannot be read (" in error_of(photos)


def test_all_files_that_cannot_be_read_are_named_at_once_or_left_out(
    photos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(photos, *(f"{name}/{n}.png" for name in ("a", "b") for n in range(6)), "c/1.png")
    for name in ("a/1.png", "b/4.png", "c/1.png"):
        (photos / name).write_bytes(PNG)
    (photos / "b" / "link.png").symlink_to(photos / "gone.png")
    text = error_of(photos)
    for name in ("a/1.png", "b/4.png", "b/link.png", "c/1.png"):
        assert f"{name} cannot be read (" in text
    assert text.endswith("or leave it out by data.skip_unreadable=true")
    data = load(photos, skip_unreadable=True)
    # The class whose only image cannot be read is gone.
    assert greys(data) == {1: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 1, 8: 1, 9: 1, 10: 1, 12: 1}
    assert data.classes == 2
    assert "4 images cannot be read, left out: a/1.png, b/4.png, b/link.png, c/1.png" in caplog.text
    monkeypatch.setattr("gan.data.folder._decode", None)
    assert load(photos, skip_unreadable=True).content_hash == data.content_hash


@pytest.mark.parametrize("ending", [".h5", ".grib", ".bufr", ".wmf", ".mpg", ".heic", ".csv"])
def test_files_and_folders_without_images_are_left_out_and_counted(
    photos: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(photos, "a/1.png", "b/1.png")
    for name in ("a/x", "a/y", "b/z", "__MACOSX/z"):
        path = photos / f"{name}{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    (photos / "empty").mkdir()
    os.mkfifo(photos / "a" / "pipe.png")
    assert load(photos).classes == 2
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert f"4 {ending}, " in line
    assert "1 .png, " in line
    assert "__MACOSX/ without images, empty/ without images" in line


def test_classes_and_their_sizes_are_logged(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(photos, *(f"cat/{n}.png" for n in range(12)), *(f"dog/{n}.png" for n in range(21)))
    cfg = short("data=image_folder", f"data.folder={photos}", f"data.root={tmp_path}/cache",
                "data.channels=1", "metrics.samples=20", "trainer.max_steps=2")  # fmt: skip
    run(cfg, tmp_path / "run")
    assert f"{photos}: 33 images: cat 12, dog 21" in caplog.messages
    train_log = (tmp_path / "run" / "train.log").read_text()
    expected = "30 grey images of 4x4 to train on, 3 to test with; 2 classes of 11 to 19 each"
    assert expected in " ".join(train_log.split())
    assert "splits" not in caplog.text


def test_splits_do_not_become_classes_without_a_warning(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(photos, "train/cat/1.png", "train/dog/1.png", "test/cat/1.png")
    assert load(photos).classes == 2
    assert (
        f"its classes are test and train; if these are splits, give data.folder={photos}/train"
        in (caplog.text)
    )


@pytest.mark.parametrize(("sizes", "held_out"), [((40, 20, 9, 1), (4, 2, 1, 0)), ((1, 1), None)])
def test_images_are_held_out_of_each_class(
    photos: Path, sizes: tuple[int, ...], held_out: tuple[int, ...] | None
) -> None:
    fill(photos, *(f"{c}/{n:02}.png" for c, size in enumerate(sizes) for n in range(size)))
    data = load(photos, stratify=True)
    counts = torch.bincount(data.test_labels, minlength=len(sizes)).tolist()
    assert tuple(counts) == held_out if held_out else sum(counts) == 1
    assert torch.equal(load(photos, stratify=True).test_images, data.test_images)
    assert len(greys(data)) == sum(sizes)
    (photos.parent / "flat").mkdir()
    fill(photos.parent / "flat", *(f"{n}.png" for n in range(30)))
    both = [load(photos.parent / "flat", stratify=value).content_hash for value in (True, False)]
    assert both[0] == both[1]


def test_very_large_images_are_decoded(photos: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(photos / "a.png")
    Image.new("1", (10_000, 20_000), 1).save(photos / "b.png")
    limit = Image.MAX_IMAGE_PIXELS
    assert sorted(greys(load(photos, image_size=4))) == [0, 255]
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_run_that_was_made_before_a_key_came_is_the_same_without_it(
    photos: Path, tmp_path: Path
) -> None:
    fill(photos, *(f"{n % 2}/{n:02}.png" for n in range(60)))
    folder = ("data=image_folder", f"data.folder={photos}", f"data.root={tmp_path}/cache")
    tiny = (*folder, "data.channels=1", "metrics.samples=20", "trainer.max_steps=10")
    run(short(*tiny, "data.stratify=false"), tmp_path / "run")
    stored = OmegaConf.load(tmp_path / "run" / "config.yaml")
    del stored.data["stratify"], stored.data["skip_unreadable"]
    OmegaConf.save(stored, tmp_path / "run" / "config.yaml")
    (tmp_path / "run" / "result.json").unlink()
    run(read_config(tmp_path / "run"), tmp_path / "run")
    run(short(*tiny, "data.stratify=false"), tmp_path / "run")
    with pytest.raises(UserError, match=r"has data\.stratify=None, not True"):
        run(short(*tiny), tmp_path / "run")


def test_an_error_names_the_link_that_leads_nowhere(photos: Path) -> None:
    fill(photos, "a.png", "b.png")
    (photos / "c.png").symlink_to(photos / "gone.png")
    assert "c.png cannot be read (No such file or directory)" in error_of(photos)


@pytest.mark.parametrize(
    ("mode", "value", "reason"),
    [
        ("F", 0.5, "fractions"),
        ("I", 70000, "more than 16 bits"),
        ("I", 200, "32 bits and are at most 255: white is not known"),
    ],
)
def test_pixels_without_a_known_range_are_refused(
    photos: Path, mode: str, value: float, reason: str
) -> None:
    fill(photos, "a.png", "b.png")
    Image.new(mode, (4, 4), value).save(photos / "c.tif")
    assert f"c.tif cannot be read (its pixels {'are' if mode == 'F' else 'have'} {reason})" in (
        error_of(photos)
    )


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Map a folder of any size from its file, and decode five images at a time."""
    monkeypatch.setattr("gan.data.mapped.MAX_BYTES_IN_MEMORY", 0)
    monkeypatch.setattr("gan.data.folder.CHUNK_BYTES", 5 * 16)


def test_a_large_folder_is_mapped_and_gives_the_same_images(
    photos: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    fill(photos, *(f"{number % 2}/{number:03d}.png" for number in range(58)))
    small = load(photos)
    # `fill` gave them their shades in this order, beginning with 1.
    assert greys(small) == {shade: (shade - 1) % 2 for shade in range(1, 59)}
    assert small.target_device is None
    request.getfixturevalue("all_large")
    (cache_file,) = (photos.parent / "cache" / "image_folder").iterdir()
    for fresh in (False, True):
        if fresh:
            cache_file.unlink()
        large = load(photos)
        assert large.target_device == torch.device("cpu")
        for split in ("train", "test"):
            size = small.real_size(split)
            assert large.real_size(split) == size
            for mine, other in zip(large.real(split, size), small.real(split, size), strict=True):
                assert torch.equal(mine, other)
        assert torch.equal(large.frequencies(), small.frequencies())
        for name in ("images", "labels", "test_images", "test_labels"):
            assert torch.equal(getattr(large, name), getattr(small, name))
    assert large.test_images.data_ptr() == large.images.data_ptr() + large.images.nbytes


@pytest.mark.usefixtures("all_large")
def test_errors_in_a_large_folder_leave_no_file(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(photos, *(f"{number:03d}.png" for number in range(20)))
    fill(photos, "100.png", size=(5, 4))
    assert "100.png 5x4; give data.image_size a number" in error_of(photos)
    (photos / "100.png").write_bytes(PNG)
    assert "100.png cannot be read (" in error_of(photos)
    (photos / "100.png").unlink()
    cache = photos.parent / "cache"

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gan.system.files.sync", full)
        with pytest.raises(UserError) as raised:
            load(photos)
    assert str(raised.value) == (
        f"data.root={cache}: 20 decoded images cannot be stored there (No space left on device); "
        "lower data.image_size"
    )
    assert not list(cache.rglob("image_folder/*"))
    assert load(photos).shape == (1, 4, 4)


def test_a_folder_is_decoded_once_and_again_after_a_change(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(photos, "a.png", "b.png", "c.png")
    first = load(photos)

    def cached() -> bool:
        with monkeypatch.context() as patch:
            patch.setattr("gan.data.folder._decode", None)
            try:
                load(photos)
            except TypeError:
                return False
        return True

    assert cached()
    with monkeypatch.context() as patch:
        patch.setattr("gan.data.folder._decode", None)
        assert torch.equal(load(photos).images, first.images)
        for other in ({"channels": 3}, {"image_size": 2}):
            with pytest.raises(TypeError):
                load(photos, **other)
    Image.new("L", (4, 4), 99).save(photos / "b.png")
    assert set(greys(load(photos))) == {1, 3, 99}
    stamp = (photos / "b.png").stat()
    os.utime(photos / "b.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert not cached()
    load(photos)
    (photos / "c.png").rename(photos / "d.png")
    assert not cached()
    load(photos)
    assert cached()
    (copy,) = (photos.parent / "cache" / "image_folder").iterdir()
    assert copy.name.startswith("photos-")
    damaged = bytearray(copy.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    copy.write_bytes(damaged)
    assert set(greys(load(photos))) == {1, 3, 99}
    assert cached()


def test_a_small_folder_needs_no_writable_cache(photos: Path) -> None:
    fill(photos, "a.png", "b.png")
    (photos.parent / "cache").touch()
    assert set(greys(load(photos))) == {1, 2}


@pytest.mark.usefixtures("all_large")
def test_a_disk_error_is_raised_at_the_batch_that_it_concerns(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(photos, *(f"{number:03d}.png" for number in range(20)))
    data = load(photos)
    expected = [to_float(data.images)[batch] for batch in batch_indices(data, 2, 6)]
    preadv, calls = os.preadv, 0

    def failing(*args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2 * 3 + 1:
            raise OSError(errno.EIO, "Input/output error")
        return preadv(*args)

    monkeypatch.setattr("os.preadv", failing)
    batches = data.batches(2, seed=6)
    for number, images in enumerate(expected):
        if number == 3:
            with pytest.raises(UserError, match=r"\.npy: cannot be read \(Input/output error\)$"):
                batches.batch(number)
        assert torch.equal(batches.batch(number)[0], images)


def batch_indices(data: ImageData, batch_size: int, seed: int) -> list[torch.Tensor]:
    sampler = Sampler(data.size, batch_size, seed, torch.device("cpu"))
    return [sampler.batch(number) for number in range(sampler.batches_per_epoch)]


def test_a_run_refuses_a_folder_with_the_same_message_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    cfg = compose("data=image_folder", f"data.folder={tmp_path}/none")
    with pytest.raises(UserError, match=rf"^data\.folder={tmp_path}/none: .* cannot be read"):
        run(cfg, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_a_folder_of_colour_images(photos: Path, tmp_path: Path) -> None:
    for number in range(20):
        Image.new("RGB", (9, 12), (12 * number, 0, 255)).save(photos / f"{number}.jpg")
    cfg = compose(
        "data=image_folder",
        f"data.folder={photos}",
        f"data.root={tmp_path}/cache",
        "data.image_size=8",
        "model.hidden_dim=8",
        "trainer=smoke",
        "trainer.batch_size=6",
        "metrics.samples=18",
        "logging=quiet",
        "threads=1",
    )
    run(cfg, tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result is not None
    assert (result["status"], result["steps"]) == ("completed", 20)
    grid = np.asarray(open_exact(tmp_path / "run/samples/step-000020.png"))
    assert grid.shape == (82, 82, 3)


def test_a_run_on_a_large_folder_is_bit_exact_even_when_interrupted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(photos / f"{number}.png")
    folder = ("data=image_folder", f"data.folder={photos}", f"data.root={tmp_path}/cache")
    cfg = short(*folder, "data.channels=1", "metrics.samples=40", "trainer.max_steps=20")
    run(cfg, tmp_path / "small")
    request.getfixturevalue("all_large")
    run(cfg, tmp_path / "large")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 13, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(cfg, tmp_path / "stopped")
    run(cfg, tmp_path / "stopped")
    expected = content(tmp_path / "small")
    assert content(tmp_path / "large") == expected
    assert content(tmp_path / "stopped") == expected
    gc.collect()
    wait_for_threads("prefetch")


def wait_for_threads(prefix: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(prefix):
            thread.join(30)
            assert not thread.is_alive()


def test_a_pipe_is_left_out_and_not_waited_for(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(photos, "a.png", "b.png")
    os.mkfifo(photos / "c.png")
    caplog.set_level(logging.INFO)
    assert load(photos).size == 1
    assert "left out 1 .png" in caplog.text
