"""Train one GAN, from a configuration to a finished run directory."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Protocol

from omegaconf import DictConfig

from gan.config.checks import checked
from gan.data import Batches
from gan.errors import NotFinite, UserError
from gan.processes import current
from gan.run.progress import OnProgress
from gan.run.result import Status
from gan.run.run import Run
from gan.run.signals import deferred_stop
from gan.run.state import check_first_step
from gan.schedules import Schedule
from gan.shared import Training, rehearsal, shared_training
from gan.step import Batch, StepKind, count_step, draw_batch, eager_step, next_step_kind

Step = Callable[[Batch, StepKind], None]
"""Updates the networks of one run on a batch."""


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
    on_progress: OnProgress | None = None,
) -> float:
    """Train one GAN in `run_dir`, continue there, or return the objective of a finished run.

    Args:
        cfg: a composed configuration. It is not changed.
        run_dir: made if missing.
        overrides: the command line that gave `cfg`, kept with the run.
        choices: the chosen options of the config groups, kept with the run.
        extend: let a run that exists go on to the length of `cfg`, where that is another one.
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
        check=rehearsal(),
    ) as opened:
        if not opened.finished:
            with opened.active():
                train(opened)
    return opened.objective


def train(run: Run) -> None:
    """Train a run from its present step to its end."""
    with deferred_stop() as stop:
        if processes := current():
            with shared_training(processes, run, stop) as shared:
                _train(run, _profiled(run, shared.step), shared)
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


def make_step(run: Run) -> Step:
    """Return the function that makes the steps of a run: eager, compiled or captured.

    Raises:
        UserError: the run cannot be compiled or captured.
    """
    trainer = run.cfg.trainer
    step: Step = partial(eager_step, run.parts, run.state)
    if trainer.compile or trainer.cuda_graphs:
        # Importing the compiler takes seconds that an eager run does not need.
        from gan.functional.compiled import make_compiled_step

        if run.falls_back_to_eager and trainer.compile:
            step = _compiled_if_possible(run, step)
        else:
            step = make_compiled_step(run.cfg, run.parts, run.state)
    return _profiled(run, step)


def _compiled_if_possible(run: Run, eager: Step) -> Step:
    """Return the compiled step of a run, which becomes its eager one if it cannot be compiled."""
    from gan.functional.compiled import make_compiled_step

    chosen: Step | None = None

    def step(batch: Batch, kind: StepKind) -> None:
        nonlocal chosen
        try:
            chosen = chosen or make_compiled_step(run.cfg, run.parts, run.state)
            chosen(batch, kind)
        except UserError as error:
            # Nothing has changed yet, because the step is compiled before any of it is computed.
            run.keep_eager(str(error))
            chosen = eager
            eager(batch, kind)

    return step


def _profiled(run: Run, step: Step) -> Step:
    if not run.cfg.trainer.profile:
        return step
    # Importing the profiler takes a second, and few runs use it.
    from gan.run.profile import profiler

    note_step = run.while_training(profiler(run.run_dir / "profile"))

    def profiled_step(batch: Batch, kind: StepKind) -> None:
        step(batch, kind)
        note_step()

    return profiled_step
