"""A comparison is drawn as pictures for papers."""

from pathlib import Path

import pytest
from fake_runs import make_sweep
from PIL import Image

from gan.compare.figures import write_figures
from gan.compare.frame import read_table
from gan.errors import UserError


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
    with pytest.raises(UserError, match="png=/dev/null: cannot be written"):
        write_figures(table, Path("/dev/null"), "sliced_wasserstein")
