"""Train generative adversarial networks, alone or in sweeps, from Hydra configurations.

`gan.compose`, `gan.run`, `gan.open_run`, `gan.sweep`, `gan.load_runs`, `gan.history`,
`gan.load_generator` and `gan.sample` are the functions of `gan.api`. The modules `gan.losses`,
`gan.penalties`, `gan.models`, `gan.data` and `gan.metrics` need no configuration. Importing this
package loads none of what they need.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gan import run as _run_package
from gan import sweep as _sweep_package

if TYPE_CHECKING:
    from gan import data as data
    from gan import losses as losses
    from gan import metrics as metrics
    from gan import models as models
    from gan import penalties as penalties
    from gan.api import TrainedRun as TrainedRun
    from gan.api import compose as compose
    from gan.api import history as history
    from gan.api import load_generator as load_generator
    from gan.api import load_runs as load_runs
    from gan.api import open_run as open_run
    from gan.api import run as run
    from gan.api import sample as sample
    from gan.api import sweep as sweep

__version__ = "0.2.0"
__all__ = [
    "TrainedRun",
    "compose",
    "history",
    "load_generator",
    "load_runs",
    "open_run",
    "run",
    "sample",
    "sweep",
]
_MODULES = ("data", "losses", "metrics", "models", "penalties")
"""Modules that are loaded when they are first asked for."""


class _CallablePackage(ModuleType):
    """A package that is also the function of `gan.api` that has its name.

    `gan.run(...)` trains a run, while `gan.run.directory` is a module of the package.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        function = getattr(import_module("gan.api"), self.__name__.rpartition(".")[2])
        return function(*args, **kwargs)


_run_package.__class__ = _CallablePackage
_sweep_package.__class__ = _CallablePackage


if not TYPE_CHECKING:  # A type checker would take any attribute for one of the package.

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(import_module("gan.api"), name)
        if name in _MODULES:
            return import_module(f"gan.{name}")
        raise AttributeError(f"module 'gan' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__, *_MODULES]
