"""Time metrics, beside torchmetrics where it is installed."""

import importlib.util
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.timing import median_seconds, timing_table
from gan.build import find_device, load_data
from gan.config.compose import compose
from gan.data import ImageData
from gan.data.vision import torchvision
from gan.metrics import lenet
from gan.metrics.frechet import frechet_distance
from gan.metrics.kernel import kernel_distance
from gan.metrics.neighbours import prdc
from gan.run.evaluation import make_evaluator

OTHER = "torchmetrics"
"""The other library."""
WIDE = 512
"""Features of FID, which needs more samples than that."""
SUBSETS, SUBSET_SIZE = 50, 1000
"""Settings of KID."""


def time_metrics(*, rounds: int, samples: int, device: str) -> None:
    """Print the seconds of each metric of so many samples, by this program and by torchmetrics."""
    settings, target = compose("metrics=fast", f"metrics.samples={samples}"), find_device(device)
    loaded = load_data(settings, target)
    assert isinstance(loaded, ImageData)
    data = _resized(loaded, samples)
    fakes, _ = data.real("train", samples)
    wide, narrow = _features(samples, WIDE, target), _features(samples, lenet.WIDTH, target)
    with TemporaryDirectory() as cache:
        settings.metrics.cache = cache
        rows: dict[str, Callable[[], object]] = {
            f"FID, {WIDE} dims": partial(frechet_distance, *wide),
            "KID, 128 dims": partial(
                kernel_distance, *narrow, subsets=SUBSETS, subset_size=SUBSET_SIZE
            ),
            "PRDC, 128 dims": partial(prdc, *narrow),
            "LeNet's features": partial(lenet.load("mnist").features, fakes),
            "metrics=fast": partial(make_evaluator(settings.metrics, data), fakes),
        }
        others = _other_metrics(wide, narrow) if importlib.util.find_spec(OTHER) else {}
        calls = rows | {f"{OTHER} {name}": call for name, call in others.items()}
        seconds = median_seconds(calls, rounds)
    machine = f"{torch.get_num_threads()} threads" if target.type == "cpu" else str(target)
    title = f"{samples} samples, {machine}, torch {torch.__version__}"
    table = timing_table(("", "s", f"{OTHER} s", "ratio"), title=title)
    for name in rows:
        ours, theirs = seconds[name], seconds.get(f"{OTHER} {name}")
        cells = (f"{theirs:.3g}", f"{theirs / ours:.2f}") if theirs else ("", "")
        table.add_row(name, f"{ours:.3g}", *cells)
    Console().print(table)


def _resized(data: ImageData, count: int) -> ImageData:
    """Return data with so many images in each split. Images repeat if there are fewer."""
    train = torch.arange(count) % len(data.images)
    test = torch.arange(count) % len(data.test_images)
    return ImageData(
        data.images[train],
        data.labels[train],
        data.test_images[test],
        data.test_labels[test],
        data.classes,
        data.classifier,
    )


def _features(count: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return two sets of features, correlated and non-negative as after a ReLU."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator).double() / width**0.5
    real, fake = (
        (torch.randn(count, width, generator=generator).double() @ mixing).relu().to(device)
        for _ in range(2)
    )
    return real, fake


def _other_metrics(
    wide: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor]
) -> dict[str, Callable[[], object]]:
    """Return functions that compute metrics of the same features by torchmetrics."""
    torchvision()
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    def fid() -> float:
        return float(_compute_fid(*(part for x in wide for part in (x.mean(0), torch.cov(x.T)))))

    def kid() -> float:
        size = min(SUBSET_SIZE, len(narrow[0]) // 2)
        subsets = (
            [x[torch.randperm(len(x), device=x.device)[:size]] for x in narrow]
            for _ in range(SUBSETS)
        )
        return float(torch.stack([poly_mmd(real, fake) for real, fake in subsets]).mean())

    return {f"FID, {WIDE} dims": fid, "KID, 128 dims": kid}
