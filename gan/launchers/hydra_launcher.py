"""What the Hydra launchers of this package have in common: they differ in their settings."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class SweepLauncher(Launcher):
    """Runs jobs in the pool that gan.sweep.launch.PLACES has for the class's name."""

    def __init__(self, **settings: Any):
        pass

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
        from gan.config.checks import check_ranges
        from gan.sweep.launch import in_pool

        check_ranges(self.config.hydra.launcher, "hydra.launcher.")
        settings = OmegaConf.to_container(self.config.hydra.launcher, resolve=True)
        assert isinstance(settings, dict)
        return in_pool({str(key): value for key, value in settings.items()})
