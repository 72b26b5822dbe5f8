"""Pictures of samples as files: large and with a caption for people, exact for programs."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from runs import short

from gan.build import build
from gan.data.pictures import to_pil
from gan.errors import UserError
from gan.run.evaluation import Evaluation
from gan.run.pictures import (
    LARGEST_GRID,
    as_png,
    caption,
    encode,
    for_people,
    open_exact,
    read_steps_per_epoch,
    sample_files,
)
from gan.train import run


def noise(width: int, height: int, mode: str) -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, 3)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("size", "scale"),
    [((28, 28), 29), ((242, 242), 3), ((62, 902), 1), ((362, 32), 2), ((1300, 1300), 1)],
)
def test_a_picture_is_enlarged_by_a_whole_number_and_read_back_exactly(
    tmp_path: Path, size: tuple[int, int], scale: int, mode: str
) -> None:
    exact = noise(*size, mode)
    (tmp_path / "a.png").write_bytes(encode(exact, "step 1500, epoch 48.4"))
    read = open_exact(tmp_path / "a.png")
    assert (read.mode, read.size, read.tobytes()) == (mode, size, exact.tobytes())
    shown = np.asarray(Image.open(tmp_path / "a.png"))
    large = shown[-size[1] * scale :, : size[0] * scale]
    assert np.array_equal(large, np.asarray(exact).repeat(scale, 0).repeat(scale, 1))


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize(
    ("size", "height"), [((28, 28), 28 * 29), ((62, 902), 902), ((3000, 3000), 3000)]
)
def test_a_caption_is_readable_whatever_the_picture(
    size: tuple[int, int], height: int, level: int
) -> None:
    shown = for_people(Image.new("L", size, level), "step 15000, epoch 483.9")
    bar = np.asarray(shown)[: shown.height - height]
    rows, columns = np.nonzero(bar != level)
    assert np.ptp(rows) >= height / 60, "the letters are small"
    assert 2 < columns.min() < columns.max() < shown.width - 2, "the text is cut"
    assert 0 < rows.min() < rows.max() < len(bar) - 1, "the text is cut"
    assert np.abs(bar.astype(int) - level).max() > 200, "ink and paper are alike"


def test_the_largest_grid_of_samples_is_read_back(tmp_path: Path) -> None:
    """As large as that of 64 images of 1,024 pixels and more."""
    exact = Image.new("L", (LARGEST_GRID // 8000, 8000), 200)
    (tmp_path / "grid.png").write_bytes(encode(exact, "step 1"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_exact(tmp_path / "grid.png").size == exact.size


def test_samples_that_make_too_large_a_picture_are_refused(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.new("L", (1024, 1024)).save(tmp_path / name)
    words = [f"data.folder={tmp_path}", "data.channels=1", "model.hidden_dim=1", "metrics=none"]
    words += ["trainer.batch_size=2"]
    cfg = short("data=image_folder", "logging.samples=100", *words)
    with pytest.raises(UserError, match=r"logging.samples=100: .* allowed are at most 75"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_picture_without_a_caption_is_only_enlarged() -> None:
    assert for_people(noise(28, 28, "L"), None).size == (28 * 29, 28 * 29)


def test_pictures_of_earlier_versions_are_read_as_they_are(tmp_path: Path) -> None:
    exact = noise(242, 242, "L")
    exact.save(tmp_path / "a.png")
    assert open_exact(tmp_path / "a.png").tobytes() == exact.tobytes()


@pytest.mark.parametrize(
    ("scale", "box"),
    [(scale, "0 0 9 9") for scale in ("0", "-1", "10", "x")]
    + [("1", box) for box in ("", "0 0 9", "5 5 5 5", "0 0 99 9")],
)
def test_a_picture_with_wrong_texts_is_refused(tmp_path: Path, scale: str, box: str) -> None:
    texts = PngInfo()
    texts.add_text("Scale", scale)
    texts.add_text("Box", box)
    (tmp_path / "a.png").write_bytes(as_png(noise(9, 9, "L"), texts))
    with pytest.raises(UserError, match=r"a\.png: is damaged, or no picture of samples"):
        open_exact(tmp_path / "a.png")


def test_a_damaged_picture_is_refused(tmp_path: Path) -> None:
    content = encode(noise(30, 30, "L"), "step 1")
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (b"", content[:100], bytes(flipped)):
        (tmp_path / "a.png").write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            open_exact(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("step", "per_epoch", "text"),
    [
        (0, 31, "step 0, epoch 0"),
        (62, 31, "step 62, epoch 2"),
        (1500, 31, "step 1500, epoch 48.4"),
        (10, 781, "step 10, epoch 0.013"),
        (10, None, "step 10"),
    ],
)
def test_a_caption_says_the_step_and_the_epoch(step: int, per_epoch: int | None, text: str) -> None:
    assert caption(step, per_epoch) == text


def test_a_run_draws_its_untrained_networks_and_then_at_each_interval_of_epochs(
    tmp_path: Path,
) -> None:
    intervals = ("logging.samples_every=null", "logging.samples_every_epochs=2")
    cfg = short(*intervals, "trainer.batch_size=400")
    run(cfg, tmp_path / "run")
    per_epoch = read_steps_per_epoch(tmp_path / "run")
    assert per_epoch == 10
    files = sample_files(tmp_path / "run")
    assert list(files) == [0, 20, 40]
    titles = [Image.open(path).info["Title"] for path in files.values()]
    assert titles == ["step 0, epoch 0", "step 20, epoch 2", "step 40, epoch 4"]
    before = torch.get_rng_state()
    untrained = to_pil(Evaluation(cfg, build(cfg)).picture())
    assert open_exact(files[0]).tobytes() == untrained.tobytes()
    assert open_exact(files[20]).tobytes() != untrained.tobytes()
    assert torch.equal(torch.get_rng_state(), before)
