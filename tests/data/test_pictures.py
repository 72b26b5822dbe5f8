"""Grids and scatter plots, pixel by pixel."""

import matplotlib
import pytest
import torch

from gan.data import ring8
from gan.data.pictures import SIDE, grid, scatter


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(64, None, (8, 8)), (5, None, (2, 3)), (1, None, (1, 1)), (6, 6, (1, 6)), (7, 2, (4, 2))],
)
def test_a_grid_holds_each_image_in_reading_order(
    count: int, columns: int | None, shape: tuple[int, int]
) -> None:
    rows, across = shape
    images = torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 3, 4)
    picture = grid(images, columns)
    assert picture.shape == (1, rows * 5 + 2, across * 6 + 2)
    expected = torch.zeros_like(picture)
    for index in range(count):
        row, column = divmod(index, across)
        top, left = 2 + 5 * row, 2 + 6 * column
        expected[0, top : top + 3, left : left + 4] = index + 1
    assert torch.equal(picture, expected)


GREY, BLUE, NONE = (191, 191, 191), (31, 119, 180), torch.empty(0, 2)


def limits(end: float) -> list[tuple[float, float]]:
    """The ends of both axes."""
    return [(-end, end)] * 2


def pixels_of(colour: tuple[int, int, int], image: torch.Tensor) -> torch.Tensor:
    """Return rows and columns (n, 2) where a plot, its labels apart, has exactly this colour."""
    same = (image == torch.tensor(colour).view(3, 1, 1)).all(0)
    same[:48], same[744:], same[:, :80], same[:, 776:] = False, False, False, False
    return same.nonzero()


def test_real_points_are_grey_and_generated_ones_in_colour() -> None:
    points = ring8().real("train", 500)[0]
    real, fake = scatter(points, NONE, limits(1.3)), scatter(NONE, points, limits(1.3))
    assert (real.shape, real.dtype) == ((3, SIDE, SIDE), torch.uint8)
    assert len(pixels_of(GREY, real)) > 200
    assert len(pixels_of(BLUE, real)) == 0
    assert len(pixels_of(BLUE, fake)) > 50
    assert len(pixels_of(GREY, fake)) == 0
    both = scatter(points, points, limits(1.3))
    assert len(pixels_of(BLUE, both)) >= len(pixels_of(BLUE, fake)), (
        "generated points are not on top"
    )
    assert len(pixels_of(GREY, both)) > 50, "generated points hide the real ones"


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (2.0, 2.0), (-2.0, 1.0), (1.5, -2.0)])
def test_a_point_is_at_its_place_on_the_axes(x: float, y: float) -> None:
    points = torch.tensor([[x, y]]).repeat(3, 1)
    row, column = pixels_of(GREY, scatter(points, NONE, limits(4.0))).double().mean(0).tolist()
    left, bottom, side = 0.1 * SIDE, 0.07 * SIDE, 0.87 * SIDE
    assert column == pytest.approx(left + side * (x + 4) / 8, abs=2)
    assert SIDE - row == pytest.approx(bottom + side * (y + 4) / 8, abs=2)


def test_points_beyond_the_axes_are_counted_in_the_title_only() -> None:
    near = torch.tensor([[0.5, 0.5]])
    beyond = torch.tensor([[9.0, 0.0], [float("nan"), 0.0], [0.0, -float("inf")], [1e38, 0.0]])
    inside, outside = (
        scatter(near, near, limits(1.0)),
        scatter(near, torch.cat([near, beyond]), limits(1.0)),
    )
    top = SIDE // 20
    assert torch.equal(inside[:, top + 4 :], outside[:, top + 4 :])
    assert not torch.equal(inside[:, :top], outside[:, :top]), "there is no title"


def test_a_scatter_plot_does_not_depend_on_matplotlibs_settings() -> None:
    points = ring8().real("train", 50)[0]
    plain = scatter(points, points + 1, limits(2.0))
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 20}):
        assert torch.equal(scatter(points, points + 1, limits(2.0)), plain)
        assert matplotlib.rcParams["font.size"] == 20
