"""hydra/launcher=local"""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """The settings are those of conf/hydra/launcher/local.yaml."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.loader = hydra_context.config_loader

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        from gan.sweep.launch import launch

        return launch(self.config, self.loader, job_overrides, self.execute())

    def execute(self) -> Any:
        """A gan.sweep.launch.Execute."""
        from gan.config import check_ranges
        from gan.sweep.launch import locally

        check_ranges(self.config.hydra.launcher, "hydra.launcher.")
        return locally(self.settings)
