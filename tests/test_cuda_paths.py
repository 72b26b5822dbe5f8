"""Training and measuring on a GPU that is not there: every tensor is where it should be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import CUDA, Graphs, Recorder, answers, fake_cuda, without_values
from omegaconf import DictConfig, OmegaConf
from runs import SHORT
from torch import Tensor
from torch.utils import _pytree as pytree

import gan.functional.compiled
import gan.vectorized.stacked
from gan.build import Parts, build, build_schedules, load_data
from gan.config.compose import compose
from gan.data import Batches, Data
from gan.functional.compiled import ProgramStep, _trace, on_device
from gan.functional.step import functional_step, make_program
from gan.functional.tensors import named_tensors
from gan.run.evaluation import Evaluation
from gan.run.state import State, from_checkpoint, initial_state, to_checkpoint
from gan.schedules import Schedule
from gan.step import count_step, draw_batch, eager_step, next_step_kind
from gan.vectorized.confirm import _kinds_of_steps
from gan.vectorized.stacked import StackedRuns

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

WARM_UP = 1
"""Steps before a capture, here."""
COMBINATIONS = {
    "lab": ("experiment=lab", "trainer.max_epochs=null", "logging.samples_every_epochs=null"),
    "mlp, average": ("trainer.ema_half_life=100", "trainer.n_critic=2", "loss=minimax"),
    "bf16": ("trainer.precision=bf16", "loss=relativistic", "penalty=r1", "optimizer=adamw"),
    "packed": ("model.generator_norm=layer", "trainer.pac=4", "penalty=dragan"),
    "critic": (
        "loss=wasserstein",
        "penalty=wgan_gp",
        "optimizer=rmsprop",
        "model.conditional=true",
    ),
    "clipped": ("loss=wasserstein", "penalty=weight_clip", "optimizer=sgd", "optimizer.lr=0.01"),
    "dcgan": ("model=dcgan", "model.channels=4", "penalty=r2", "trainer.ema_half_life=100"),
    "dcgan, bf16": ("model=dcgan", "model.channels=4", "trainer.precision=bf16", "penalty=r1"),
    "sngan, augmented": (
        *("model=sngan", "model.channels=4", "model.generator_norm=none", "loss=hinge"),
        *("trainer.augment=[translation,cutout,colour,flip]", "trainer.augment_p=0.7"),
        *("trainer.ada_target=0.5", "trainer.consistency=[flip,translation]"),
    ),
    "r3gan, bf16": (
        *("model=r3gan_small", "model.channels=8", "model.cardinality=4", "trainer.precision=bf16"),
        *("loss=relativistic", "penalty=r1r2"),
    ),
    "pyramid, attention, conditional batch norm": (
        *("model=sngan_pyramid", "model.channels=2", "model.attention=14", "penalty=r1"),
        *("model.conditional=true", "model.generator_norm=conditional_batch"),
    ),
    "points": ("experiment=ring8", "trainer.max_epochs=null"),
}


@pytest.fixture(autouse=True)
def _short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan.functional.compiled, "CAPTURE_WARM_UP", WARM_UP)


@dataclass(eq=False)
class Training:
    """A run on the GPU, without a directory."""

    cfg: DictConfig
    parts: Parts
    state: State
    batches: Batches
    schedules: dict[str, Schedule]
    name: str = "run"
    something_due = False

    @property
    def step(self) -> int:
        """The number of steps that were made."""
        return self.state.step


@cache
def on_the_cpu(settings: str) -> Data:
    """Return the data set of these settings, read once."""
    return load_data(OmegaConf.create({"data": OmegaConf.create(settings)}), torch.device("cpu"))


@contextmanager
def trainings(*runs: Sequence[str]) -> Iterator[list[Any]]:
    """Pretend that there is a GPU, and yield runs on it, given by their overrides."""
    configs = [compose(*SHORT[1:], "data=digits", "device=cuda", *run) for run in runs]
    loaded = [on_the_cpu(OmegaConf.to_yaml(cfg.data)) for cfg in configs]
    with fake_cuda() as mode:
        yield [
            make_training(cfg, without_values(data, mode))
            for cfg, data in zip(configs, loaded, strict=True)
        ]


def make_training(cfg: DictConfig, data: Data) -> Training:
    """Return a run on the GPU before its first step."""
    parts = build(cfg, data.to(CUDA))
    state = initial_state(parts, cfg.seed)
    batches = parts.data.batches(cfg.trainer.batch_size, cfg.seed)
    return Training(cfg, parts, state, batches, build_schedules(cfg, total_steps=100))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_steps_wait_for_nothing_and_can_be_captured(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = Graphs()
    with trainings(COMBINATIONS[name]) as (run,), Recorder() as eager:
        kinds = dict.fromkeys(_kinds_of_steps(run))
        for kind in kinds:
            batch = draw_batch(run.parts, run.state, run.batches, kind, run.schedules)
            eager_step(run.parts, run.state, batch, kind)
        weights = [*run.parts.generator.parameters(), *run.parts.discriminator.parameters()]
        assert {weight.grad.device for weight in weights if weight.grad is not None} == {CUDA}
        graphs.plug_in(monkeypatch)
        program_step = ProgramStep(make_program(run.cfg, run.parts), capture=True)
        tensors = named_tensors(run.parts, run.state)
        for kind in kinds:
            for _ in range(WARM_UP + 2):
                batch = draw_batch(run.parts, run.state, run.batches, kind, run.schedules)
                program_step.train(tensors, run.parts, batch, kind)
    assert len(eager.operations) > 500
    assert eager.waiting == eager.mixed == set()
    stream = "own stream of cuda:0"
    capture = [("capture", stream, stream, "thread_local"), "replay", "replay"]
    assert graphs.events == capture * len(kinds)
    assert len(graphs.captured.operations) > 200 * len(kinds)
    assert graphs.captured.waiting == graphs.captured.off_the_gpu == set()


@pytest.mark.parametrize(
    "overrides",
    [
        (
            *("trainer.ema_half_life=100", "trainer.n_critic=2", "model.hidden_dim=@"),
            *("penalty=r1r2", "+schedule.penalty.gamma.values=[null,1]"),
            "+schedule.optimizer.beta2.values=[null,0.9]",
        ),
        ("loss=wasserstein", "penalty=wgan_gp", "optimizer=rmsprop", "model.conditional=true"),
        (
            *("model=dcgan", "model.channels=4", "trainer.precision=bf16", "penalty=weight_clip"),
            *("optimizer=sgd", "trainer.augment=[translation,cutout]"),
        ),
        ("trainer.precision=fp16", "penalty=r1", "optimizer=adamw", "model.hidden_dim=@"),
    ],
)
def test_steps_of_a_cohort_can_be_captured(
    overrides: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = Graphs()
    monkeypatch.setattr(gan.vectorized.stacked, "compare_steps", lambda *given: None)
    one, other = (
        [text.replace("@", str(size)) for text in overrides]
        + [f"seed={size}", f"optimizer.lr={lr}"]
        for size, lr in ((16, 0.01), (8, 0.02))
    )
    with trainings(one, other) as runs:
        graphs.plug_in(monkeypatch)
        stacked = StackedRuns(runs, capture=True)
        kinds = dict.fromkeys(_kinds_of_steps(runs[0]))
        for _ in range((WARM_UP + 1) * len(kinds) * runs[0].parts.penalty_interval):
            stacked._train_one_step(runs)
        runs[0].something_due = True
        stacked._train_one_step(runs)
        stacked.leave(runs[1])
        for run in runs:
            tensors = named_tensors(run.parts, run.state)
            assert {tensor.device for tensor in tensors.values()} == {CUDA}
    assert len(graphs.captured.operations) > 200 * len(kinds)
    assert graphs.captured.waiting == graphs.captured.off_the_gpu == set()


METRICS = {
    "grey images": ("data=mnist5k", "metrics=full", "model.conditional=true"),
    "points": ("data=ring8", "metrics=points"),
    "series": ("data=waves", "metrics=vectors"),
}


@pytest.mark.parametrize("name", METRICS)
def test_samples_are_drawn_and_measured_on_the_gpu(name: str, tmp_path: Path) -> None:
    overrides = (*METRICS[name], f"metrics.cache={tmp_path}", "metrics.samples=200")
    with trainings(overrides) as (run,), answers(), Recorder() as recorder:
        evaluation = Evaluation(run.cfg, run.parts)
        assert set(evaluation.measure()) >= set(run.cfg.metrics.names)
        assert evaluation.diversity()
        assert evaluation.picture().device.type == "cpu"
        real = evaluation.real_picture()
        assert real is None or real.device.type == "cpu"
    assert recorder.mixed == set()


CHANGES = "[translation,cutout,colour,flip]"


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("trainer.precision=fp16",),
        (f"trainer.augment={CHANGES}", "trainer.ada_target=0.6", f"trainer.consistency={CHANGES}"),
    ],
)
def test_step_to_be_compiled_holds_no_tensor_off_the_gpu(settings: Sequence[str]) -> None:
    overrides = ("penalty=r1", "trainer.ema_half_life=100", *settings)
    with trainings(overrides) as (run,):
        program = make_program(run.cfg, run.parts)
        kind = next_step_kind(run.parts, run.state)
        batch = on_device(draw_batch(run.parts, run.state, run.batches, schedules=run.schedules))
        step = partial(functional_step, program, kind=kind)
        graph, _ = _trace(step, named_tensors(run.parts, run.state), batch)
    values = [node.meta["val"] for node in graph.graph.nodes if "val" in node.meta]
    assert len(values) > 300
    assert {value.device for value in values if isinstance(value, Tensor)} == {CUDA}
    assert not [node for node in graph.graph.nodes if node.op == "get_attr"]


def test_checkpoint_of_a_gpu_goes_on_there_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("model=dcgan", "model.channels=4", "trainer.ema_half_life=100")
    restored: list[tuple[Tensor, torch.device]] = []
    with trainings(overrides, overrides) as (run, other):
        kind = next_step_kind(run.parts, run.state)
        batch = draw_batch(run.parts, run.state, run.batches, schedules=run.schedules)
        eager_step(run.parts, run.state, batch, kind)
        count_step(run.state, kind)
        saved = to_checkpoint(run.parts, run.state)
        loaded = pytree.tree_map_only(Tensor, lambda tensor: tensor.cpu(), saved)
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "set_rng_state", lambda *given: restored.append(given))
            from_checkpoint(other.parts, other.state, loaded)
        ((state, device),) = restored
        assert state is loaded["cuda_random"]
        assert device == CUDA
        assert other.step == 1
        tensors = named_tensors(other.parts, other.state)
        assert {tensor.device for tensor in tensors.values()} == {CUDA}
        for name, weight in other.parts.generator.named_parameters():
            moment = tensors[f"generator_optimizer/{name}/exp_avg"]
            assert moment.stride() == weight.stride(), name
        # A checkpoint of the CPU has other random states, which mean nothing here.
        numbers = other.state.noise.initial_seed()
        loaded |= {"cuda_random": None, "noise": torch.empty(7, dtype=torch.uint8)}
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "set_rng_state", lambda *given: restored.append(given))
            from_checkpoint(other.parts, other.state, loaded)
        assert len(restored) == 1
        assert other.state.noise.initial_seed() != numbers


def test_batches_that_stay_on_the_host_are_pinned_and_do_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[bool] = []
    moved: list[bool] = []
    empty = torch.empty

    def noted(*shape: int, pin_memory: bool, **options: Any) -> Tensor:
        made.append(pin_memory)
        return empty(*shape, **options)

    def to(tensor: Tensor, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        if device == CUDA:
            moved.append(non_blocking)
        return tensor

    data = on_the_cpu(OmegaConf.to_yaml(compose("data=digits").data))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (0, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
    batches = data.to(CUDA).batches(16, 0)
    same = data.batches(16, 0)
    expected = [same.batch(number) for number in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", noted)
        patch.setattr(Tensor, "to", to)
        found = [batches.batch(number) for number in range(2)]
    for (samples, labels), (own_samples, own_labels) in zip(found, expected, strict=True):
        assert torch.equal(samples, own_samples)
        assert torch.equal(labels, own_labels)
    assert moved == [True] * 4
    assert made
    assert all(made)
