"""How much each swept key matters for the objective."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gan.compare.frame import TOLD, Table
from gan.metrics.catalogue import sign

ENOUGH = 20
"""Runs, below which nothing is said."""
FOLDS = 5
REPEATS = 10


@dataclass
class Importance:
    score: float
    """R^2 of predictions for runs that were held out: 1 where the keys tell all, 0 or below where
    they tell nothing."""
    keys: list[tuple[str, float, float]]
    """Each key with what the score falls by when its values are shuffled among the runs, and
    the standard deviation over shufflings; the most important first."""


def importance(table: Table) -> Importance | None:
    """The permutation importance (doi:10.1023/A:1010933404324) of a random forest that predicts the
    rank of a run's objective from its keys; None for too few runs or a single key.

    Ranks, so that one run that went far astray does not decide; runs that diverged are last.
    """
    # A second of imports, which no other part of a comparison needs.
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    frame = table.frame[table.frame["status"].isin(["completed", "diverged"])]
    keys = [key for key in table.keys if key not in TOLD and frame[key].nunique(dropna=False) > 1]
    if len(frame) < ENOUGH or len(keys) < 2:
        return None
    values = sign(table.objective) * frame[table.objective]
    values = values.where(frame["status"] == "completed")
    ranks = values.rank(na_option="bottom", pct=True).to_numpy()
    features = np.column_stack([_numbers(frame[key]) for key in keys])
    drops, scores = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(features):
        forest = RandomForestRegressor(n_estimators=100, min_samples_leaf=2, random_state=0)
        forest.fit(features[train], ranks[train])
        scores.append(forest.score(features[test], ranks[test]))
        found = permutation_importance(
            forest, features[test], ranks[test], n_repeats=REPEATS, random_state=0
        )
        drops.append(found.importances)
    shuffled = np.concatenate(drops, axis=1)
    told = zip(keys, shuffled.mean(1).tolist(), shuffled.std(1).tolist(), strict=True)
    return Importance(float(np.mean(scores)), sorted(told, key=lambda row: -row[1]))


def _numbers(column: "pd.Series[object]") -> list[float]:
    if pd.api.types.is_numeric_dtype(column):
        return [float(value) for value in column.fillna(-1)]
    return [float(code) for code in pd.factorize(column.astype(str), sort=True)[0]]
