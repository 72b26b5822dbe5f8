"""Training and measuring on a GPU that is not there: every tensor is where it should be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from fake_cuda import CUDA, Answers, Graphs, Recorder, fake_cuda, without_values
from omegaconf import DictConfig, OmegaConf
from runs import SHORT

import gan.functional.compiled
import gan.vectorized.stacked
from gan.build import Parts, build, load_data
from gan.config.compose import compose
from gan.data import Batches, Data
from gan.functional.compiled import CAPTURE_WARM_UP, ProgramStep
from gan.functional.step import make_program
from gan.functional.tensors import named_tensors
from gan.run.evaluation import Evaluation
from gan.run.state import State, initial_state
from gan.step import draw_batch, eager_step
from gan.vectorized.confirm import _kinds_of_steps
from gan.vectorized.stacked import StackedRuns

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

COMBINATIONS = {
    "lab": ("experiment=lab", "trainer.max_epochs=null", "logging.samples_every_epochs=null"),
    "mlp, average": ("trainer.ema_half_life=100", "trainer.n_critic=2", "penalty=r1r2"),
    "bf16": ("trainer.precision=bf16", "penalty=r1", "optimizer=adamw"),
    "packed": ("model.generator_norm=layer", "trainer.pac=4", "loss=relativistic"),
    "critic": (
        "loss=wasserstein",
        "penalty=wgan_gp",
        "optimizer=rmsprop",
        "model.conditional=true",
    ),
    "clipped": ("loss=wasserstein", "penalty=weight_clip", "optimizer=sgd", "optimizer.lr=0.01"),
    "dragan": ("loss=least_squares", "penalty=dragan", "model.generator_norm=batch"),
    "dcgan": ("model=dcgan", "model.channels=4", "penalty=r2", "trainer.ema_half_life=100"),
    "dcgan, bf16": ("model=dcgan", "model.channels=4", "trainer.precision=bf16", "penalty=r1"),
    "sngan, augmented": (
        *("model=sngan", "model.channels=4", "model.generator_norm=none", "loss=hinge"),
        "trainer.augment=[translation,cutout]",
    ),
    "points": ("experiment=ring8", "trainer.max_epochs=null"),
}


@dataclass(eq=False)
class Training:
    """A run on the GPU, without a directory."""

    cfg: DictConfig
    parts: Parts
    state: State
    batches: Batches
    name: str = "run"
    needs_attention = False

    @property
    def step(self) -> int:
        """The number of steps that were made."""
        return self.state.step


@cache
def on_the_cpu(settings: str) -> Data:
    """Return the data set of a configuration, read once."""
    return load_data(OmegaConf.create(settings), torch.device("cpu"))


@contextmanager
def trainings(*runs: Sequence[str]) -> Iterator[list[Training]]:
    """Pretend that there is a GPU, and return runs on it, given by their overrides."""
    configs = [compose(*SHORT[1:], "data=digits", "device=cuda", *run) for run in runs]
    loaded = [on_the_cpu(OmegaConf.to_yaml(cfg)) for cfg in configs]
    with fake_cuda() as mode:
        yield [
            make_training(cfg, without_values(data, mode))
            for cfg, data in zip(configs, loaded, strict=True)
        ]


def make_training(cfg: DictConfig, data: Data) -> Training:
    """Return a run on the GPU before its first step."""
    parts = build(cfg, data.to(CUDA))
    state = initial_state(parts, cfg.seed)
    return Training(cfg, parts, state, parts.data.batches(cfg.trainer.batch_size, cfg.seed))


@pytest.mark.parametrize("name", COMBINATIONS)
def test_steps_wait_for_nothing_and_can_be_captured(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = Graphs()
    with trainings(COMBINATIONS[name]) as (run,), Recorder() as eager:
        kinds = dict.fromkeys(_kinds_of_steps(run))
        for kind in kinds:
            batch = draw_batch(run.parts, run.state, run.batches, kind)
            eager_step(run.parts, run.state, batch, kind)
        weights = [*run.parts.generator.parameters(), *run.parts.discriminator.parameters()]
        assert {weight.grad.device for weight in weights if weight.grad is not None} == {CUDA}
        graphs.plug_in(monkeypatch)
        program_step = ProgramStep(make_program(run.cfg, run.parts), capture=True)
        tensors = named_tensors(run.parts, run.state)
        for kind in kinds:
            for _ in range(CAPTURE_WARM_UP + 2):
                batch = draw_batch(run.parts, run.state, run.batches, kind)
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
        ("trainer.ema_half_life=100", "trainer.n_critic=2", "model.hidden_dim=@", "penalty=r1r2"),
        ("loss=wasserstein", "penalty=wgan_gp", "optimizer=rmsprop", "model.conditional=true"),
        (
            *("model=dcgan", "model.channels=4", "trainer.precision=bf16", "penalty=weight_clip"),
            *("optimizer=sgd", "trainer.augment=[translation,cutout]"),
        ),
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
        for _ in range((CAPTURE_WARM_UP + 1) * len(kinds) * runs[0].parts.penalty_interval):
            stacked._train_one_step(runs)
        runs[0].needs_attention = True
        stacked._train_one_step(runs)
        stacked.leave(runs[1])
        for run in runs:
            tensors = named_tensors(run.parts, run.state)
            assert {tensor.device for tensor in tensors.values()} == {CUDA}
    assert len(graphs.captured.operations) > 200 * len(kinds)
    assert graphs.captured.waiting == graphs.captured.off_the_gpu == set()


METRICS = {
    "grey images": ("data=mnist5k", "metrics=full"),
    "points": ("data=ring8", "metrics=points"),
    "series": ("data=waves", "metrics=vectors"),
    "labels": ("data=mnist5k", "metrics=fast", "model.conditional=true"),
}


@pytest.mark.parametrize("name", METRICS)
def test_samples_are_drawn_and_measured_on_the_gpu(name: str, tmp_path: Path) -> None:
    overrides = (*METRICS[name], f"metrics.cache={tmp_path}", "metrics.samples=200")
    with trainings(overrides) as (run,), Answers(), Recorder() as recorder:
        evaluation = Evaluation(run.cfg, run.parts)
        assert set(evaluation.measure()) >= set(run.cfg.metrics.names)
        assert evaluation.diversity()
        assert evaluation.picture().device.type == "cpu"
        real = evaluation.real_picture()
        assert real is None or real.device.type == "cpu"
    assert recorder.mixed == set()
