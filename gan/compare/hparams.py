"""TensorBoard's tab HPARAMS, with columns for what was varied and for the metrics."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.api_pb2 import Experiment, MetricInfo
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG

from gan.compare.frame import Table, read_table
from gan.compare.query import ranking_measure
from gan.errors import UserError
from gan.run.tensorboard import BEST_GROUP, METRIC_GROUP


class VariedHParams(HParamsPlugin):  # type: ignore[misc]
    """TensorBoard's plugin with the columns of `gan compare`.

    By itself, TensorBoard ticks five columns: keys with several values, by the alphabet, even if
    they follow from an option that has a column. Then it ticks five curves, again by the alphabet.
    """

    def __init__(self, context: TBContext):
        super().__init__(context)
        self._context = _Context(context)


class _Context(Context):  # type: ignore[misc]
    def experiment_from_metadata(
        self,
        ctx: Any,
        experiment_id: str,
        include_metrics: bool,
        runs: Any,
        *others: Any,
        **more: Any,
    ) -> Experiment:
        """Return the columns: the hyperparameters and the metrics."""
        experiment: Experiment = super().experiment_from_metadata(
            ctx, experiment_id, include_metrics, runs, *others, **more
        )
        names = sorted(name for name, tags in runs.items() if SESSION_START_INFO_TAG in tags)
        found = _table(self.tb_context.logdir, tuple(names))
        if found:
            _choose_hyperparameters(experiment, found)
            _choose_metrics(experiment, found)
        return experiment


@lru_cache(maxsize=4)
def _table(folder: str, names: Sequence[str]) -> Table | None:
    """Return the table of the runs of these names in a folder. What was varied in them stays."""
    try:
        return read_table([Path(folder, name) for name in names])
    except UserError:
        return None


def _choose_hyperparameters(experiment: Experiment, table: Table) -> None:
    """Keep the keys in which the runs differ, if they do: TensorBoard fills up with others."""
    infos = {info.name: info for info in experiment.hparam_infos}
    # TensorBoard ticks the first ones. How metrics are measured matters least.
    keys = sorted(table.keys.values(), key=lambda key: key.startswith("metrics."))
    varied = dict.fromkeys(map(_name, keys))
    chosen = [infos[name] for name in varied if name in infos]
    for info in chosen:
        info.differs = True
    if chosen:
        del experiment.hparam_infos[:]
        experiment.hparam_infos.extend(chosen)


def _choose_metrics(experiment: Experiment, table: Table) -> None:
    """Keep the metrics, if there are any, with the objective and its best value first."""
    objective = ranking_measure(table, None)

    def order(info: MetricInfo) -> tuple[bool, str, bool]:
        group, _, name = info.name.tag.partition("/")
        return name != objective, name, f"{group}/" == BEST_GROUP

    groups = METRIC_GROUP, BEST_GROUP
    chosen = [info for info in experiment.metric_infos if info.name.tag.startswith(groups)]
    if chosen:
        del experiment.metric_infos[:]
        experiment.metric_infos.extend(sorted(chosen, key=order))


def _name(key: str) -> str:
    """Return the hyperparameter of a dotted key, which may stand for an element of a list."""
    parent, _, last = key.rpartition(".")
    return parent if last == "_target_" or last.isdecimal() else key
