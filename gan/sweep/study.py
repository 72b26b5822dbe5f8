"""Optuna's objects, by the names that the configuration gives them."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig

from gan.errors import UserError
from gan.seeds import stream

NAME = "search"
DIRECTIONS = {
    "minimize": optuna.study.StudyDirection.MINIMIZE,
    "maximize": optuna.study.StudyDirection.MAXIMIZE,
}


def open_study(
    settings: DictConfig,
    path: Path,
    directions: list[str],
    *,
    known: dict[str, list[Any] | None],
    seed: int,
    max_steps: int | None,
) -> optuna.Study:
    """The study stored for a sweep, or a new one.

    Args:
        path: the sweep's directory.
        known: the values of each key that has an end of them; a grid needs all.

    Raises:
        UserError: the storage does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    url = settings.storage or f"sqlite:///{path / 'study.db'}"
    name = NAME if settings.storage is None else str(path.resolve())
    try:
        study = optuna.create_study(
            storage=url,
            study_name=name,
            directions=[DIRECTIONS[direction] for direction in directions],
            load_if_exists=True,
            pruner=_pruner(settings, max_steps),
        )
        # Going on with the same seed would choose the first points again.
        before = len(study.get_trials(deepcopy=False))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"hydra.sweeper.storage={url}: does not answer ({reason})") from error
    study.sampler = _sampler(settings.sampler, seed, stream(seed, "search", before) % 2**31)
    if settings.sampler == "grid" and not before:
        # Optuna's own grid sampler stops a study, which is not for one that asks and tells.
        for point in itertools.product(*(values or [] for values in known.values())):
            study.enqueue_trial(dict(zip(known, point, strict=True)))
    return study


def _sampler(name: str, seed: int, fresh: int) -> optuna.samplers.BaseSampler:
    samplers = optuna.samplers
    if name in ("random", "grid"):
        return samplers.RandomSampler(seed=fresh)
    if name == "sobol":
        # Its place in the sequence is stored with the study.
        return samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False
        )
    if name == "cmaes":
        return samplers.CmaEsSampler(seed=fresh, warn_independent_sampling=False)
    return samplers.TPESampler(seed=fresh)


def _pruner(settings: DictConfig, max_steps: int | None) -> optuna.pruners.BasePruner:
    pruners, least, factor = optuna.pruners, settings.min_steps, settings.reduction_factor
    if settings.pruner == "median":
        return pruners.MedianPruner(settings.startup_trials, least)
    if settings.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=factor)
    if settings.pruner == "hyperband":
        return pruners.HyperbandPruner(
            min_resource=least, max_resource=max_steps or "auto", reduction_factor=factor
        )
    if settings.pruner == "wilcoxon":
        return pruners.WilcoxonPruner(n_startup_steps=2)
    return pruners.NopPruner()
