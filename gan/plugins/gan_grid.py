"""The plugins behind hydra/sweeper=grid and hydra/sweeper=random, which know all points before they
start."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from gan.sweep.space import Space
    from gan.sweep.sweep import Candidates


class GridSweeper(Sweeper):
    """A sweeper over every combination of values. Its settings: conf/hydra/sweeper/grid.yaml."""

    def __init__(self, params: Mapping[str, Any], points: Sequence[Sequence[str]] = ()):
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
        """Run every point."""
        # Imported late, because Hydra imports every plugin even for --help.
        from gan.launchers.base import Launcher
        from gan.sweep.callbacks import JobCallbacks, multirun_end
        from gan.sweep.space import read_space
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
            candidates = self.make_candidates(read_space(loader, arguments, self.params))
            ours = launcher if isinstance(launcher, Launcher) else None
            returned = run_sweep(self.config, loader, candidates, execute, ours)
            raise_failure(returned)
        return returned

    def make_candidates(self, space: "Space") -> "Candidates":
        """Return every combination of the swept values."""
        from gan.sweep.sweep import Candidates

        _check_points(self.points, space.keys)
        combinations = list(space.points())
        points = [[*others, *one] for one in self.points or [[]] for others in combinations]
        in_points = {text.partition("=")[0].lstrip("+") for one in self.points for text in one}
        return Candidates(points, {*space.keys, *in_points})

    def _make_launcher(self, loader: ConfigLoader) -> HydraLauncher:
        assert self.config is not None
        context = replace(self.context, config_loader=loader)
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=self.task, config=self.config
        )


def _check_points(points: Any, swept: Sequence[str]) -> None:
    """Check `hydra.sweeper.points`: lists of overrides with one value each.

    Raises:
        UserError: they are something else, or a point sets a key that is swept over as well.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from gan.config.overrides import with_quotes
    from gan.errors import UserError

    form = "must be a list of points such as [['loss=hinge'],['loss=minimax','seed=1']]"
    if OmegaConf.is_config(points):
        points = OmegaConf.to_container(points, resolve=True)
    if not isinstance(points, list | tuple):
        raise UserError(f"hydra.sweeper.points={points}: {form}")
    for point in points:
        if not isinstance(point, list | tuple) or not all(
            isinstance(text, str) and "=" in text for text in point
        ):
            raise UserError(f"hydra.sweeper.points: {point} is no point, the points {form}")
        for text in point:
            try:
                override = OverridesParser.create().parse_override(with_quotes(text))
            except HydraException as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"hydra.sweeper.points: {text} cannot be read ({reason})") from None
            if override.is_sweep_override():
                raise UserError(
                    f"hydra.sweeper.points: {text} has several values; give a point each"
                )
            if (key := text.partition("=")[0].lstrip("+")) in swept:
                raise UserError(f"hydra.sweeper.points: {text} sets {key}, which is swept over too")


class RandomSweeper(GridSweeper):
    """A sweeper over points drawn at random. Its settings: conf/hydra/sweeper/random.yaml."""

    def __init__(self, params: Mapping[str, Any], n_trials: int):
        super().__init__(params)
        self.n_trials = n_trials

    def make_candidates(self, space: "Space") -> "Candidates":
        """Return as many points as trials are asked for."""
        from gan.config.checks import check_ranges
        from gan.sweep.draw import random_points
        from gan.sweep.sweep import Candidates

        assert self.config is not None
        check_ranges(self.config.hydra.sweeper, "hydra.sweeper.")
        points = random_points(space, int(self.config.seed))
        return Candidates(points, {*space.keys}, limit=self.n_trials)
