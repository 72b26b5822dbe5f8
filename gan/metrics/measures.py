"""The metrics of a configuration, of generated samples against the real ones of a data set."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gan.data import Data, Mixture, to_float
from gan.errors import UserError
from gan.files import replacing
from gan.metrics import inception, kernel, lenet, neighbours
from gan.metrics.catalogue import METRICS
from gan.metrics.classes import classifier_score, mode_count, reverse_kl
from gan.metrics.frechet import Moments, gaussian_distance, moments
from gan.metrics.kernel import kernel_distance
from gan.metrics.mixture import assign
from gan.metrics.neighbours import prdc
from gan.metrics.sliced_wasserstein import sliced_wasserstein

NEIGHBOURS = ("precision", "recall", "density", "coverage")


class Measures:
    """Metrics by name, against real samples that are fixed for a data set and split.

    Features come from LeNet for grey images and from Inception for colour; points are their own.
    """

    def __init__(self, names: Sequence[str], data: Data, *, split: str, samples: int, cache: str):
        """
        Args:
            names: of METRICS in gan.config.schema.
            split: of the real samples, "train" or "test".
            samples: how many generated ones there will be; the real ones are as many, or all
                that the split has.
            cache: a folder for features of real samples; made if missing.

        Raises:
            UserError: a metric does not fit the data, or there are too few samples for it.
        """
        for name in names:
            _refuse_misfit(name, data)
        self._names, self._data = list(names), data
        available = data.real_size(split)
        count = samples if available is None else min(samples, available)
        self._real, self._labels = data.real(split, count)
        self._extractor = _extractor(names, data)
        self._cache = Path(cache).expanduser()
        for name in names:
            needed = _least(name, self._extractor)
            if count < needed:
                raise UserError(
                    f"metrics.samples={samples}: {name} needs {needed} samples at least, generated "
                    f"and real ones, and of the real ones there are {count}"
                )
        self._frequencies = data.frequencies() if "reverse_kl" in names else None
        self.facts: dict[str, Any] = {"samples": samples, "real": count, "split": split}
        if self._extractor:
            self.facts["features"] = self._extractor.facts

    def like_real(self, count: int) -> Tensor:
        """Labels (count,) as frequent as those of the real samples."""
        return self._labels[torch.arange(count, device=self._labels.device) % len(self._labels)]

    def __call__(self, fake: Tensor) -> dict[str, float]:
        """The metrics of raw samples (n, *shape). KID comes with its standard error."""
        wanted = set(self._names)
        values: dict[str, float] = {}
        if "sliced_wasserstein" in wanted:
            count = min(len(fake), len(self._real))
            pair = (_points(samples[:count]) for samples in (self._real, fake))
            values["sliced_wasserstein"] = sliced_wasserstein(*pair)
        features = self._extractor.features(fake) if self._extractor else None
        if features is not None:
            for name in self._names:
                if name.endswith("_fid"):
                    values[name] = gaussian_distance(self._moments, moments(features))
                if name.endswith("_kid"):
                    distance = kernel_distance(self._features, features)
                    values[name], values[f"{name}/se"] = distance.value, distance.error
            if wanted & set(NEIGHBOURS):
                values |= prdc(self._features, features)._asdict()
        values |= self._of_classes(fake, features, wanted)
        return {name: values[name] for name in values if name.partition("/")[0] in wanted}

    @cached_property
    def _features(self) -> Tensor:
        return _cached(self._cache, self._extractor, self._real)

    @cached_property
    def _moments(self) -> Moments:
        return moments(self._features)

    def _of_classes(
        self, fake: Tensor, features: Tensor | None, wanted: set[str]
    ) -> dict[str, float]:
        data, values = self._data, {}
        if isinstance(data, Mixture):
            labels, good = assign(fake, data.centers, data.std)
            values["modes"] = float(mode_count(labels[good], data.classes))
            values["high_quality"] = float(good.double().mean())
        elif wanted & {"modes", "reverse_kl", "classifier_score"}:
            assert data.classifier
            classifier = lenet.load(data.classifier)
            if features is not None and classifier is self._extractor:
                each = [classifier.classify(features)]
            else:
                # A stacked image has a digit in each channel.
                each = [classifier.probabilities(channel) for channel in fake.split(1, dim=1)]
            labels = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
            for probabilities in each:
                labels = 10 * labels + probabilities.argmax(1)
            if "classifier_score" in wanted:
                values["classifier_score"] = classifier_score(each[0])
            values["modes"] = float(mode_count(labels, data.classes))
        if self._frequencies is not None:
            values["reverse_kl"] = reverse_kl(labels, self._frequencies)
        return values


def _refuse_misfit(name: str, data: Data) -> None:
    """
    Raises:
        UserError: the metric is not of such data.
    """
    images, channels = len(data.shape) == 3, data.shape[0]
    known = isinstance(data, Mixture) or data.classifier is not None
    needs = {
        "lenet_fid": (images and channels == 1, "grey images"),
        "lenet_kid": (images and channels == 1, "grey images"),
        "inception_fid": (images and channels == 3, "colour images"),
        "inception_kid": (images and channels == 3, "colour images"),
        "classifier_score": (
            images and channels == 1 and known,
            "grey images whose classes a classifier of this package knows",
        ),
        "modes": (known, "a mixture, or images whose classes a classifier of this package knows"),
        "reverse_kl": (
            known,
            "a mixture, or images whose classes a classifier of this package knows",
        ),
        "high_quality": (not images, "a mixture of points"),
    }
    fits, kind = needs.get(name, (True, ""))
    if not fits:
        what = f"images of {channels} channels" if images else "points"
        allowed = ", ".join(n for n in METRICS if needs.get(n, (True, ""))[0])
        raise UserError(
            f"metrics.names: {name} is for {kind}, and these data are {what} with "
            f"{data.classes} classes; they allow {allowed}"
        )


def _least(name: str, extractor: Any) -> int:
    """How many samples the metric needs of each kind."""
    if name.endswith("_fid"):
        return int(extractor.width) + 1
    if name.endswith("_kid"):
        return kernel.LEAST
    return neighbours.K + 1 if name in NEIGHBOURS else 1


def _extractor(names: Sequence[str], data: Data) -> Any:
    """Where features come from, or None where no metric asks for them."""
    if not any(name in NEIGHBOURS or name.endswith(("_fid", "_kid")) for name in names):
        return None
    if len(data.shape) == 1:
        return Points()
    if data.shape[0] == 1:
        return lenet.load(data.classifier or "mnist")
    return inception.load()


class Points:
    """Points are their own features."""

    width = 2

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"name": "points"}

    def features(self, points: Tensor) -> Tensor:
        return points.double()


def _points(samples: Tensor) -> Tensor:
    return (to_float(samples) if samples.dtype == torch.uint8 else samples).flatten(1)


def _cached(folder: Path, extractor: Any, real: Tensor) -> Tensor:
    """Features of real samples, read from the folder if they were taken before."""
    if isinstance(extractor, Points):
        return extractor.features(real)
    # Rounding depends on the threads and the library, and a result may not depend on the cache.
    how = (extractor.facts, torch.__version__, torch.get_num_threads(), real.device.type)
    digest = hashlib.sha256(repr((how, tuple(real.shape))).encode())
    digest.update(real.cpu().numpy().tobytes())
    path = folder / "features" / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        return load_file(path)["features"].to(real.device)
    except (OSError, SafetensorError, KeyError):
        features: Tensor = extractor.features(real)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file({"features": features.cpu()}, temporary)
    except (OSError, SafetensorError):
        pass
    return features
