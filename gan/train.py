"""Train one GAN, from a configuration to a finished run directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals
from typing import Protocol

from omegaconf import DictConfig

from gan.config.checks import checked
from gan.data import Batches
from gan.distributed.processes import current_processes
from gan.distributed.shared import Training, rehearsal, shared_training
from gan.errors import NotFinite
from gan.functional.run_step import make_step, profiled
from gan.run.progress import OnProgress
from gan.run.result import Status
from gan.run.run import Run
from gan.run.signals import deferred_stop
from gan.run.state import check_first_step
from gan.schedules import Schedule
from gan.step import Step, count_step, draw_batch, next_step_kind


class Stop(Protocol):
    """Tells whether training is to stop."""

    @property
    def signal(self) -> Signals | None:
        """The signal that asks for it, if any."""


class Trained(Training, Protocol):
    """The part of a run that a step needs."""

    @property
    def batches(self) -> Batches:
        """The batches of the data."""

    @property
    def schedules(self) -> dict[str, Schedule]:
        """The numbers that change while the run trains."""


def run(
    cfg: DictConfig,
    run_dir: str | Path,
    *,
    overrides: Sequence[str] = (),
    choices: Mapping[str, str] | None = None,
    extend: bool = False,
    restart: bool = False,
    on_progress: OnProgress | None = None,
) -> float:
    """Train one GAN in `run_dir`, continue there, or return the objective of a finished run.

    Args:
        cfg: a composed configuration. It is not changed.
        run_dir: made if missing.
        overrides: the command line that gave `cfg`, kept with the run.
        choices: the chosen options of the config groups, kept with the run.
        extend: let a run that exists go on to the length of `cfg`, where that is another one.
        restart: begin a run that exists again at its first step, without what it has saved.
        on_progress: called with each report of progress, in place of a bar on the terminal.

    Returns:
        The objective that a sweeper improves: the last value of `cfg.metrics.objective`. It is the
        worst possible infinity if the run diverged or was never measured, and NaN if the run has no
        objective.

    Raises:
        UserError: the configuration is wrong, differs from the one that `run_dir` was made with,
            or the directory cannot be written. A mistake that is found before the first step
            leaves nothing behind; one that only a step shows leaves a run with the status failed.
        Interrupted: a signal to stop arrived, and a checkpoint is saved.
    """
    with Run.open(
        checked(cfg),
        Path(run_dir),
        overrides,
        choices=choices,
        on_progress=on_progress,
        extend=extend,
        restart=restart,
        check=rehearsal(),
    ) as opened:
        if not opened.finished:
            with opened.active():
                train(opened)
    return opened.objective


def train(run: Run) -> None:
    """Train a run from its present step to its end."""
    with deferred_stop() as stop:
        if processes := current_processes():
            with shared_training(processes, run, stop) as shared:
                _train(run, profiled(run, shared.step), shared)
        else:
            _train(run, make_step(run), stop)


def _train(run: Run, step: Step, stop: Stop) -> None:
    while not run.finished:
        train_one_step(run, step)
        run.stop_signal = stop.signal
        after_step(run)


def train_one_step(run: Trained, step: Step) -> None:
    """Update the discriminator, then the generator, on the run's next batch."""
    kind = next_step_kind(run.parts, run.state)
    batch = draw_batch(run.parts, run.state, run.batches, schedules=run.schedules)
    step(batch, kind)
    count_step(run.state, kind)


def after_step(run: Run) -> None:
    """Do what is due after a step: record, evaluate, draw samples, save, stop, finish.

    Raises:
        Interrupted: the run was asked to stop, and a checkpoint is saved.
        UserError: a checkpoint could not hold everything that the run needs to go on.
    """
    run.describe()
    check_first_step(run.parts, run.state)
    try:
        if run.something_due:
            run.check_finite()
        if run.record_due:
            run.record(evaluate=run.evaluation_due)
        if run.samples_due:
            run.draw_samples()
    except NotFinite as error:
        run.finish(Status.DIVERGED, str(error))
        return
    if run.checkpoint_due:
        run.save_checkpoint()
    run.report_progress()
    run.note_handled()
    run.stop_if_asked()
    if run.step == run.total_steps and not run.finished:
        run.finish(run.final_status)
