"""Training several runs as one program, on tensors that hold all of them."""

import time
from collections.abc import Sequence

from gan.functional.compiled import ProgramStep, leave_gradients
from gan.functional.step import make_program
from gan.functional.tensors import (
    as_tensors,
    differing,
    hyperparameters,
    named_tensors,
)
from gan.run.rounding import rounding_as
from gan.run.run import Run
from gan.step import count_step, draw_batch, next_step_kind
from gan.vectorized.confirm import compare_steps, model_of, refuse_undeclared
from gan.vectorized.run_set import StepTimer, same_kinds_of_steps
from gan.vectorized.stack import give_own_memory, put_into_stack, stack, stack_batches


class StackedRuns:
    """Runs that make every step together.

    When a run leaves, its place in the stack stays. The values in it are trained on, and read by
    nobody, until another run takes the place.

    Args:
        confirmed: the combinations of networks whose steps were found to be the same in a stack as
            alone. What is found out here is added.

    Raises:
        NotSupported: the runs cannot be trained in this way. Nothing has changed.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        compile: bool = False,
        capture: bool = False,
        confirmed: set[object] | None = None,
    ):
        refuse_undeclared(runs)
        self._places: list[Run | None] = list(runs)
        self.timer = StepTimer(runs[0].parts.device)
        self._own = {run: named_tensors(run.parts, run.state) for run in runs}
        numbers = [hyperparameters(run.cfg) for run in runs]
        varied = differing(numbers)
        # The program holds the modules of the widest run, because modules hold sizes.
        widest = max(runs, key=lambda run: sum(t.numel() for t in self._own[run].values()))
        program = make_program(widest.cfg, widest.parts, varied=varied, stacked=True)
        values = as_tensors(numbers, varied, widest.parts.device)
        settings = {f"settings/{name}": value for name, value in values.items()}
        self._confirmed = set() if confirmed is None else confirmed
        self._widest = model_of(widest)
        unknown = {run for run in runs if self._combination(run, varied) not in self._confirmed}
        if unknown:
            # One run with each model, and the last one, whose settings may be others.
            chosen = {model_of(run): run for run in (*reversed(runs), widest)}.values()
            tried = list(dict.fromkeys((*chosen, runs[-1])))
            index = [runs.index(run) for run in tried]
            compare_steps(program, tried, {name: v[index] for name, v in settings.items()})
            self._confirmed |= {self._combination(run, varied) for run in runs}
        self._program_step = ProgramStep(program, compile=compile, capture=capture)
        self._stack = stack([self._own[run] for run in runs]) | settings

    @property
    def runs(self) -> list[Run]:
        """See RunSet."""
        return [run for run in self._places if run]

    def train(self, seconds: float) -> None:
        """See RunSet."""
        deadline, runs = time.monotonic() + seconds, self.runs
        if not runs:
            return
        with rounding_as(runs[0].cfg):
            while not any(run.something_due for run in runs):
                self._train_one_step(runs)
                if time.monotonic() > deadline:
                    return

    def join(self, run: Run) -> bool:
        """See RunSet."""
        program, others = self._program_step.program, self.runs
        numbers = hyperparameters(run.cfg)
        if None not in self._places or not program.fits(numbers):
            return False
        if others and not same_kinds_of_steps(run, others[0]):
            return False
        if self._combination(run, program.varied) not in self._confirmed:
            return False
        own = named_tensors(run.parts, run.state)
        index = self._places.index(None)
        if not put_into_stack(own, self._stack, index):
            return False
        for name, value in as_tensors([numbers], program.varied, run.parts.device).items():
            self._stack[f"settings/{name}"][index] = value[0]
        self._places[index], self._own[run] = run, own
        return True

    def leave(self, run: Run) -> None:
        """See RunSet."""
        self._places[self._places.index(run)] = None
        give_own_memory(self._own.pop(run))

    def _combination(self, run: Run, varied: tuple[str, ...]) -> object:
        """Return everything that decides whether a run makes its own steps in this stack.

        These are its networks, the widest ones, and the numbers in which the runs differ.
        """
        return model_of(run), self._widest, varied

    def _train_one_step(self, runs: Sequence[Run]) -> None:
        started = self.timer.start()
        kind = next_step_kind(runs[0].parts, runs[0].state)
        batches = {
            run: draw_batch(run.parts, run.state, run.batches, schedules=run.schedules)
            for run in runs
        }
        batch = stack_batches([batches[run or runs[0]] for run in self._places])
        result = self._program_step(self._stack, batch, kind)
        for run in runs:
            count_step(run.state, kind)
        self.timer.stop(started, kind, len(runs))
        for index, place in enumerate(self._places):
            if place and place.something_due:
                leave_gradients(place.parts, result, index)
