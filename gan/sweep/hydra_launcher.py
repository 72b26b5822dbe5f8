"""Hydra's interface to the launchers of this package."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gan.config.loader import as_given
from gan.launchers.base import Launcher


class SweepLauncher(HydraLauncher):
    """The part of a launcher plugin that Hydra calls.

    A plugin derives from this class and from a `gan.launchers.base.Launcher`, which executes the
    attempts.
    """

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what `launch` needs."""
        self.config = config
        self.context = hydra_context
        self.task = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a sweep over these points, for a sweeper that calls launchers as Hydra's own do."""
        # Imported late, because Hydra imports every plugin even for --help.
        from gan.sweep.callbacks import JobCallbacks
        from gan.sweep.space import of_runs, read_space
        from gan.sweep.sweep import Candidates, check_launcher, in_launcher, run_sweep

        assert isinstance(self, Launcher)
        check_launcher(self.config)
        execute = in_launcher(self, JobCallbacks(self.context, self.task, self.config).tell)
        loader, given = self.context.config_loader, as_given(self.config.hydra.overrides.task)
        points = [of_runs(point) for point in job_overrides]
        candidates = Candidates(points, read_space(loader, given, {}).keys)
        return run_sweep(self.config, loader, candidates, execute, self)
