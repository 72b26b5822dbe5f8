"""hydra/sweeper=grid"""

from dataclasses import replace
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """The settings are those of conf/hydra/sweeper/grid.yaml."""

    def __init__(self, params: dict[str, str]):
        self.params = params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context = hydra_context
        self.task = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        from gan.sweep.grid import grid
        from gan.sweep.launch import launch, raise_failure, through

        assert self.config is not None
        loader = self.context.config_loader
        launcher = self._launcher(loader)
        own = getattr(launcher, "execute", None)
        execute = own() if own else through(self._launcher, loader)
        points = grid(loader, arguments, self.params)
        returned = launch(self.config, loader, points, execute)
        raise_failure(returned)
        return returned

    def _launcher(self, loader: ConfigLoader) -> Launcher:
        assert self.config is not None
        context = replace(self.context, config_loader=loader)
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=self.task, config=self.config
        )
