"""Training several runs as one program, on tensors that hold all of them."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gan.functional.compiled import ProgramStep, check_program, leave_gradients, on_device
from gan.functional.step import make_program
from gan.functional.tensors import (
    Tensors,
    as_tensors,
    differing,
    hyperparameters,
    named_tensors,
)
from gan.run.run import Run, thread_count
from gan.step import Batch, count_step, draw_batch, next_step_kind
from gan.vectorized.run_set import StepTimer, same_kinds_of_steps


class StackedRuns:
    """Runs that make every step together.

    The place of a run that left stays, and is trained with the values in it, until another run
    takes the place.

    Raises:
        NotSupported: the runs cannot be trained in this way. Nothing has changed.
    """

    def __init__(self, runs: Sequence[Run], *, compile: bool = False, capture: bool = False):
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
        if len(runs) > 1:
            two_runs = {name: torch.stack([t, t]) for name, t in self._own[widest].items()}
            two_runs |= {name: value[:2] for name, value in settings.items()}
            check_program(program, two_runs, _example_batch(widest))
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
        with thread_count(runs[0].cfg.threads):
            while not any(run.needs_attention for run in runs):
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

    def _train_one_step(self, runs: Sequence[Run]) -> None:
        started = self.timer.start()
        kind = next_step_kind(runs[0].parts, runs[0].state)
        batches = {run: draw_batch(run.parts, run.state, run.batches) for run in runs}
        batch = _stack_batches([batches[run or runs[0]] for run in self._places])
        result = self._program_step(self._stack, batch, kind)
        for run in runs:
            count_step(run.state, kind)
        self.timer.stop(started, kind, len(runs))
        for index, place in enumerate(self._places):
            if place and place.needs_attention:
                leave_gradients(place.parts, result, index)


def stack(runs: Sequence[Tensors]) -> Tensors:
    """Return tensors (runs, ...), and make each run's own tensors parts of them.

    Where runs differ in size, the narrower ones are padded with zeros at the end of each dimension.
    Training leaves the padding at zero: a weight that is zero and sees zeros has no gradient.
    """
    stacked = {}
    for name, first in runs[0].items():
        shapes = [run[name].shape for run in runs]
        size = [max(sizes) for sizes in zip(*shapes, strict=True)]
        stacked[name] = first.detach().new_zeros(len(runs), *size)
    for index, run in enumerate(runs):
        put_into_stack(run, stacked, index)
    return stacked


def put_into_stack(run: Tensors, stacked: Tensors, index: int) -> bool:
    """Give a run a place in a stack; return whether it fits. If not, nothing is changed."""
    for name, tensor in run.items():
        sizes = zip(tensor.shape, stacked[name].shape[1:], strict=True)
        if any(own > there for own, there in sizes):
            return False
    for name, tensor in run.items():
        place = stacked[name][index]
        place.zero_()
        part = place[tuple(map(slice, tensor.shape))]
        part.copy_(tensor.detach())
        tensor.data = part
    return True


def give_own_memory(run: Tensors) -> None:
    """Give a run's tensors memory of their own again."""
    for tensor in run.values():
        tensor.data = tensor.detach().clone()


def _example_batch(run: Run) -> Batch:
    """Return the batch of two such runs for a step that has every part."""
    every_part = run.parts._replace(penalty_interval=1, n_critic=1)
    noise = run.state.noise.get_state()
    batch = draw_batch(every_part, run.state, run.batches)
    run.state.noise.set_state(noise)
    return _stack_batches([batch, batch])


def _stack_batches(batches: Sequence[Batch]) -> Batch:
    def stack_tensors(*tensors: Tensor) -> Tensor:
        return torch.stack(tensors)

    first, *others = batches
    stacked: Batch = pytree.tree_map(stack_tensors, first, *others)
    return on_device(stacked)
