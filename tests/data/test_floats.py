"""Vectors and series: their scaling, their own units, their pictures, and the waves."""

import numpy as np
import pytest
import torch

from gan.data import Data, SeriesData, VectorData, series_data, vector_data, waves
from gan.data.base import check_data, range_doubt
from gan.data.pictures import SIDE, TITLE_HEIGHT
from gan.data.waves import FREQUENCIES, LENGTH
from gan.metrics.evaluator import Evaluator

RANDOM = np.random.default_rng(1)
TABLE = RANDOM.normal(size=(400, 4)) * [1, 1000, 1e-3, 0] + [1e6, 0, -3, 7]
SERIES = RANDOM.uniform(-3, 5, size=(300, 2, 30)) * [[1], [100]]
NAMES = ["sliced_wasserstein", "precision", "recall", "density", "coverage"]


def test_components_of_vectors_get_mean_0_and_standard_deviation_1() -> None:
    data = vector_data(TABLE)
    assert data.samples.dtype == torch.float32
    assert data.samples.mean(0).abs().max() < 1e-5
    spread = data.samples.std(0, correction=0)
    torch.testing.assert_close(spread, torch.tensor([1.0, 1.0, 1.0, 0.0]), rtol=1e-5, atol=1e-5)
    assert data.shape == (4,)
    assert range_doubt(data.samples) is None
    check_data(data)


@pytest.mark.parametrize("series", [SERIES, SERIES[:, 0]], ids=["two channels", "one channel"])
def test_each_channel_of_a_series_reaches_from_minus_1_to_1(series: np.ndarray) -> None:
    data = series_data(series)
    assert data.shape == series.shape[1:]
    channels = data.samples.reshape(data.size, -1, 30).movedim(1, 0).flatten(1)
    for channel in channels:
        assert (channel.min().item(), channel.max().item()) == pytest.approx((-1, 1), abs=1e-6)
    check_data(data)


@pytest.mark.parametrize("data", [vector_data(TABLE), series_data(SERIES)], ids=["table", "series"])
def test_own_units_are_those_of_the_array(data: VectorData | SeriesData) -> None:
    values = TABLE if data.shape == (4,) else SERIES
    rows = torch.cat([data.samples, data.test_samples])
    own = data.scaling.to_own_units(rows)
    assert own.dtype == torch.float64
    first = values.reshape(len(values), -1)
    found = own.reshape(len(values), -1).numpy()
    # Held-out rows come last, so both are put in the order of their first value.
    order, original = np.lexsort(found.T[::-1]), np.lexsort(first.T[::-1])
    spread = first.std(axis=0) + 1e-6
    assert (np.abs(found[order] - first[original]) / spread).max() < 1e-4


def test_a_constant_component_and_a_constant_channel_become_0() -> None:
    constant = vector_data(np.full((20, 3), 0.1))
    assert constant.samples.eq(0).all()
    assert constant.scaling.to_own_units(constant.samples).eq(0.1).all()
    assert series_data(np.full((20, 2, 5), 3.0)).samples.eq(0).all()


def test_units_do_not_change_what_is_trained_on_or_measured() -> None:
    metres, millimetres = vector_data(TABLE), vector_data(TABLE * [1000, 1, 1, 1])
    torch.testing.assert_close(metres.samples, millimetres.samples, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "data", [vector_data(TABLE), series_data(SERIES), series_data(SERIES[:, 0])]
)
def test_metrics_of_values_know_real_samples_from_noise(data: Data) -> None:
    measure = Evaluator(NAMES, data, split="train", samples=300, cache="")
    real = measure(data.real("train", 270)[0])
    noise = measure(2 * torch.rand(270, *data.shape) + 3)
    assert measure.facts["features"] == {"name": "values"}
    assert real["precision"] == real["recall"] == real["coverage"] == 1
    assert noise["precision"] == noise["coverage"] == 0
    assert real["sliced_wasserstein"] < 0.1 < noise["sliced_wasserstein"]


def test_sliced_wasserstein_of_vectors_is_their_distance_on_a_line() -> None:
    data = vector_data(RANDOM.normal(size=(500, 1)))
    measure = Evaluator(["sliced_wasserstein"], data, split="train", samples=450, cache="")
    # In one dimension, moving all samples by 2 moves the distribution by 2.
    assert measure(data.real("train", 450)[0] + 2)["sliced_wasserstein"] == pytest.approx(2)


BLUE, GREY = torch.tensor([31, 119, 180]), torch.tensor([191, 191, 191])


def count(picture: torch.Tensor, colour: torch.Tensor) -> int:
    return int((picture == colour.view(3, 1, 1)).all(0).sum())


