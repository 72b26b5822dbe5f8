"""Trackers: services and libraries that follow a run while it trains, such as MLflow.

A tracker is any object with the methods of `Tracker`. The key `logging.trackers` names the trackers
of a run, each by its target and its settings. Imports no torch.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gan.config.signatures import import_target, read_signature
from gan.errors import UserError, first_line, nearest

END_SECONDS = 20.0
"""Seconds to wait at the end of a run until its trackers have taken everything in."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as trackers are told of it."""

    id: str
    """Letters and digits. They stay the same when the run goes on, and no other run has them."""
    name: str
    """The name of the run's directory."""
    group: str | None
    """The name of the sweep that the run belongs to."""
    project: str
    """The key `name` of the configuration."""
    tags: list[str]
    notes: str
    config: dict[str, Any]
    """The resolved configuration with dotted keys."""
    run_dir: Path
    """The run's directory, as an absolute path."""


class Tracker(Protocol):
    """Follows one run. All calls come from one thread, which is not the one that trains.

    A method may take its time, and may raise: training goes on. After an error, `start` is called
    again, and then whatever the tracker does not hold yet is sent again.
    """

    def start(self, run: TrackedRun) -> int:
        """Begin a run, or go on with the one of the same `run.id`.

        Returns:
            The last step that the tracker holds of this run; 0 for a new run. Values of steps up
            to this one are not sent again.
        """

    def scalars(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """Take in values by their names, for one or more steps in ascending order."""

    def image(self, step: int, tag: str, png: bytes) -> None:
        """Take in a picture: the content of a PNG file."""

    def finish(self, status: str) -> None:
        """End the run as completed, stopped, diverged, pruned, failed or interrupted.

        An interrupted run may go on later, in another process.
        """


def make_trackers(settings: Mapping[str, Any]) -> dict[str, Tracker]:
    """Make the trackers of the key `logging.trackers`, given as plain data. null makes none.

    Raises:
        UserError: a target cannot be imported, its settings do not fit, or it needs a library that
            is not installed.
    """
    made = {name: _make(f"logging.trackers.{name}", own) for name, own in settings.items() if own}
    return made


def require(library: str) -> None:
    """Check that a library is installed, without importing it.

    Raises:
        UserError: it is not. The message says how to install it.
    """
    if importlib.util.find_spec(library) is None:
        raise UserError(
            f"logging={library}: {library} is not installed; pip install 'gan-sweeps[{library}]'"
        )


def _make(key: str, settings: Mapping[str, Any]) -> Tracker:
    if not isinstance(settings, Mapping):
        raise UserError(f"{key}={settings}: must be a mapping, such as {{_target_: package.Class}}")
    keywords = dict(settings)
    target = keywords.pop("_target_", None)
    if not isinstance(target, str):
        raise UserError(f"{key}._target_={target}: must name a class, such as package.module.Class")
    try:
        tracker_class = import_target(target)
        takes = read_signature(target)
    except UserError as error:
        raise UserError(f"{key}._target_={target}: {error}") from error
    parameters = takes.settings
    for name in () if takes.takes_any else keywords.keys() - parameters.keys():
        has = f"; {target} has {', '.join(parameters) or 'no keys'}"
        hint = nearest(name, parameters, f"{key}.") or has
        raise UserError(f"{key}.{name}={keywords[name]}: unknown key{hint}")
    try:
        tracker: Tracker = tracker_class(**keywords)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{key}: {target} cannot be made ({first_line(error)})") from error
    for method in ("start", "scalars", "image", "finish"):
        if not callable(getattr(tracker, method, None)):
            raise UserError(f"{key}._target_={target}: is no tracker, it has no method '{method}'")
    return tracker
