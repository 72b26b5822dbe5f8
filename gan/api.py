"""The package from Python: train, sweep, read runs and draw samples, as the command line does.

These functions are attributes of the package: `gan.compose`, `gan.run`, and so on. A mistake of the
caller's is a `gan.errors.UserError` with a message of one line.
"""

import math
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from omegaconf import DictConfig

from gan.config.checks import checked, is_under
from gan.config.compose import (
    CONFIG_NAME,
    chosen_options,
    compose_or_explain,
    config_loader,
    split_words,
    take_out_hydra,
)
from gan.config.overrides import as_override
from gan.config.spaces import read_dimension
from gan.errors import UserError
from gan.system.files import expanded
from gan.system.startup import shorten_waits

# torch, pandas and Hydra's plugins take seconds to import. Each function waits for what it needs.
if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor

    from gan.compare.read import StoredRun
    from gan.run.trained import TrainedGenerator

Grid = Mapping[str, Any]
"""Values by key. A list, tuple or range holds values to sweep over; anything else is one value."""


def compose(*words: str) -> DictConfig:
    """Return the configuration that `gan train WORDS` would run.

    Raises:
        UserError: an override names no key, its value has the wrong type or range, or it is about a
            sweep or a directory.
    """
    return _composed(words)[0]


def _composed(words: Sequence[str]) -> tuple[DictConfig, dict[str, str], bool]:
    """Return a configuration, the chosen options of its config groups, and True for a sweep."""
    from hydra.types import RunMode

    from gan.commands.command_line import OF_SWEEPS

    for word in split_words(words)[1]:
        key = word.lstrip("+~").partition("=")[0].replace("/", ".")
        if is_under(key, OF_SWEEPS):
            raise UserError(f"{word}: is about a sweep, and this is one run; see gan.sweep")
        if is_under(key, ["hydra.run"]):
            raise UserError(f"{word}: has no effect here; give run_dir=DIR to gan.run")
    cfg = compose_or_explain(words, with_hydra=True)
    choices, is_sweep = chosen_options(cfg.hydra), cfg.hydra.mode is RunMode.MULTIRUN
    take_out_hydra(cfg)
    return checked(cfg), choices, is_sweep


@dataclass(frozen=True)
class TrainedRun:
    """A run in its directory: what became of it, its curves and its samples.

    A notebook shows its newest samples, its status and its objective. Everything is read from the
    directory when it is asked for.
    """

    run_dir: Path

    @property
    def status(self) -> str:
        """The way it ended: completed, diverged, pruned, interrupted or failed; or running."""
        return self._stored.status()

    @property
    def objective(self) -> float:
        """The last value of its objective: the worst possible one if it diverged, NaN if it has
        none."""
        return _objective(self._stored)

    @property
    def history(self) -> "pd.DataFrame":
        """A table of everything that was logged: a row for each line of metrics.jsonl."""
        return history(self.run_dir)

    def samples(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        labels: int | Sequence[int] | None = None,
        truncation: float | None = None,
    ) -> "Tensor":
        """Return samples of the newest checkpoint, see `gan.sample`."""
        return sample(self.run_dir, n, seed=seed, labels=labels, truncation=truncation)

    def plot(self) -> "Figure":
        """Return a figure of both losses, of D(x) and D(G(z)), and of each metric over the steps.

        A notebook shows it as the last line of a cell. Elsewhere, `savefig` writes it.
        """
        from gan.run.curves import draw_curves

        return draw_curves(self.history)

    def __float__(self) -> float:
        """Return the objective, for those who optimize it."""
        return self.objective

    def __repr__(self) -> str:
        return f"<TrainedRun {self.run_dir}: {self._summary()}>"

    def _repr_html_(self) -> str:
        """Return the newest samples and a line, for a notebook."""
        from gan.run.pictures import sample_files

        text = escape(f"{self.run_dir}: {self._summary()}")
        if not (grids := sample_files(self.run_dir)):
            return f"<div>{text}</div>"
        data = b64encode(grids[max(grids)].read_bytes()).decode()
        style = "width: 400px; max-width: 100%; image-rendering: pixelated"
        picture = f'<img alt="samples" style="{style}" src="data:image/png;base64,{data}">'
        return f"<div>{picture}<br>{text}</div>"

    @property
    def _stored(self) -> "StoredRun":
        from gan.compare.read import read_run

        return read_run(self.run_dir)

    def _summary(self) -> str:
        stored = self._stored
        name, value = stored.config["metrics.objective"], _objective(stored)
        measured = f", {name} {value:.4g}" if name in stored.final else ""
        return f"{stored.status()} at step {stored.steps}{measured}"


def _objective(stored: "StoredRun") -> float:
    from gan.run.result import objective

    if stored.finished:
        return objective(stored.result)
    return float(stored.final.get(stored.config["metrics.objective"], math.nan))


