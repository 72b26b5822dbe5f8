"""The metrics of a configuration, checked against the data and computed."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.arithmetic import exact_matmul
from gan.data import Data
from gan.errors import UserError, nearest
from gan.metrics import lenet
from gan.metrics.catalogue import METRICS, Metric
from gan.metrics.comparison import Comparison, Samples
from gan.metrics.features import FeatureExtractor, feature_extractor


class Evaluator:
    """The metrics of a configuration, against real samples that stay the same."""

    def __init__(
        self,
        names: Sequence[str],
        data: Data,
        *,
        split: str,
        samples: int,
        cache: str,
        real: str = "same",
        extractor: FeatureExtractor | None = None,
        protocol: str | None = None,
    ):
        """Load the real samples, and check that the metrics fit them.

        Args:
            names: metrics, by their names in `METRICS`.
            split: the split that real samples come from, "train" or "test".
            samples: the number of generated samples.
            cache: a folder that keeps features of real images; created when needed.
            real: the number of real samples, or "all" of the split, or "same": as many as there
                are generated ones, or all that the split has.
            extractor: None takes `feature_extractor`.
            protocol: the name of the protocol that all of this is, for the record.

        Raises:
            UserError: a metric does not fit the data or the features, there are too few samples
                for it, or its features cannot be had.
        """
        if unknown := next((name for name in names if name not in METRICS), None):
            raise UserError(
                f"metrics.names: there is no metric {unknown}; is the package installed that adds "
                f"it?{nearest(unknown, METRICS)}"
            )
        self._data, self._metrics = data, [METRICS[name] for name in names]
        self._extract: Callable[[], FeatureExtractor] = partial(feature_extractor, data)
        if extractor is not None:
            self._extract = lambda: extractor
        try:
            for metric in self._metrics:
                _check_fit(metric, data)
            count = _real_count(data, split, samples, real)
            real_samples, self._labels = data.real(split, count)
            self.facts: dict[str, Any] = {"samples": samples, "real": count, "split": split}
            """Facts that the values depend on: numbers of samples, split, the real samples
            themselves, the networks and the protocol."""
            if data.real_size(split) is not None:
                # Points of a mixture have no hash: their last digits depend on the processor.
                digest = hashlib.sha256(real_samples.cpu().contiguous().numpy().tobytes())
                self.facts["real_hash"] = digest.hexdigest()[:12]
            if any(metric.features for metric in self._metrics):
                self.facts["features"] = dict(self._extract().facts)
            if data.classifier and any(metric.classes for metric in self._metrics):
                self.facts["classifier"] = lenet.load(data.classifier).facts
            for metric in self._metrics:
                self._check_samples(metric)
        except UserError as error:
            if protocol is None:
                raise
            raise UserError(f"protocol={protocol}: does not fit here; {error}") from error
        if protocol is not None:
            self.facts["protocol"] = protocol
        # Samples that are no images are their own features: there is nothing to keep.
        folder = Path(cache).expanduser() if len(data.shape) == 3 else None
        self._real = Samples(real_samples, self._extract, folder)

    def _check_samples(self, metric: Metric) -> None:
        """Check that a metric has its features, and samples enough.

        Raises:
            UserError: it has not.
        """
        if metric.features:
            extractor = self._extract()
            name = str(extractor.facts.get("name"))
            if not name.startswith(metric.network):
                network = metric.network.partition("-")[0]
                raise UserError(
                    f"metrics.names: {metric.name} compares features of {network}, and these are "
                    f"of {name}; choose features={network}, or a metric of any features, such as "
                    "fid, kid or precision"
                )
        count, samples = self.facts["real"], self.facts["samples"]
        if min(count, samples) < (needed := self._needed(metric)):
            raise UserError(
                f"metrics.samples={samples}: {metric.name} needs {needed} samples at least, both "
                f"generated and real; there are {count} real ones"
            )

    def _needed(self, metric: Metric) -> int:
        """Return the least number of samples that a metric needs."""
        width = self._extract().width if metric.features and metric.covariance else 0
        return max(metric.min_samples, width + 1)

    def floor(self) -> dict[str, float] | None:
        """Return the metrics of real training samples, which generated ones can hardly improve on.

        Metrics without such a floor are left out, and those for which there are too few samples.
        There is nothing where training samples are what is compared with.
        """
        if self.facts["split"] != "test":
            return None
        samples, available = self.facts["samples"], self._data.real_size("train")
        count = samples if available is None else min(samples, available)
        metrics = [m for m in self._metrics if m.has_floor and self._needed(m) <= count]
        return self._values(self._data.real("train", count)[0], metrics) if metrics else None

    def labels_like_real(self, count: int) -> Tensor:
        """Return labels (count,) that are as frequent as those of the real samples."""
        return self._labels[torch.arange(count, device=self._labels.device) % len(self._labels)]

    def __call__(
        self, fake: Tensor, on_metric: Callable[[str], None] = lambda name: None
    ) -> dict[str, float]:
        """Return the metrics of raw generated samples (n, *shape), in the order of their names.

        KID comes with its standard error, as `NAME/se`.

        Args:
            on_metric: called with the name of each metric before it is computed.
        """
        return self._values(fake, self._metrics, on_metric)

    def _values(
        self,
        fake: Tensor,
        metrics: Sequence[Metric],
        on_metric: Callable[[str], None] = lambda name: None,
    ) -> dict[str, float]:
        generated = Samples(fake, self._extract)
        comparison = Comparison(self._data, self._real, generated, self._extract)
        values: dict[str, float] = {}
        with exact_matmul():
            for metric in metrics:
                on_metric(metric.name)
                values |= metric.values(comparison)
        return values


def _real_count(data: Data, split: str, samples: int, real: str) -> int:
    """Return the number of real samples to compare with; see `Evaluator`.

    Raises:
        UserError: the split has fewer, or has no limit.
    """
    available = data.real_size(split)
    if real == "same":
        return samples if available is None else min(samples, available)
    if real == "all":
        if available is None:
            raise UserError("metrics.real=all: these data are drawn without end; give a number")
        return available
    if available is not None and int(real) > available:
        raise UserError(
            f"metrics.real={real}: must be at most {available}, as the {split} split of these data "
            "has no more"
        )
    return int(real)


def _check_fit(metric: Metric, data: Data) -> None:
    """Check that a metric fits the data.

    Raises:
        UserError: the metric does not fit the data.
    """
    if not metric.fits.includes(data):
        images = len(data.shape) == 3
        others = "points" if data.shape == (2,) else f"samples of shape {data.shape}"
        kind = f"images of {data.shape[0]} channels" if images else others
        allowed = ", ".join(METRICS.that_fit(data))
        raise UserError(
            f"metrics.names: {metric.name} is for {metric.fits.description}, and these data are "
            f"{kind} with {data.classes} classes; they allow {allowed}"
        )
