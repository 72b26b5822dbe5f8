"""Weights & Biases, online or offline. https://wandb.ai"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from gan.errors import UserError, nearest
from gan.run.trackers import END_SECONDS, TrackedRun, require

MODES = ("online", "offline")


class Wandb:
    """A run in Weights & Biases, in a group for each sweep. Its files are in the run's directory.

    Args:
        project: the name of the project. None takes the run's key `name`.
        entity: the user or team. None takes the default of the account.
        mode: "online", or "offline" for `wandb sync` later. None takes `WANDB_MODE`, or online.
    """

    def __init__(
        self, project: str | None = None, entity: str | None = None, mode: str | None = None
    ):
        if mode not in (None, *MODES):
            raise UserError(
                f"logging.trackers.wandb.mode={mode}: must be null or one of {', '.join(MODES)}"
                + nearest(mode, MODES)
            )
        require("wandb")
        self._project, self._entity = project, entity
        self._mode: Any = mode
        self._run: Any = None

    def start(self, run: TrackedRun) -> int:
        """See Tracker."""
        import wandb

        folder = run.run_dir / "wandb"
        folder.mkdir(exist_ok=True)
        self._last_step = folder / "last-step"
        if self._run is None:
            self._run = wandb.init(
                project=self._project or run.project,
                entity=self._entity,
                id=run.id,
                name=run.name,
                group=run.group,
                tags=run.tags,
                notes=run.notes or None,
                config=run.config,
                mode=self._mode,
                dir=str(run.run_dir),
                resume="allow",
                # Many runs are trained in one process.
                reinit="create_new",
                # The process cannot end while wandb waits for an answer.
                settings=wandb.Settings(console="off", silent=True, init_timeout=END_SECONDS),
            )
        # Offline, wandb does not know what earlier processes have written.
        kept = int(self._last_step.read_text(encoding="utf-8")) if self._last_step.exists() else 0
        known: int = self._run.step - 1
        return max(kept, known)

    def scalars(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """See Tracker."""
        for step, record in values.items():
            self._run.log(dict(record), step=step)
        self._note(max(values))

    def image(self, step: int, tag: str, png: bytes) -> None:
        """See Tracker."""
        import wandb

        self._run.log({tag: wandb.Image(Image.open(io.BytesIO(png)))}, step=step)

    def finish(self, status: str) -> None:
        """See Tracker."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=int(status in ("diverged", "failed", "interrupted")))

    def _note(self, step: int) -> None:
        new = Path(f"{self._last_step}.new")
        new.write_text(str(step), encoding="utf-8")
        new.replace(self._last_step)
