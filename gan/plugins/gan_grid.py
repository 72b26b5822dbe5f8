"""The plugin behind hydra/sweeper=grid."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """A sweeper over every combination of values. Its settings: conf/hydra/sweeper/grid.yaml."""

    def __init__(self, params: dict[str, str], points: Sequence[Sequence[str]] = ()):
        self.params = params
        self.points = points

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `sweep` needs."""
        self.context = hydra_context
        self.task = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination of the swept values."""
        # Imported late, because Hydra imports every plugin even for --help.
        from gan.launchers.base import Launcher
        from gan.sweep.callbacks import JobCallbacks, multirun_end
        from gan.sweep.plan import grid
        from gan.sweep.sweep import (
            check_launcher,
            in_launcher,
            raise_failure,
            run_sweep,
            through_hydra,
        )

        assert self.config is not None
        loader = self.context.config_loader
        with multirun_end(self.context.callbacks, self.config):
            launcher = self._make_launcher(loader)
            if isinstance(launcher, Launcher):
                check_launcher(self.config)
                tell = JobCallbacks(self.context, self.task, self.config).tell
                execute = in_launcher(launcher, tell)
            else:
                execute = through_hydra(self._make_launcher, loader)
            combinations = grid(loader, arguments, self.params)
            points = [[*others, *one] for one in self.points or [[]] for others in combinations]
            returned = run_sweep(self.config, loader, points, execute)
            raise_failure(returned)
        return returned

    def _make_launcher(self, loader: ConfigLoader) -> HydraLauncher:
        assert self.config is not None
        context = replace(self.context, config_loader=loader)
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=self.task, config=self.config
        )
