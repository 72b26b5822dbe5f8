"""How a run that is trained by itself makes its steps."""

from collections.abc import Callable, Sequence
from functools import partial

from omegaconf import DictConfig
from torch import Tensor, nn

from gan.build import Parts
from gan.data import Batches
from gan.errors import UserError
from gan.program.errors import Unfit
from gan.state import State
from gan.step import Batch, Played, advance, due, next_batch, passed


def stepper(cfg: DictConfig, parts: Parts, state: State, batches: Batches) -> Callable[[], None]:
    """Makes one training step when called.

    Raises:
        UserError: the run cannot be compiled; when called, too.
    """
    wanted = [f"trainer.{name}" for name in ("compile", "cuda_graphs") if cfg.trainer[name]]
    if not wanted:
        return partial(advance, parts, state, batches)
    if cfg.trainer.cuda_graphs and parts.device.type != "cuda":
        raise UserError(f"trainer.cuda_graphs=true: needs a CUDA device, not {parts.device}")
    # Seconds that a run as it is has no use for.
    from gan.program.program import Program, blueprint
    from gan.program.tensors import tensors

    try:
        own = tensors(parts, state)
    except Unfit as error:
        raise UserError(f"{wanted[0]}=true: {error}") from error
    program = Program(
        blueprint(cfg, parts), compile=cfg.trainer.compile, capture=cfg.trainer.cuda_graphs
    )

    def train() -> None:
        batch, turns = next_batch(parts, state, batches), due(parts, state.step)
        try:
            played = program(own, on_device(batch), **turns)
        except Unfit as error:
            raise UserError(f"{wanted[0]}=true: {error}") from error
        leave_gradients(parts, played)
        passed(state, **turns)

    return train


def on_device(batch: Batch) -> Batch:
    """A batch all of whose tensors are where its samples are."""
    return batch._replace(kept=batch.kept.to(batch.real.device, non_blocking=True))


def leave_gradients(parts: Parts, played: Played) -> None:
    """Where a record looks for them."""
    for network, gradients in (
        (parts.generator, played.generator),
        (parts.discriminator, played.discriminator),
    ):
        _leave(network, gradients)


def _leave(network: nn.Module, gradients: Sequence[Tensor | None]) -> None:
    if gradients:
        for weight, gradient in zip(network.parameters(), gradients, strict=True):
            weight.grad = gradient
