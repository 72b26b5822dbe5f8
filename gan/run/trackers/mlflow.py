"""MLflow: a server, or its local store. https://mlflow.org"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan.run.trackers import TrackedRun, require

ID_TAG = "gan.run_id"
"""The tag by which a run is found again."""
LAST_VALUE = "epoch"
"""A value that every record has. It is sent last, so that a step that has it is complete."""
LARGEST_BATCH = 900
"""Values in a request. MLflow allows 1,000."""
LARGEST_PARAM = 6000
"""Characters of a parameter that MLflow allows."""


class Mlflow:
    """A run in MLflow, in an experiment for each sweep.

    Args:
        tracking_uri: a server or a store. None takes `MLFLOW_TRACKING_URI` or MLflow's default.
        experiment: the experiment's name. None takes the sweep's name, or the run's key `name`.
    """

    def __init__(self, tracking_uri: str | None = None, experiment: str | None = None):
        require("mlflow")
        self._tracking_uri, self._experiment = tracking_uri, experiment

    def start(self, run: TrackedRun) -> int:
        """See Tracker."""
        # By itself, MLflow would try for two minutes and tell of each try. Trackers are tried again
        # anyway, and one warning is enough.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = client = MlflowClient(self._tracking_uri)
        experiment = self._experiment_id(self._experiment or run.group or run.project)
        found = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{run.id}'", max_results=1)
        if found:
            stored = found[0]
            client.update_run(stored.info.run_id, status="RUNNING")
        else:
            tags = {ID_TAG: run.id, "run_dir": str(run.run_dir), "mlflow.note.content": run.notes}
            tags |= {"sweep": run.group or "", "tags": ",".join(run.tags)}
            tags = {name: text for name, text in tags.items() if text}
            stored = client.create_run(experiment, run_name=run.name, tags=tags)
        self._run_id = stored.info.run_id
        # MLflow refuses to change a parameter, and takes 100 at a time.
        missing = [
            Param(key, _text(value)[:LARGEST_PARAM])
            for key, value in run.config.items()
            if key not in stored.data.params
        ]
        for start in range(0, len(missing), 100):
            client.log_batch(self._run_id, params=missing[start : start + 100])
        history = client.get_metric_history(self._run_id, LAST_VALUE) if found else []
        return max((metric.step for metric in history), default=0)

    def scalars(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        batch: list[Metric] = []
        for step, record in values.items():
            names = sorted(record, key=lambda name: (name == LAST_VALUE, name))
            batch += [Metric(name, record[name], now, step) for name in names]
            if len(batch) > LARGEST_BATCH:
                self._client.log_batch(self._run_id, batch)
                batch = []
        self._client.log_batch(self._run_id, batch)

    def image(self, step: int, tag: str, png: bytes) -> None:
        """See Tracker. A file that is sent again takes the place of the first."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{tag}-{step:06d}.png")
            file.write_bytes(png)
            self._client.log_artifact(self._run_id, str(file), tag)

    def finish(self, status: str) -> None:
        """See Tracker. The tag `status` has the word that MLflow does not know."""
        known = dict.fromkeys(("completed", "stopped"), "FINISHED")
        known |= dict.fromkeys(("diverged", "failed"), "FAILED")
        self._client.set_tag(self._run_id, "status", status)
        self._client.set_terminated(self._run_id, known.get(status, "KILLED"))

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:
            # Another run of the sweep has just made it.
            if found := self._client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
