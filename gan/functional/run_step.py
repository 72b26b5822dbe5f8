"""The function that makes the training steps of a run: eager, compiled or captured."""

from functools import partial

from gan.errors import UserError
from gan.run.run import Run
from gan.step import Batch, Step, StepKind, eager_step


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
    return profiled(run, step)


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


def profiled(run: Run, step: Step) -> Step:
    """Return the step, with a profile of some of its calls in `run_dir` if the run asks for one."""
    if not run.cfg.trainer.profile:
        return step
    # Importing the profiler takes a second, and few runs use it.
    from gan.run.profile import profiler

    note_step = run.while_training(profiler(run.run_dir / "profile"))

    def profiled_step(batch: Batch, kind: StepKind) -> None:
        step(batch, kind)
        note_step()

    return profiled_step
