"""A comparison is drawn as pictures for papers."""

from pathlib import Path

import pytest
from fake_runs import make_run, make_sweep
from PIL import Image

from gan.compare.figures import write_figures
from gan.compare.frame import read_table
from gan.errors import UserError


@pytest.mark.filterwarnings("error")
def test_groups_with_long_names_leave_room_for_the_curves(tmp_path: Path) -> None:
    keys = ["optimizer.lr", "penalty.gamma", "model.hidden_dim", "model.latent_dim"]
    keys += ["trainer.batch_size", "trainer.n_critic", "optimizer.eps", "model.negative_slope"]
    for number in range(30):
        for seed in range(2):
            words = [f"{key}={2 + number}" for key in keys] + [f"seed={seed}"]
            words += ["trainer.ema_half_life=" + ("null" if number % 2 else "1000")]
            make_run(tmp_path / f"runs/{number}-{seed}", *words, value=0.1 + number)
    table = read_table([tmp_path / "runs"])
    for path in write_figures(table, tmp_path / "png", "sliced_wasserstein"):
        with Image.open(path) as image:
            # The picture grows with its text, and the axes keep most of its width.
            assert image.height > 1000 or path.stem == "heat"


def test_figures_are_pictures_and_the_same_every_time(tmp_path: Path) -> None:
    table = read_table([make_sweep(tmp_path / "sweep")])
    written = write_figures(table, tmp_path / "a", "sliced_wasserstein")
    assert {path.name for path in written} == {"curves.png", "ranking.png", "heat.png"}
    again = write_figures(table, tmp_path / "b", "sliced_wasserstein")
    for path, other in zip(written, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
        with Image.open(path) as image:
            colours = image.convert("RGB").getcolors(2**24)
        assert colours
        assert len(colours) > 50
    # Objectives may be losses, too.
    (losses, *_) = write_figures(table, tmp_path / "c", "loss/generator")
    assert losses.read_bytes() != written[0].read_bytes()
    with Image.open(losses) as image, Image.open(written[0]) as other_image:
        counts = [len(one.convert("RGB").getcolors(2**24) or ()) for one in (image, other_image)]
    assert counts[0] > 0.5 * counts[1]
    with pytest.raises(UserError, match="png=/dev/null: cannot be written"):
        write_figures(table, Path("/dev/null"), "sliced_wasserstein")
