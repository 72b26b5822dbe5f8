"""Training several runs one after the other."""

import time
from collections.abc import Sequence

from gan.errors import NotSupported
from gan.functional.compiled import ProgramStep
from gan.functional.run_step import make_step
from gan.functional.step import make_program
from gan.functional.tensors import (
    Tensors,
    as_tensors,
    differing,
    hyperparameters,
    named_tensors,
)
from gan.run.run import Run
from gan.step import Batch, Step, StepKind, eager_step, next_step_kind
from gan.train import train_one_step
from gan.vectorized.confirm import refuse_undeclared
from gan.vectorized.run_set import RunFailed, StepTimer, weight_sizes


class SequentialRuns:
    """Runs that are trained one after the other, each to its end.

    Args:
        compile: compile one program that all runs share.
        as_configured: make the steps of each run as its own configuration says.
    """

    def __init__(self, runs: Sequence[Run], *, compile: bool = False, as_configured: bool = False):
        self.runs = list(runs)
        self.timer = StepTimer(runs[0].parts.device)
        self._as_configured = as_configured
        self._program_step: ProgramStep | None = None
        if compile:
            refuse_undeclared(runs[:1])
            varied = differing([hyperparameters(run.cfg) for run in runs])
            program = make_program(runs[0].cfg, runs[0].parts, varied=varied)
            self._program_step = ProgramStep(program, compile=True)
        self._sizes = weight_sizes(runs[0])
        self._steps: dict[Run, Step] = {}

    def train(self, seconds: float) -> None:
        """See RunSet."""
        if not self.runs:
            return
        run, deadline = self.runs[0], time.monotonic() + seconds
        try:
            with run.active():
                while not run.something_due:
                    started, kind = self.timer.start(), next_step_kind(run.parts, run.state)
                    train_one_step(run, self._step_of(run))
                    self.timer.stop(started, kind, 1)
                    if time.monotonic() > deadline:
                        return
        except NotSupported:
            raise
        except Exception as error:
            raise RunFailed(run, error) from error

    def join(self, run: Run) -> bool:
        """See RunSet."""
        if self._program_step:
            fits = self._program_step.program.fits(hyperparameters(run.cfg))
            if not fits or weight_sizes(run) != self._sizes:
                return False
        self.runs.append(run)
        return True

    def leave(self, run: Run) -> None:
        """See RunSet."""
        self.runs.remove(run)
        self._steps.pop(run, None)

    def _step_of(self, run: Run) -> Step:
        if run not in self._steps:
            self._steps[run] = self._make_step(run)
        return self._steps[run]

    def _make_step(self, run: Run) -> Step:
        if self._as_configured:
            return make_step(run)
        program_step = self._program_step

        def eager(batch: Batch, kind: StepKind) -> None:
            eager_step(run.parts, run.state, batch, kind)

        if not program_step:
            return eager
        tensors = named_tensors(run.parts, run.state) | self._settings(run, program_step)

        def compiled(batch: Batch, kind: StepKind) -> None:
            program_step.train(tensors, run.parts, batch, kind)

        return compiled

    def _settings(self, run: Run, program_step: ProgramStep) -> Tensors:
        """Return the run's own values of the hyperparameters in which runs differ."""
        varied, device = program_step.program.varied, run.parts.device
        values = as_tensors([hyperparameters(run.cfg)], varied, device)
        return {f"settings/{name}": value[0] for name, value in values.items()}
