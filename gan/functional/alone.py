"""How a run that is trained by itself makes its steps."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from gan.build import Parts
from gan.data import Batches
from gan.errors import Unfit, UserError
from gan.run.state import State
from gan.step import Batch, Played, advance, due, next_batch, passed

if TYPE_CHECKING:
    from gan.functional.compiled import Program
    from gan.functional.tensors import Tensors


def stepper(cfg: DictConfig, parts: Parts, state: State, batches: Batches) -> Callable[[], None]:
    """Makes one training step when called.

    Raises:
        UserError: the run cannot be compiled; when called, too.
    """
    wanted = [f"trainer.{name}" for name in ("compile", "cuda_graphs") if cfg.trainer[name]]
    if not wanted:
        return partial(advance, parts, state, batches)
    # Seconds that a run as it is has no use for.
    from gan.functional.compiled import Program, blueprint
    from gan.functional.tensors import tensors

    try:
        own = tensors(parts, state)
    except Unfit as error:
        raise UserError(f"{wanted[0]}=true: {error}") from error
    program = Program(
        blueprint(cfg, parts), compile=cfg.trainer.compile, capture=cfg.trainer.cuda_graphs
    )

    def train() -> None:
        try:
            advance_by(program, own, parts, state, batches)
        except Unfit as error:
            raise UserError(f"{wanted[0]}=true: {error}") from error

    return train


def advance_by(
    program: "Program", own: "Tensors", parts: Parts, state: State, batches: Batches
) -> None:
    """Train one run on the next batch as `gan.step.advance` does, by a program.

    Args:
        own: its tensors, and settings that the program takes as such.
    """
    batch, turns = next_batch(parts, state, batches), due(parts, state.step)
    leave_gradients(parts, program(own, on_device(batch), **turns))
    passed(state, **turns)


def on_device(batch: Batch) -> Batch:
    """A batch all of whose tensors are where its samples are."""
    return batch._replace(kept=batch.kept.to(batch.real.device, non_blocking=True))


def leave_gradients(parts: Parts, played: Played, index: int | None = None) -> None:
    """Where a record looks for them.

    Args:
        index: of the run among the members of what was played, if there are such.
    """
    for network, gradients in (
        (parts.generator, played.generator),
        (parts.discriminator, played.discriminator),
    ):
        # There are none where it had no turn.
        for weight, gradient in zip(network.parameters(), gradients, strict=bool(gradients)):
            if gradient is not None and index is not None:
                gradient = gradient[index][tuple(map(slice, weight.shape))]
            weight.grad = gradient
