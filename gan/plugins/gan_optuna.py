"""hydra/sweeper=optuna and random"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """The settings are those of conf/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any):
        pass

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.loader = hydra_context.config_loader
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        from gan.sweep.search import search

        assert self.config is not None
        search(self.config, self.loader, arguments)