@overload
def run(config: DictConfig, run_dir: str | Path, /) -> TrainedRun: ...
@overload
def run(config: DictConfig, /, *, run_dir: str | Path) -> TrainedRun: ...
@overload
def run(*overrides: str, run_dir: str | Path) -> TrainedRun: ...
def run(*config: Any, run_dir: str | Path | None = None) -> TrainedRun:
    """Train one GAN in this process, continue it, or find a finished run in its directory.

        digits = gan.run("model.hidden_dim=64", "trainer.max_steps=500", run_dir="outputs/small")
        gan.run(gan.compose("loss=hinge"), "outputs/hinge").objective

    A notebook shows the progress below the cell, unless `logging.progress` is false.

    Args:
        config: a configuration of `gan.compose`, or overrides as on the command line.
        run_dir: the run's directory, made if missing. An interrupted run there continues.

    Returns:
        The run, with its `objective`, `status`, `history`, `samples()` and `plot()`.

    Raises:
        UserError: the configuration is wrong or another one than that of the run in `run_dir`.
        KeyboardInterrupt: the run was stopped, and a checkpoint is saved.
    """
    shorten_waits()
    from gan.run.notebook import in_notebook, notebook_progress
    from gan.train import run as train

    overrides = [text for text in config if isinstance(text, str)]
    choices = None
    if overrides == list(config) and run_dir is not None:
        cfg, choices, is_sweep = _composed(overrides)
        if is_sweep:
            raise UserError(
                f"{' '.join(overrides)}: is a sweep, and gan.run trains one run; see gan.sweep"
            )
        places, sets = split_words(overrides)
        overrides = [*(f"--{name}={place}" for name, place in places.items()), *sets]
        folders = [run_dir]
    else:
        cfg, *folders = [*config, *([] if run_dir is None else [run_dir])] or [None]
    if not isinstance(cfg, DictConfig) or len(folders) != 1:
        raise UserError("gan.run: takes a configuration, or overrides, and run_dir=DIR")
    on_progress = notebook_progress() if in_notebook() and cfg.logging.progress else None
    folder = _expanded(folders[0])
    train(cfg, folder, overrides=overrides, choices=choices, on_progress=on_progress)
    return TrainedRun(folder)


def open_run(run_dir: str | Path) -> TrainedRun:
    """Return the run in a directory, whoever trained it, and also while it trains.

    Raises:
        UserError: the directory is not a run's.
    """
    from gan.run.directory import read_config

    read_config(_expanded(run_dir))
    return TrainedRun(_expanded(run_dir))


def sweep(
    points: str | Grid | Sequence[Grid],
    *overrides: str,
    sweep_dir: str | Path,
    launcher: str | None = None,
) -> "pd.DataFrame":
    """Train many runs in worker processes, and return a table of them.

        gan.sweep({"optimizer.lr": [1e-4, 2e-4], "model": ["small", "base"]}, sweep_dir="outputs/a")
        gan.sweep([{"loss": "hinge"}, {"loss": "wasserstein", "penalty": "wgan_gp"}],
                  "trainer.max_steps=500", sweep_dir="outputs/b")
        gan.sweep("optimizer.lr=1e-4,2e-4", "sweep.seeds=5", sweep_dir="outputs/c")
        gan.sweep({"penalty": ["none", "r1"], "penalty.gamma": "when(penalty=r1, 1,10)"},
                  sweep_dir="outputs/d")

    Runs have the names and identities that the same sweep has on the command line. Repeat a call
    that was interrupted, and it runs what is left. Another call with the same directory adds runs.
    A loss or model of your own must be in a module that a new process can import, not in a cell of
    a notebook.

    Args:
        points: values by key, of which every combination is trained; or a list of points, each
            with its values by key; or the first of the overrides.
        overrides: what all points share, and settings of the sweep, as on the command line;
            `--config-dir=FOLDER` too.
        sweep_dir: the directory of the sweep.
        launcher: where runs are executed: local, vectorized, slurm or ray. None takes that of the
            configuration, which is local unless an experiment names another.

    Returns:
        The table of `load_runs` for all runs in the directory; an empty one for a dry run, and for
        a sweep that is handed over to a cluster.

    Raises:
        UserError: the sweep cannot be planned, and nothing has started.
        JobsFailed: some runs failed. `load_runs(sweep_dir)` says why.
        KeyboardInterrupt: the sweep was stopped, and can be resumed.
    """
    from hydra.core.global_hydra import GlobalHydra

    from gan.commands.command_line import as_user_error
    from gan.commands.train import train
    from gan.launchers.controller import read_state
    from gan.sweep import SWEEP_FILE

    sweep_dir = _expanded(sweep_dir)
    texts = [*_as_overrides(points, overrides), *overrides]
    texts += [f"hydra.sweep.dir={as_override(str(sweep_dir))}"]
    texts += [f"hydra/launcher={launcher}"] if launcher else []
    # The command line explains an error, too.
    with _command_line("--multirun", *texts):
        try:
            places, sets = split_words(texts)
            with config_loader(texts):
                hydra: Any = GlobalHydra.instance().hydra
                name = places.get("config-name", CONFIG_NAME)
                hydra.multirun(name, train, sets, with_log_configuration=False)
        except Exception as error:
            user_error = as_user_error(error)
            if user_error is None:
                raise
            raise user_error from error
    if not (sweep_dir / SWEEP_FILE).exists() or read_state(sweep_dir):
        import pandas as pd

        # With sweep.dry_run=true there are no runs, and on a cluster they have not begun.
        return pd.DataFrame()
    return load_runs(sweep_dir)


