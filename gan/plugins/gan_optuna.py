"""The plugin behind hydra/sweeper=optuna."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """A search by Optuna, with the settings of conf/hydra/sweeper/optuna.yaml."""

    def __init__(self, **settings: Any):
        """Ignore the settings, which `sweep` reads from the configuration."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `sweep` needs."""
        self.context = hydra_context
        self.task = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Run what is left of the search."""
        # Imported late, because Hydra imports every plugin even for --help.
        from gan.sweep.callbacks import JobCallbacks, multirun_end

        assert self.config is not None
        tell = JobCallbacks(self.context, self.task, self.config).tell
        with multirun_end(self.context.callbacks, self.config):
            # Says in one line if Optuna is not installed.
            from gan.sweep.search import run_search

            run_search(self.config, self.context.config_loader, arguments, tell)