@pytest.mark.parametrize("width", [1, 2, 5])
def test_vectors_are_plotted_over_real_ones_in_one_picture(width: int) -> None:
    data: Data = vector_data(RANDOM.normal(size=(300, width)) * 50 + 9)
    picture = data.picture(data.real("train", 100)[0], None)
    assert picture.shape == (3, SIDE, SIDE)
    assert count(picture, BLUE) > 50
    assert count(picture, GREY) > 500
    assert data.real_picture(100, None) is None


def test_the_axes_of_vectors_do_not_depend_on_what_is_generated() -> None:
    data = vector_data(TABLE)
    near, far = torch.zeros(1, 4), torch.full((1, 4), 50.0)
    axes = [data.picture(samples, None)[:, 740:, 120:] for samples in (near, far)]
    assert torch.equal(*axes)


def test_a_component_that_does_not_vary_is_not_plotted_if_others_do() -> None:
    table = RANDOM.normal(size=(50, 3))
    table[:, 0] = 4
    data = vector_data(table)
    moved = torch.zeros(20, 3)
    plain = data.picture(moved, None)
    moved[:, 0] += 1
    assert torch.equal(data.picture(moved, None), plain)
    moved[:, 2] += 1
    assert not torch.equal(data.picture(moved, None), plain)


@pytest.mark.parametrize(("samples", "columns", "shape"), [(64, None, (8, 8)), (6, 2, (3, 2))])
def test_series_are_lines_in_a_grid_with_the_same_axes(
    samples: int, columns: int | None, shape: tuple[int, int]
) -> None:
    data = series_data(SERIES[:, 0])
    real = data.real("train", samples)[0]
    picture = data.picture(real, columns)
    of_real = data.real_picture(samples, columns)
    assert of_real is not None
    assert torch.equal(picture, of_real)
    height, width = (picture.shape[1] - TITLE_HEIGHT) // shape[0], picture.shape[2] // shape[1]
    # A line that is level at a value is at the same height in each cell.
    levels = torch.linspace(-1, 1, samples)[:, None].expand(-1, 30)
    picture = data.picture(levels, columns).float()[:, TITLE_HEIGHT:]
    for index in (0, samples // 2, samples - 1):
        row, column = divmod(index, shape[1])
        cell = picture[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        inner = cell[0, 3:-3, width // 4 : -(width // 4)].mean(1)
        expected = (0.5 - 0.45 / 1.1 * float(levels[index, 0])) * height - 3
        assert float(inner.argmin()) == pytest.approx(expected, abs=2)


def test_series_beyond_the_axes_are_counted() -> None:
    data = series_data(SERIES[:, 0])
    inside, beyond = torch.ones(3, 30), torch.ones(3, 30)
    beyond[1, 4] = 2
    pictures = [data.picture(samples, None)[:, :TITLE_HEIGHT] for samples in (inside, beyond)]
    assert not torch.equal(*pictures)


@pytest.mark.parametrize("length", [1, 2, 500])
def test_series_of_any_length_are_drawn(length: int) -> None:
    data = series_data(RANDOM.normal(size=(30, 3, length)))
    assert data.picture(data.real("train", 4)[0], None).float().std() > 1


def test_waves_are_the_sines_that_they_say() -> None:
    data = waves()
    assert (data.shape, data.size, data.classes) == ((1, 64), 18_000, 4)
    check_data(data)
    samples, labels = data.real("train", 2000)
    own = data.scaling.to_own_units(samples)[:, 0]
    power = torch.fft.rfft(own).abs().square()
    frequencies = torch.tensor(FREQUENCIES)[labels]
    assert torch.equal(power.argmax(1), frequencies)
    # Rounding to 1/4096 leaves almost nothing in other frequencies.
    share = power.gather(1, frequencies[:, None])[:, 0] / power.sum(1)
    assert share.min() > 1 - 1e-5
    # A sine of amplitude a has the mean square a^2 / 2.
    amplitudes = own.square().mean(1).mul(2).sqrt()
    assert (amplitudes.min().item(), amplitudes.max().item()) == pytest.approx((0.5, 1), abs=2e-3)
    assert amplitudes.mean().item() == pytest.approx(0.75, abs=0.02)
    assert own.abs().max() <= 1
    assert data.frequencies().numpy() == pytest.approx([0.25] * 4, abs=0.01)
    assert own.shape[1] == LENGTH


def test_waves_are_the_same_on_every_machine() -> None:
    assert waves().content_hash.startswith("c0db7317cf34")


def test_samples_that_a_tanh_cannot_reach_are_told() -> None:
    assert range_doubt(torch.tensor([[[-1.0, 1.0]]])) is None
    doubt = range_doubt(torch.tensor([[[0.0, 255.0]]]))
    assert doubt is not None
    assert "from 0 to 255" in doubt