def load_runs(*paths: str | Path, keys: Sequence[str] = ()) -> "pd.DataFrame":
    """Return a table of the runs at and anywhere below the paths, a row for each run.

    Its columns are the configuration keys in which the runs differ, by short names, and `status`,
    metrics, times and paths: see `gan.compare.frame.load`.

    Args:
        keys: further keys of the configuration that become columns, such as `trainer.pac`.

    Raises:
        UserError: there is no run, or no such key.
    """
    from gan.compare.frame import load

    return load(*map(_expanded, paths), keys=keys)


def history(run_dir: str | Path) -> "pd.DataFrame":
    """Return everything that a run has logged as a table, sorted by step.

    The columns are `step`, `epoch`, and losses, metrics and other values by name.

    Raises:
        UserError: the directory is not a run's.
    """
    from gan.compare.frame import history

    return history(_expanded(run_dir))


def load_generator(
    path: str | Path,
    weights: str = "auto",
    *,
    checkpoint: str = "newest",
    standing: int = 0,
    device: str = "cpu",
) -> "TrainedGenerator":
    """Return the trained generator of a run, in evaluation mode.

    Called with latents (n, `latent_dim`), and with int64 labels (n,) if `classes` is not 0, it
    returns images (n, channels, height, width) in [-1, 1], or points (n, 2).

    Args:
        path: the run's directory, or a .safetensors file that `gan export` wrote. It names the
            function that builds the network: one that you or a config group here have named.
        weights: average, generator, or auto, which takes averaged weights if the run has them.
        checkpoint: newest, or best, the best step by `trainer.keep_best`.
        standing: batches from which batch norm takes its statistics anew (arXiv:1809.11096); 0
            keeps those of training.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: there is no run, no such checkpoint, no such weights, no such device or no
            batch norm.
    """
    from gan.build import find_device
    from gan.run.trained import load_generator, take_standing_statistics

    trained = load_generator(_expanded(path), weights, checkpoint).to(find_device(device))
    take_standing_statistics(trained, standing)
    return trained


def sample(
    source: "str | Path | TrainedGenerator",
    n: int = 64,
    *,
    seed: int = 0,
    labels: int | Sequence[int] | None = None,
    truncation: float | None = None,
) -> "Tensor":
    """Return samples of a run, on the CPU: the same as `gan generate` draws for this seed.

    Args:
        source: as for `load_generator`, or what it returned.
        n: the number of samples.
        seed: the seed of the latents.
        labels: for a conditional generator the class of all samples, or n classes. None draws a
            row for each class in turn, the same latents in every row, as many as fit into n.
        truncation: a threshold beyond which latents are drawn again (arXiv:1809.11096).

    Returns:
        uint8 images (n, channels, height, width), or points, vectors and series (n, *shape) in the
        data's own units.

    Raises:
        UserError: there is no generator, or n, the labels or the truncation are wrong.
    """
    from gan.run.trained import sample

    loaded = load_generator(source) if isinstance(source, str | Path) else source
    return sample(loaded, n, seed, labels, truncation).cpu()


def _expanded(path: str | Path) -> Path:
    """Return a path with the user's home for `~`, as the command line has it."""
    return Path(expanded(str(path)))


def _as_overrides(points: str | Grid | Sequence[Grid], shared: Sequence[str]) -> list[str]:
    """Return the overrides that sweep over the points.

    Args:
        shared: further overrides, which must not set a key of the points.
    """
    if isinstance(points, str):
        return [points]
    for point in [points] if isinstance(points, Mapping) else points:
        for text in shared:
            if text.partition("=")[0] in point:
                raise UserError(f"gan.sweep: {text} is set for all points, and by a point itself")
    if isinstance(points, Mapping):
        return [f"{key}={_swept(key, value)}" for key, value in points.items()]
    lists = [[f"{key}={as_override(value)}" for key, value in point.items()] for point in points]
    if not lists:
        raise UserError("gan.sweep: there are no points")
    return [f"hydra.sweeper.points={as_override(lists)}"]


def _swept(key: str, value: Any) -> str:
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, str) and read_dimension(f"{key}={plain}"):
        return plain
    if not isinstance(plain, list | tuple | range):
        return as_override(plain)
    if not plain:
        raise UserError(f"{key}: has no values")
    return f"choice({','.join(map(as_override, plain))})"


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    """Let this process have a command line in the block. A sweep keeps it, to be resumed by it."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before
