"""Training and measuring on a GPU, by tensors without values: every tensor is where it should be."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from fake_cuda import CUDA, Answers, Graphs, Recorder, fake_cuda, without_values
from omegaconf import DictConfig, OmegaConf
from runs import SHORT
from torch import Tensor

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
from gan.step import Batch, StepKind, count_step, draw_batch, eager_step, next_step_kind
from gan.vectorized.confirm import _kinds_of_steps
from gan.vectorized.stacked import StackedRuns

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

COMBINATIONS = {
    "lab": ("experiment=lab", "trainer.max_epochs=null", "logging.samples_every_epochs=null"),
    "mlp, average": ("trainer.ema_half_life=100", "trainer.n_critic=2", "penalty=r1r2"),
    "bf16": ("trainer.precision=bf16", "penalty=r1", "optimizer=adamw"),
    "packed": ("model.generator_norm=layer", "trainer.pac=4", "loss=relativistic"),
    "critic": ("loss=wasserstein", "penalty=wgan_gp", "optimizer=rmsprop", "model.conditional=true"),
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
    assert eager.waiting == set()
    # Indices of an epoch are drawn on the CPU.
    stream = "own stream of cuda:0"
    capture = [("capture", stream, stream, "thread_local"), "replay", "replay"]
    assert graphs.events == capture * len(kinds)
    assert len(graphs.captured.operations) > 500
    assert graphs.captured.waiting == graphs.captured.off_the_gpu == set()
