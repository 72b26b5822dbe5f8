"""A GIF of the samples that a run drew while it trained, and neighbours of samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_runs import make_run
from PIL import Image
from runs import short

from gan.commands.generate import MOST_FRAMES, Options, generate, interpolate_latents
from gan.data import digits
from gan.errors import UserError
from gan.run.pictures import caption, encode, for_people, open_exact, sample_files
from gan.train import run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with samples at the steps 200, 400 and 600, of which the last are enlarged."""
    path = make_run(tmp_path / "run", image=10)
    last = path / "samples" / "step-000600.png"
    last.write_bytes(encode(open_exact(last), "step 600"))
    return path


def test_a_gif_of_the_progress_shows_what_was_drawn_in_training(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "progress.gif"
    generate([run_dir], Options(progress=True, out=out))
    assert capsys.readouterr().out == f"{out}\n"
    gif = Image.open(out)
    assert getattr(gif, "n_frames", 1) == 3
    for index, (step, path) in enumerate(sample_files(run_dir).items()):
        gif.seek(index)
        expected = for_people(open_exact(path), caption(step, 31))
        assert np.array_equal(np.asarray(gif.convert("L")), np.asarray(expected)), step
    generate([run_dir], Options(progress=True, out=out, caption=False))
    assert Image.open(out).size == (3 * 242, 3 * 242)


def test_a_gif_of_many_pictures_has_the_first_and_the_last(run_dir: Path, tmp_path: Path) -> None:
    for step in range(1000, 1100):
        picture = Image.new("L", (9, 9), step % 256)
        picture.save(run_dir / "samples" / f"step-{step:06d}.png")
    for step in (200, 400, 600):
        (run_dir / "samples" / f"step-{step:06d}.png").unlink()
    generate([run_dir], Options(progress=True, out=tmp_path / "a.gif", caption=False))
    gif = Image.open(tmp_path / "a.gif")
    assert getattr(gif, "n_frames", 1) == MOST_FRAMES
    levels = []
    for index in (0, MOST_FRAMES - 1):
        gif.seek(index)
        levels.append(gif.convert("L").getpixel((0, 0)))
    assert levels == [1000 % 256, 1099 % 256]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"out": Path("a.png")}, "out=a.png: progress=true makes a GIF"),
        ({"seed": 3}, "seed=3: not with progress=true"),
        ({"interpolate": True}, "interpolate=true: not with progress=true"),
        ({"out": Path("/dev/null/a.gif")}, "out=/dev/null/a.gif: cannot be written"),
    ],
)
def test_what_a_gif_of_the_progress_cannot_be_is_refused(
    run_dir: Path, options: dict[str, object], expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        generate([run_dir], Options(**{"progress": True, "out": Path("a.gif")} | options))  # type: ignore[arg-type]
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_run_without_fit_pictures_makes_no_gif_of_the_progress(
    run_dir: Path, tmp_path: Path
) -> None:
    options = Options(progress=True, out=tmp_path / "a.gif")
    first, second, third = sample_files(run_dir).values()
    Image.new("L", (9, 9)).save(first)
    with pytest.raises(UserError, match=r"step-000200\.png: is not as large as step-000600\.png"):
        generate([run_dir], options)
    first.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"step-000200\.png: is damaged"):
        generate([run_dir], options)
    for path in (first, second, third):
        path.unlink()
    with pytest.raises(UserError, match="has no samples/step-"):
        generate([run_dir], options)
    with pytest.raises(UserError, match="not a run directory"):
        generate([tmp_path], options)
    assert not (tmp_path / "a.gif").exists()


def test_each_sample_of_a_grid_is_followed_by_its_nearest_training_images(tmp_path: Path) -> None:
    run(short("data=digits", "metrics=none", "logging=quiet"), tmp_path / "run")
    out = tmp_path / "neighbours.png"
    generate([tmp_path / "run"], Options(n=3, neighbours=2, out=out, caption=False))
    picture = np.asarray(open_exact(out))
    side, margin = 28, 2
    cells = [
        picture[y + margin : y + margin + side, x + margin : x + margin + side]
        for y in range(0, picture.shape[0] - margin, side + margin)
        for x in range(0, picture.shape[1] - margin, side + margin)
    ]
    assert len(cells) == 9
    data = digits()
    training = data.real("train", data.size)[0].flatten(1).double()
    for sample, *shown in zip(cells[::3], cells[1::3], cells[2::3], strict=True):
        pixels = torch.tensor(sample).flatten().double()
        distances = (training - pixels).norm(dim=1).sort().values[:2]
        found = [float((torch.tensor(x).flatten() - pixels).norm()) for x in shown]
        assert found == pytest.approx(distances.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"neighbours": -1}, "neighbours=-1: must be at least 0"),
        ({"neighbours": 2, "out": Path("a.npz")}, "neighbours=2: needs out=NAME.png"),
        ({"neighbours": 2, "interpolate": True}, "neighbours=2: needs out=NAME.png without"),
    ],
)
def test_neighbours_need_a_grid(tmp_path: Path, options: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError) as raised:
        generate([tmp_path], Options(**options))  # type: ignore[arg-type]
    assert expected in str(raised.value)


def test_walk_between_latents_on_one_line_is_straight() -> None:
    corners = torch.tensor([[1.0], [2.0], [-3.0]])
    walk = interpolate_latents(corners, 5)[..., 0]
    expected = torch.tensor([[1.0, 1.25, 1.5, 1.75, 2.0], [2.0, 0.75, -0.5, -1.75, -3.0]])
    torch.testing.assert_close(walk, expected)
    turned = interpolate_latents(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 3)[0]
    torch.testing.assert_close(turned[1], torch.full((2,), 0.5**0.5))
