"""Every metric of this package, one object each. Imports no torch, so that configurations can be
checked and tables sorted quickly."""

from dataclasses import dataclass
from enum import Enum


class Direction(str, Enum):
    """The way in which a value gets better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> int:
        """1 where lower values are better and -1 where higher ones are: values times this sort
        best first."""
        return 1 if self is Direction.MINIMIZE else -1


@dataclass(frozen=True)
class Metric:
    """A measure of generated samples."""

    name: str
    direction: Direction


METRICS: dict[str, Metric] = {
    name: Metric(name, direction)
    for name, direction in {
        "sliced_wasserstein": Direction.MINIMIZE,
        "lenet_fid": Direction.MINIMIZE,
        "lenet_kid": Direction.MINIMIZE,
        "inception_fid": Direction.MINIMIZE,
        "inception_kid": Direction.MINIMIZE,
        "precision": Direction.MAXIMIZE,
        "recall": Direction.MAXIMIZE,
        "density": Direction.MAXIMIZE,
        "coverage": Direction.MAXIMIZE,
        "classifier_score": Direction.MAXIMIZE,
        "modes": Direction.MAXIMIZE,
        "reverse_kl": Direction.MINIMIZE,
        "high_quality": Direction.MAXIMIZE,
    }.items()
}


def direction(value_name: str) -> Direction:
    """Return the direction of a metric or of another value that is logged.

    Args:
        value_name: such as "recall", or a table's column such as "best/recall", which goes by its
            last part. Values that are no metric, such as losses, are minimized.
    """
    metric = METRICS.get(value_name.rpartition("/")[2])
    return metric.direction if metric else Direction.MINIMIZE


def sign(value_name: str) -> int:
    """Return `direction(value_name).sign`."""
    return direction(value_name).sign


STEP_STATISTICS = (
    "loss/discriminator",
    "loss/generator",
    "prob/real",
    "prob/fake",
    "logit/real",
    "logit/fake",
)
"""Statistics of one training step: means over the batch. prob/real is D(x), prob/fake D(G(z))."""

LOSSES_AND_PROBABILITIES = ("loss/discriminator", "loss/generator", "prob/real", "prob/fake")
"""The statistics that people look at first."""

TRAINING_VALUES = (
    *STEP_STATISTICS,
    "grad_norm/discriminator",
    "grad_norm/generator",
    "lr/discriminator",
    "lr/generator",
)
"""Values that every run logs while it trains."""

OBJECTIVES = (*METRICS, *TRAINING_VALUES)
"""Values that a sweep can improve."""
