"""Measure how much each swept key matters for the objective."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gan.compare.frame import Table
from gan.metrics.catalogue import sign
from gan.run.result import WELL_ENDED, Status

MIN_RUNS = 20
"""The number of runs from which on an importance is given."""

FOLDS = 5
"""The number of parts of the runs, each of which is held out once."""

REPEATS = 10
"""The number of times that the values of a key are shuffled in each part."""


@dataclass
class Importance:
    """The importance of every key, and how far it can be trusted."""

    score: float
    """The R^2 of predictions for runs that were held out. It is 1 if the keys explain everything,
    and 0 or less if they explain nothing."""
    keys: list[tuple[str, float, float]]
    """For each key its name, the mean and the standard deviation of the loss of score when the
    key's values are shuffled among the runs. The most important key comes first."""


def importance(table: Table) -> Importance | None:
    """Return the permutation importance of the swept keys (doi:10.1023/A:1010933404324).

    A random forest predicts the rank of a run's objective from its keys. It predicts ranks so that
    one extreme run does not decide everything. Runs that diverged have the last rank.

    Returns:
        None if there are fewer than MIN_RUNS runs, or if they differ in fewer than two keys.
    """
    # These imports take a second, and no other part of a comparison needs them.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    table = table.counted(table.objective)
    frame = table.frame[table.frame["status"].isin([*WELL_ENDED, Status.DIVERGED])]
    keys = [key for key in table.defining_keys if frame[key].nunique(dropna=False) > 1]
    if len(frame) < MIN_RUNS or len(keys) < 2:
        return None
    values = sign(table.objective) * frame[table.objective]
    values = values.where(frame["status"].isin(WELL_ENDED))
    ranks = values.rank(na_option="bottom", pct=True).to_numpy()
    features = np.column_stack([_as_numbers(frame[key]) for key in keys])
    losses, scores = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(features):
        forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=2, random_state=0)
        forest.fit(features[train], ranks[train])
        scores.append(forest.score(features[test], ranks[test]))
        shuffled = permutation_importance(
            forest, features[test], ranks[test], n_repeats=REPEATS, random_state=0
        )
        losses.append(shuffled.importances)
    loss = np.concatenate(losses, axis=1)
    rows = zip(keys, loss.mean(1).tolist(), loss.std(1).tolist(), strict=True)
    return Importance(float(np.mean(scores)), sorted(rows, key=lambda row: -row[1]))


def _as_numbers(column: "pd.Series[object]") -> list[float]:
    if pd.api.types.is_numeric_dtype(column):
        return [float(value) for value in column.fillna(-1)]
    return [float(code) for code in pd.factorize(column.astype(str), sort=True)[0]]
