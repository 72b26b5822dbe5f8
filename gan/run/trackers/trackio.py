"""Trackio: a local store, or a Space on Hugging Face. https://huggingface.co/docs/trackio"""

import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from gan.run.trackers import TrackedRun, require


class Trackio:
    """A run in Trackio, in a group for each sweep.

    Args:
        project: the name of the project. None takes the run's key `name`.
        space_id: the Space to send to. None keeps all in the folder that `TRACKIO_DIR` names.
    """

    def __init__(self, project: str | None = None, space_id: str | None = None):
        require("trackio")
        self._project, self._space_id = project, space_id
        self._run: Any = None

    def start(self, run: TrackedRun) -> int:
        """See Tracker."""
        import trackio
        from trackio.utils import TRACKIO_DIR

        # Trackio itself would only print that it cannot write there.
        TRACKIO_DIR.mkdir(parents=True, exist_ok=True)
        if self._run is None:
            self._run = trackio.init(
                self._project or run.project,
                # Trackio finds a run again by its name.
                name=f"{run.name} {run.id[:8]}",
                group=run.group,
                config=run.config,
                space_id=self._space_id,
                resume="allow",
                embed=False,
                # One line a run, and not one every ten seconds for each run of a process.
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        last_step: int = self._run._next_step - 1
        return max(0, last_step)

    def scalars(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """See Tracker."""
        for step, record in values.items():
            self._run.log(dict(record), step=step)

    def image(self, step: int, tag: str, png: bytes) -> None:
        """See Tracker."""
        import trackio

        self._run.log({tag: trackio.Image(Image.open(io.BytesIO(png)))}, step=step)

    def finish(self, status: str) -> None:
        """See Tracker."""
        if status not in ("completed", "stopped"):
            # Trackio knows no status of a run.
            self._run.alert(title=status)
        self._run.finish()
