"""Loss scaling: exact where float32 suffices, and steps that are left out where it does not."""

from collections.abc import Sequence

import pytest
import torch
from runs import short
from torch import Tensor
from torch.utils import _pytree as pytree

from gan import arithmetic
from gan.build import Parts, build
from gan.errors import UserError
from gan.functional.compiled import ProgramStep
from gan.functional.step import make_program
from gan.functional.tensors import named_tensors
from gan.run.state import from_checkpoint, initial_state, to_checkpoint
from gan.step import StepKind, count_step, draw_batch, eager_step, next_step_kind
from gan.vectorized.stack import stack

ROLES = ("generator", "discriminator")
CPU = torch.device("cpu")


def test_gradients_are_divided_by_the_scale_which_grows_and_shrinks() -> None:
    state = torch.tensor([1024.0, arithmetic.STEPS_TO_DOUBLE - 2])
    gradients = [torch.tensor([1024.0, -2048.0]), None, torch.tensor(512.0)]
    unscaled, finite = arithmetic.unscale(gradients, state)
    assert finite
    assert unscaled[1] is None
    assert [one.tolist() for one in unscaled if one is not None] == [[1, -2], 0.5]
    assert state.tolist() == [1024, arithmetic.STEPS_TO_DOUBLE - 1]
    arithmetic.unscale(gradients, state)
    assert state.tolist() == [2048, 0]
    for wrong in (torch.inf, torch.nan):
        unscaled, finite = arithmetic.unscale([*gradients, torch.tensor([1.0, wrong])], state)
        assert not finite
        assert not any(one.any() for one in unscaled if one is not None)
    assert state.tolist() == [512, 0]


def test_each_run_of_a_stack_has_its_own_scale() -> None:
    state = torch.tensor([[4.0, 1.0], [8.0, 1.0]])
    gradients = [torch.tensor([[4.0, 8.0], [torch.inf, 8.0]]), torch.tensor([8.0, 16.0])]
    unscaled, finite = arithmetic.unscale(gradients, state)
    assert finite.tolist() == [True, False]
    assert [one.tolist() for one in unscaled if one is not None] == [[[1, 2], [0, 0]], [2, 0]]
    assert state.tolist() == [[4, 2], [4, 0]]


def scaled(parts: Parts, *, autocast: torch.dtype | None = None) -> Parts:
    """Return parts with loss scales, as those of a GPU have."""
    return parts._replace(
        loss_scales={role: arithmetic.new_loss_scale(CPU) for role in ROLES}, autocast=autocast
    )


def weights_of(parts: Parts) -> Tensor:
    networks = (parts.generator, parts.discriminator)
    return torch.cat([w.detach().flatten() for network in networks for w in network.parameters()])


def train(parts: Parts, steps: int) -> Tensor:
    """Train eagerly, and return the statistics and the weights."""
    state, batches = initial_state(parts, seed=0), parts.data.batches(16, seed=0)
    for _ in range(steps):
        kind = next_step_kind(parts, state)
        eager_step(parts, state, draw_batch(parts, state, batches), kind)
        count_step(state, kind)
    return torch.cat([state.sums, weights_of(parts)])


@pytest.mark.parametrize("penalty", ["r1", "wgan_gp"])
def test_a_scale_changes_a_step_in_float32_by_no_bit(penalty: str) -> None:
    """A power of two changes no digit of a number."""
    choices = (f"penalty={penalty}", "penalty.interval=1", "trainer.batch_size=16")
    assert torch.equal(train(build(short(*choices)), 5), train(scaled(build(short(*choices))), 5))


def test_float16_stays_near_float32() -> None:
    choices = ("penalty=r1", "penalty.interval=1")
    full = build(short(*choices))
    half = scaled(build(short(*choices)), autocast=torch.float16)
    start = weights_of(full)
    one, other = train(full, 6), train(half, 6)
    assert not torch.equal(one, other)
    assert (one[:6] - other[:6]).abs().max() < 0.05
    moved, apart = (one[6:] - start).norm(), (other[6:] - one[6:]).norm()
    assert apart < 0.1 * moved


def break_next_step(parts: Parts) -> None:
    """Make the discriminator's scaled gradients infinite, and those of the generator stay."""
    parts.loss_scales["discriminator"][0] = 2.0**127 * 1.5


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_a_step_whose_gradients_are_not_finite_leaves_its_network_as_it_is(optimizer: str) -> None:
    parts = scaled(build(short(f"optimizer={optimizer}", "penalty=r1", "penalty.gamma=100")))
    state, batches = initial_state(parts, seed=0), parts.data.batches(16, seed=0)
    program = ProgramStep(make_program(short(f"optimizer={optimizer}", "penalty=r1"), parts))
    kind = StepKind(penalize=True, update_generator=True)
    tensors = named_tensors(parts, state)
    for is_eager in (True, False):
        break_next_step(parts)
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        batch = draw_batch(parts, state, batches)
        if is_eager:
            eager_step(parts, state, batch, kind)
        else:
            program.train(tensors, parts, batch, kind)
        changed = {name for name, t in tensors.items() if not torch.equal(t, before[name])}
        assert not any(name.startswith("discriminator") for name in changed)
        assert any(name.startswith("generator/") for name in changed)
        assert parts.loss_scales["discriminator"][0] == before["loss_scale/discriminator"][0] / 2
        for weight in parts.discriminator.parameters():
            assert weight.grad is not None
            assert not weight.grad.any()


def test_a_stack_leaves_out_the_step_of_one_run_alone() -> None:
    cfg = short("penalty=r1", "penalty.gamma=100", "penalty.interval=1")
    kind, batches = StepKind(penalize=True, update_generator=True), []
    runs: list[tuple[Parts, dict[str, Tensor]]] = []
    for index in range(2):
        parts = scaled(build(cfg))
        state = initial_state(parts, seed=index)
        runs.append((parts, named_tensors(parts, state)))
        batches.append(draw_batch(parts, state, parts.data.batches(16, seed=index)))
    break_next_step(runs[0][0])
    before = [{n: t.clone() for n, t in tensors.items()} for _, tensors in runs]
    stacked = stack([tensors for _, tensors in runs])
    both = pytree.tree_map(lambda *parts: torch.stack(parts), *batches)
    ProgramStep(make_program(cfg, runs[0][0], stacked=True))(stacked, both, kind)
    for index, (_, tensors) in enumerate(runs):
        same = [
            torch.equal(tensor, before[index][name])
            for name, tensor in tensors.items()
            if name.startswith("discriminator/")
        ]
        assert all(same) if index == 0 else not any(same)


def test_a_checkpoint_holds_the_scales() -> None:
    first, second = (scaled(build(short())) for _ in range(2))
    first.loss_scales["generator"].copy_(torch.tensor([512.0, 77.0]))
    saved = to_checkpoint(first, initial_state(first, seed=0))
    from_checkpoint(second, initial_state(second, seed=0), saved)
    assert second.loss_scales["generator"].tolist() == [512, 77]
    assert second.loss_scales["discriminator"].tolist() == [2.0**16, 0]


@pytest.mark.parametrize("overrides", [(), ("device=auto",)])
def test_fp16_is_refused_without_a_cuda_device(overrides: Sequence[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match="precision=fp16: needs a CUDA device, not cpu") as raised:
        build(short("device=cpu", *overrides, "trainer.precision=fp16"))
    assert "\n" not in str(raised.value)
