"""The check of runs against the numbers that their experiment states."""

from math import inf
from statistics import median
from typing import Any, NamedTuple

import pandas as pd

from gan.compare import query
from gan.compare.frame import Table
from gan.compare.read import StoredRun
from gan.compare.repeat import changed_keys, places_of_files
from gan.config.checks import flatten, is_under
from gan.config.compose import compose, compose_or_explain, config_loader
from gan.config.spaces import keys_of, texts_of
from gan.config.trust import refuse_untrusted, word_powers
from gan.config.values import shown
from gan.errors import UserError, nearest
from gan.run.result import WELL_ENDED


class Outcome(NamedTuple):
    """The outcome of one number that an experiment expects."""

    metric: str
    where: str | None
    """The condition on the runs that the number is of; None for all."""
    runs: int
    """The runs that have the metric and were trained to their end."""
    median: float | None
    least: float | None
    most: float | None
    fault: str | None
    """The reason why the number does not hold, None if it does."""

    @property
    def range(self) -> str:
        """The expected range of the median in words."""
        if self.least is None or self.most is None:
            return f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
        return f"{self.least:g} to {self.most:g}"


def check(table: Table) -> list[Outcome]:
    """Compare the medians over runs with the numbers that their experiment's file states.

    Raises:
        UserError: the runs are of no experiment or of several, the experiment states no numbers,
            or a run was trained with other settings than the experiment's.
    """
    runs = [table.runs[number] for number in table.frame.index]
    name = _experiment(runs)
    places = places_of_files(runs[0])
    with config_loader(places) as loader:
        known = loader.get_group_options("experiment")
    if name not in known:
        raise UserError(f"check: there is no experiment={name}{nearest(name, known)}")
    cfg = compose_or_explain([*places, f"experiment={name}"], with_hydra=True)
    expected: Any = flatten(cfg).get("expected")
    if not expected:
        raise UserError(f"experiment={name}: states no expected numbers")
    params = texts_of(cfg.hydra.sweeper.get("params") or {})
    _refuse_other_settings(runs, name, [key for text in params for key in keys_of(text)])
    return [_outcome(table, **entry) for entry in expected]


def as_frame(outcomes: list[Outcome]) -> pd.DataFrame:
    """Return the outcomes as a table for people."""
    return pd.DataFrame(
        {
            "metric": outcome.metric,
            "where": outcome.where or "all runs",
            "runs": outcome.runs,
            "median": outcome.median,
            "expected": outcome.range,
            "outcome": outcome.fault or "holds",
        }
        for outcome in outcomes
    )


def _experiment(runs: list[StoredRun]) -> str:
    """Return the experiment that all of these runs are of."""
    names = {run.choices.get("experiment", "") for run in runs}
    if "" in names:
        path = next(run.path for run in runs if "experiment" not in run.choices)
        raise UserError(f"check: {path} is a run of no experiment, whose numbers could be expected")
    if len(names) > 1:
        raise UserError(f"check: takes runs of one experiment, not of {', '.join(sorted(names))}")
    return names.pop()


def _refuse_other_settings(runs: list[StoredRun], name: str, swept: list[str]) -> None:
    """Check that runs have the settings of an experiment, except the seed and what it sweeps."""
    composed: dict[tuple[str, ...], dict[str, Any]] = {}
    for run in runs:
        own = tuple(word for word in run.overrides if is_under(word.partition("=")[0], swept))
        if own not in composed:
            refuse_untrusted(run.path, word_powers(own))
            words = [*places_of_files(run), f"experiment={name}", *own]
            composed[own] = flatten(compose(*words))
        for key, then, now in changed_keys(run.config, composed[own]):
            if key != "seed":
                raise UserError(
                    f"check: {run.path} has {key}={shown(then)}, and experiment={name} has "
                    f"{shown(now)}, so its numbers are not those that are expected"
                )


def _outcome(
    table: Table,
    metric: str,
    least: float | None,
    most: float | None,
    runs: int,
    where: str | None,
) -> Outcome:
    if where is not None:
        table = query.matching(table, where)
    counted = table.counted(metric)
    ended = counted.frame["status"].isin(WELL_ENDED) & counted.column(metric).notna()
    values = counted.column(metric)[ended].tolist()
    middle = median(values) if values else None
    fault = None
    if middle is None or len(values) < runs:
        fault = f"needs {runs} run{'s' * (runs > 1)}"
    elif not (-inf if least is None else least) <= middle <= (inf if most is None else most):
        fault = "does not hold"
    return Outcome(metric, where, len(values), middle, least, most, fault)
