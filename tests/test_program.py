"""Programs: many runs in one against each alone, optimizers against torch's, padding, compiling."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from runs import SHORT, short
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gan.build import Parts, build
from gan.config.compose import compose
from gan.data import Batches
from gan.errors import Unfit, UserError
from gan.functional.compiled import Program, blueprint, check
from gan.functional.optimizers import KINDS, kind, prepare
from gan.functional.tensors import Tensors, as_tensors, numbers, tensors, varied
from gan.run.result import read_records
from gan.run.state import State, initial
from gan.step import STATISTICS, Batch, count, due, game, next_batch, passed, train_step
from gan.train import run
from gan.vectorized.stack import stack


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"betas": (0.5, 0.999), "eps": 1e-8}),
    "adam, no mean": (torch.optim.Adam, {"betas": (0.0, 0.9), "eps": 1e-8}),
    "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 1e-6}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0}),
    "rmsprop, momentum": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-8, "momentum": 0.9}),
    "sgd": (torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    "sgd, momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
    "sgd, nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_torch(name: str, weight_decay: float) -> None:
    """Of three weights with learning rates of their own, in one piece and by torch."""
    make, settings = OPTIMIZERS[name]
    rates = [0.1, 0.01, 0.003]
    weights = [nn.Parameter(torch.randn(3, 2, dtype=torch.float64)) for _ in rates]
    theirs = [
        make([weight], lr=rate, weight_decay=weight_decay, **settings)
        for weight, rate in zip(weights, rates, strict=True)
    ]
    ours = torch.stack([weight.detach() for weight in weights])
    prototype = make([nn.Parameter(ours.clone())], lr=0.1, weight_decay=weight_decay, **settings)
    prepare(prototype)
    (held,) = prototype.state.values()
    state = {key: value if value.dim() else value.repeat(3) for key, value in held.items()}
    given = {k: v for k, v in settings.items() if k != "betas"} | {"weight_decay": weight_decay}
    if "betas" in settings:
        given["beta1"], given["beta2"] = settings["betas"]
    given["lr"] = torch.tensor(rates, dtype=torch.float64)
    for _ in range(20):
        gradient = torch.randn_like(ours)
        for weight, own, optimizer in zip(weights, gradient, theirs, strict=True):
            weight.grad = own.clone()
            optimizer.step()
        kind(prototype).update(ours, gradient, state, given)
    torch.testing.assert_close(ours, torch.stack([w.detach() for w in weights]), rtol=1e-12, atol=0)
    for index, (weight, optimizer) in enumerate(zip(weights, theirs, strict=True)):
        for key, value in optimizer.state[weight].items():
            if value is not None:
                torch.testing.assert_close(state[key][index].to(value.dtype), value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_prepared_state_is_what_torch_makes_at_its_first_step(name: str) -> None:
    make, settings = OPTIMIZERS[name]
    states = []
    for own in (True, False):
        weight = nn.Parameter(torch.ones(3, 2))
        optimizer = make([weight], lr=0.1, **settings)
        if own:
            prepare(optimizer)
        else:
            weight.grad = torch.ones(3, 2)
            optimizer.step()
        found = optimizer.state[weight]
        states.append({k: (v.shape, v.dtype) for k, v in found.items() if v is not None})
    assert states[0] == states[1]


def test_settings_are_compared_by_their_numbers() -> None:
    one, other = (numbers(short(*choice)) for choice in ((), ("optimizer.betas=[0.5,0.9]",)))
    # The discriminator's optimizer follows the generator's.
    expected = ("generator_optimizer/beta2", "discriminator_optimizer/beta2")
    assert varied([one, other, one]) == expected
    assert varied([one, one]) == ()
    values = as_tensors([one, other], expected, torch.device("cpu"))
    assert values[expected[0]].tolist() == [0.999, 0.9]


Run = tuple[DictConfig, Parts, State, Batches]


def made(overrides: Sequence[str], *, double: bool) -> Run:
    cfg = compose(*SHORT[1:], *overrides)
    parts = build(cfg)
    if double:
        for network in (parts.generator, parts.discriminator, parts.average):
            if network is not None:
                network.double()
    state = initial(parts, cfg.seed, len(STATISTICS))
    state.sums = state.sums.double() if double else state.sums
    return cfg, parts, state, parts.data.batches(cfg.trainer.batch_size, cfg.seed)


def batch_of(run: Run, *, double: bool) -> Batch:
    _, parts, state, batches = run
    batch = next_batch(parts, state, batches)
    if not double:
        return batch
    return batch._replace(
        real=batch.real.double(),
        z=batch.z.double(),
        penalty=tuple(part.double() for part in batch.penalty),
    )


def together(batches: Sequence[Batch]) -> Batch:
    first, *others = batches
    stacked: Batch = pytree.tree_map(lambda *parts: torch.stack(parts), first, *others)
    return stacked


def train_alone(runs: Sequence[Run], steps: int, *, double: bool) -> None:
    for one in runs:
        _, parts, state, _ = one
        for _ in range(steps):
            batch, turns = batch_of(one, double=double), due(parts, state.step)
            played = train_step(game(parts), batch, **turns)
            count(state.sums, state.healthy, played.statistics)
            passed(state, **turns)


def train_together(runs: Sequence[Run], steps: int, *, double: bool) -> Tensors:
    own = [tensors(parts, state) for _, parts, state, _ in runs]
    every = [numbers(cfg) for cfg, *_ in runs]
    names = varied(every)
    widest = max(range(len(runs)), key=lambda i: sum(t.numel() for t in own[i].values()))
    whole = stack(own)
    settings = as_tensors(every, names, torch.device("cpu"))
    whole |= {f"settings/{name}": value for name, value in settings.items()}
    cfg, parts, state, _ = runs[widest]
    program = Program(blueprint(cfg, parts, varied=names, stacked=True))
    for _ in range(steps):
        batch = together([batch_of(one, double=double) for one in runs])
        turns = due(parts, state.step)
        program(whole, batch, **turns)
        for one in runs:
            passed(one[2], **turns)
    return whole


def weights(network: nn.Module) -> Tensor:
    """All but the last bias: in the difference of two logits it makes none, and what rounding
    leaves of its gradient Adam and RMSprop blow up to steps of full size."""
    *kept, _ = network.parameters()
    return torch.cat([tensor.detach().double().flatten() for tensor in kept])


def assert_members_are_as_alone(
    choices: Sequence[Sequence[str]], *, double: bool, bound: float = 1e-10
) -> None:
    alone = [made(choice, double=double) for choice in choices]
    grouped = [made(choice, double=double) for choice in choices]
    train_alone(alone, 20, double=double)
    train_together(grouped, 20, double=double)
    for one, other in zip(alone, grouped, strict=True):
        for role in ("generator", "discriminator", "average"):
            if getattr(one[1], role) is not None:
                a, b = (weights(getattr(found[1], role)) for found in (one, other))
                assert (a - b).norm() <= bound * a.norm(), role
        assert other[2].healthy == one[2].healthy == 20
        torch.testing.assert_close(one[2].sums, other[2].sums, rtol=100 * bound, atol=100 * bound)


MODELS = {
    "mlp": (),
    "mlp, average": ("trainer.ema_half_life=100", "trainer.n_critic=2"),
    "mlp, layer norm, packed": ("model.generator_norm=layer", "trainer.pac=4"),
    "mlp, spectral norm": (
        "model.discriminator_spectral_norm=true",
        "model.generator_spectral_norm=true",
    ),
    "mlp, conditional, augmented": (
        "model.conditional=true",
        "trainer.augment=[translation,cutout]",
    ),
    "dcgan": ("model=dcgan", "model.channels=4"),
    "dcgan, conditional": ("model=dcgan", "model.channels=4", "model.conditional=true"),
    "sngan": ("model=sngan", "model.channels=4", "model.generator_norm=none"),
}
OBJECTIVES = [
    ("non_saturating", "none", "adam", ()),
    ("minimax", "r1", "adamw", ("penalty.gamma=2", "loss.label_smoothing=0.1")),
    ("least_squares", "r2", "rmsprop", ("penalty.gamma=2", "loss.label_smoothing=0.1")),
    ("wasserstein", "weight_clip", "sgd", ("penalty.limit=0.02",)),
    ("hinge", "dragan", "adam", ("penalty.weight=3",)),
    ("relativistic", "r1r2", "adam", ("penalty.gamma=2",)),
    ("wasserstein", "wgan_gp", "rmsprop", ("penalty.weight=3",)),
]
# Each model and each objective, and each with a few of the others.
ZOO = [
    (model, *objective)
    for i, model in enumerate(MODELS)
    for j, objective in enumerate(OBJECTIVES)
    if i == 0 or i % len(OBJECTIVES) == j
]


def choices(
    model: str, loss: str, penalty: str, optimizer: str, other: tuple[str, ...]
) -> list[list[str]]:
    size = [] if "channels" in " ".join(MODELS[model]) else ["model.hidden_dim=16"]
    base = [f"loss={loss}", f"penalty={penalty}", f"optimizer={optimizer}", *size, *MODELS[model]]
    return [base, [*base, *other, "seed=5", "optimizer.lr=3e-4", "optimizer.weight_decay=0.001"]]


@pytest.mark.parametrize(("model", "loss", "penalty", "optimizer", "other"), ZOO)
def test_a_member_has_the_weights_that_it_would_have_alone(
    model: str, loss: str, penalty: str, optimizer: str, other: tuple[str, ...]
) -> None:
    given = choices(model, loss, penalty, optimizer, other)
    assert_members_are_as_alone(given, double=True)


@pytest.mark.parametrize(("loss", "penalty", "optimizer", "other"), OBJECTIVES)
def test_in_single_precision_rounding_is_the_only_difference(
    loss: str, penalty: str, optimizer: str, other: tuple[str, ...]
) -> None:
    given = choices("mlp", loss, penalty, optimizer, other)
    # Gradients that are zero but for rounding grow to full steps: see `weights`.
    bound = 1e-4 if "gp" in penalty or loss == "relativistic" else 1e-5
    assert_members_are_as_alone(given, double=False, bound=bound)


@pytest.mark.parametrize(
    "overrides",
    [
        ("penalty=r1", "optimizer=adamw", "model.hidden_dim=@"),
        ("penalty=wgan_gp", "loss=wasserstein", "optimizer=rmsprop", "model.hidden_dim=@"),
        ("penalty=r1r2", "model.generator_norm=batch", "model.hidden_dim=@", "optimizer=sgd"),
        ("penalty=none", "model.conditional=true", "model.hidden_dim=@"),
        (
            "penalty=weight_clip",
            "model.discriminator_spectral_norm=true",
            "model.generator_spectral_norm=true",
            "model.hidden_dim=@",
        ),
        ("penalty=r1", "model=dcgan", "model.channels=@"),
        ("penalty=r1", "model=sngan", "model.channels=@", "model.generator_norm=none"),
    ],
)
def test_narrow_networks_are_as_alone_and_their_padding_stays_zero(
    overrides: Sequence[str],
) -> None:
    wide, narrow = (
        [text.replace("@", str(width)) for text in overrides] + [f"seed={width}"]
        for width in (8, 4)
    )
    assert_members_are_as_alone([narrow, wide], double=True)
    runs = [made(narrow, double=False), made(wide, double=False)]
    whole = train_together(runs, 20, double=False)
    padded = 0
    for name, tensor in tensors(*runs[0][1:3]).items():
        outside = whole[name][0].clone()
        outside[tuple(map(slice, tensor.shape))] = 0
        padded += outside.numel() - tensor.numel()
        assert not outside.any(), name
    assert padded > 100


class Dropping(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        dropped: Tensor = nn.functional.dropout(self.network(z), training=True)
        return dropped


def test_what_draws_from_the_global_state_cannot_be_stacked() -> None:
    cfg, parts, state, batches = made((), double=False)
    parts = parts._replace(generator=Dropping(parts.generator))
    own = tensors(parts, state)
    two = {name: torch.stack([tensor, tensor]) for name, tensor in own.items()}
    before = {name: tensor.clone() for name, tensor in two.items()}
    batch = next_batch(parts, state, batches)
    with pytest.raises(Unfit, match="randomness"):
        check(blueprint(cfg, parts, stacked=True), two, together([batch, batch]))
    assert all(torch.equal(two[name], before[name]) for name in before)


def test_an_optimizer_that_is_not_known_is_told() -> None:
    assert torch.optim.Adagrad not in KINDS
    with pytest.raises(Unfit, match=r"Adagrad is none of Adam, AdamW, RMSprop, SGD"):
        kind(torch.optim.Adagrad([nn.Parameter(torch.ones(1))]))


def test_a_compiled_run_is_as_an_eager_one_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    choice = ["trainer.max_steps=12", "logging.every=4", "penalty.interval=1", "data=digits"]
    choice += ["logging.tensorboard=false", "metrics=none", "trainer.checkpoint_every=4"]
    run(short(*choice), tmp_path / "eager")
    run(short(*choice, "trainer.compile=true"), tmp_path / "compiled")
    eager, compiled = (read_records(tmp_path / name) for name in ("eager", "compiled"))
    assert [record["step"] for record in compiled] == [4, 8, 12]
    for one, other in zip(eager, compiled, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-4), name
    # Either way of training goes on from what the other one saved.
    (tmp_path / "compiled" / "result.json").unlink()
    (tmp_path / "compiled" / "checkpoints" / "step-00000012.pt").unlink()
    run(short(*choice), tmp_path / "compiled")
    last = read_records(tmp_path / "compiled")[-1]
    assert last["loss/generator"] == pytest.approx(eager[-1]["loss/generator"], rel=1e-4)


def test_cuda_graphs_need_a_cuda_device(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.cuda_graphs=true: needs a CUDA device"):
        run(short("trainer.cuda_graphs=true", "device=cpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
