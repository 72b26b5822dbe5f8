"""One run trained by two processes: the same as by one, and refused where it would be another."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from omegaconf import DictConfig
from runs import content
from sweep_commands import SCRIPTS, children, execute
from torch import Tensor, nn
from torch.nn.functional import softplus

from gan.build import build
from gan.config.compose import compose
from gan.distributed import processes
from gan.distributed.processes import Launch, Processes, current_processes
from gan.distributed.shared import make_plan
from gan.errors import Interrupted, ProcessLost, StartFailed, UserError
from gan.launchers import followers
from gan.launchers.followers import Place, check_place, with_followers
from gan.losses import Loss
from gan.models import mlp_pair
from gan.penalties import Discriminator as JudgedSamples
from gan.penalties import Penalty
from gan.run.attempt import ending_of
from gan.run.checkpoint import checkpoint_paths
from gan.run.provenance import read_provenance
from gan.run.result import Status, read_records, read_result
from gan.step import StepResult, train_step
from gan.train import run

STEPS = 6
TINY = (
    "data=digits",
    "model.latent_dim=8",
    f"trainer.max_steps={STEPS}",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=100",
    "metrics=none",
    "logging.every=2",
    "logging.samples_every=100",
    "logging.samples=4",
    "logging.tensorboard=false",
    "logging.progress=false",
    "threads=1",
)
MLP = ("model.hidden_dim=8",)
# With less, Adam makes whole steps of gradients that are nothing but rounding.
ADAM = ("optimizer.eps=1e-4", "optimizer.lr=1e-3")
CASES = {
    "plain": (*MLP, *ADAM, "penalty=none", "trainer.ema_half_life=null"),
    "average of the weights, r1, metrics": (
        *(*MLP, *ADAM, "penalty=r1", "trainer.ema_half_life=100"),
        *("metrics=default", "metrics.samples=32", "metrics.every=3"),
    ),
    "wgan_gp, two updates of the discriminator, packs": (
        *(*MLP, *ADAM, "loss=wasserstein", "penalty=wgan_gp", "trainer.n_critic=2"),
        "trainer.pac=2",
    ),
    "points that depend on the whole batch": (*MLP, *ADAM, "penalty=dragan"),
    "batch norm under a gradient penalty": (
        *(*MLP, "optimizer=sgd", "loss=relativistic", "penalty=r1r2"),
        *("model.generator_norm=batch", "model.discriminator_norm=batch"),
    ),
    "conditional batch norm of images, adaptive augmentation": (
        *("model=dcgan", "model.channels=2", "model.conditional=true", "optimizer=sgd"),
        *("model.generator_norm=conditional_batch", "model.discriminator_norm=batch"),
        *("trainer.augment=[translation,colour]", "trainer.ada_target=0.1", "trainer.flip=true"),
        "trainer.ada_images=200",
    ),
    "consistency, schedules, spectral norm": (
        *(*MLP, *ADAM, "trainer.consistency=[translation]", "schedule=linear", "loss=hinge"),
        *("model.discriminator_spectral_norm=true", "penalty=none"),
    ),
    "clipped weights": (*MLP, "recipe=wasserstein_clip", "optimizer.eps=1e-4"),
    "points in the plane": (*MLP, *ADAM, "data=ring8", "penalty=wgan_gp"),
    "a loss of the mean logit": (
        *(*MLP, *ADAM, "loss=hinge", "loss._target_=test_shared.relativistic_average"),
    ),
    "a loss that draws numbers": (
        *(*MLP, *ADAM, "loss=hinge", "loss._target_=test_shared.noisy_labels"),
    ),
    "a penalty of the largest gradient": (
        *(*MLP, *ADAM, "penalty._target_=test_shared.largest_gradient", "~penalty.gamma"),
    ),
}
SLOW = ("plain", "clipped weights", "points in the plane", "a loss that draws numbers")
"""Cases that share most of what they test with others."""


def relativistic_average() -> Loss:
    """Return the loss of RaGAN (arXiv:1807.00734), which compares each logit with a mean one."""

    def loss(high: Tensor, low: Tensor) -> Tensor:
        return softplus(low.mean() - high).mean() + softplus(low - high.mean()).mean()

    return Loss(loss, lambda real, fake: loss(fake, real), uses_real_logits=True)


def noisy_labels() -> Loss:
    """Return a loss that judges some samples by the wrong label."""

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        signs = torch.where(torch.rand_like(real) < 0.2, -1.0, 1.0)
        return softplus(-signs * real).mean() + softplus(fake).mean()

    return Loss(discriminator, lambda real, fake: softplus(-fake).mean())


def largest_gradient() -> Penalty:
    """Return the largest squared gradient norm at real samples, as of a Lipschitz constant."""
    return Penalty(lambda real, fake: (real,), lambda squared: squared.amax())


def spread_of_logits() -> Penalty:
    """Return a penalty whose term depends on the whole batch."""

    def term(
        discriminator: JudgedSamples, real: Tensor, fake: Tensor, of_real: Tensor, of_fake: Tensor
    ) -> Tensor:
        return discriminator(real).std()

    return Penalty(term=term)


class Deviation(nn.Module):
    """Adds the standard deviation of the batch to each sample."""

    def forward(self, x: Tensor) -> Tensor:
        """Return samples of the same shape."""
        return x + x.std(0)


def with_deviation(**settings: Any) -> tuple[nn.Module, nn.Module]:
    """Return networks whose discriminator sees how much the samples of a batch differ."""
    generator, discriminator = mlp_pair(**settings)
    discriminator.layers.insert(1, Deviation())
    return generator, discriminator


class Remembering:
    """A loss that keeps the last mean logit."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self.state: dict[str, Any] = {}

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of the discriminator."""
        self.state = {"mean": real.detach().mean()}
        return fake.mean() - real.mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of the generator."""
        return -fake.mean()

    def state_dict(self) -> dict[str, Any]:
        """Return what it keeps."""
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what it kept."""
        self.state = state


def tiny(*overrides: str) -> DictConfig:
    """Return the configuration of a tiny run."""
    return compose(*TINY, *overrides)


@pytest.fixture(scope="module")
def pairs() -> Iterator[ExitStack]:
    """Return what ends the follower of this module's tests."""
    with ExitStack() as stack:
        yield stack


def start_pair(pairs: ExitStack) -> Processes:
    """Return two processes, this one and a new follower. No run is trained by them yet."""
    pairs.close()
    pairs.enter_context(with_followers(2))
    found = processes.current_processes()
    assert found
    processes._current = None
    return found


PAIR: list[Processes] = []


@pytest.fixture
def two(pairs: ExitStack) -> Processes:
    """Return two processes, this one and a follower, which train the runs of this module."""
    if not PAIR or PAIR[0]._is_broken:
        PAIR[:] = [start_pair(pairs)]
    return PAIR[0]


def disturb(patch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Call `action` in this process within step number `step` of a new run, counted from 1."""
    # The rehearsal takes a step alone, and one together.
    calls = -2

    def counted(*given: Any) -> StepResult:
        nonlocal calls
        calls += 1
        if calls == step:
            action()
        return train_step(*given)

    patch.setattr("gan.distributed.shared.train_step", counted)


@pytest.fixture
def together(two: Processes, monkeypatch: pytest.MonkeyPatch) -> Processes:
    """Let runs in this test be trained by two processes, from the call of this fixture on."""
    monkeypatch.setattr(processes, "_current", two)
    return two


def checkpoint(run_dir: Path) -> dict[str, Tensor]:
    """Return all weights and buffers of a run's last checkpoint."""
    saved = torch.load(checkpoint_paths(run_dir)[0], weights_only=True)
    return {
        f"{role}/{name}": tensor
        for role in ("generator", "discriminator", "average")
        for name, tensor in (saved[role] or {}).items()
    }


def assert_same_but_for_rounding(one: Path, other: Path) -> None:
    """Compare everything that two runs have recorded, and their weights."""
    expected, found = read_records(one), read_records(other)
    assert [r["step"] for r in found] == [r["step"] for r in expected]
    for left, right in zip(expected, found, strict=True):
        assert right == pytest.approx(left, rel=2e-3, abs=2e-5)
    before, after = checkpoint(one), checkpoint(other)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES],
)
def test_two_processes_train_the_same_run_as_one(
    two: Processes, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny(*CASES[case]), tmp_path / "one")
    monkeypatch.setattr(processes, "_current", two)
    run(tiny(*CASES[case]), tmp_path / "two")
    assert_same_but_for_rounding(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["trainer.batch_size=15"], "batch_size=15: 2 processes cannot share it equally"),
        (["trainer.batch_size=9", "trainer.pac=3"], "must be a multiple of 6"),
        (["device=cuda:1"], "device=cuda:1: is one device, and there are 2 processes"),
        (["trainer.compile=true"], "trainer.compile=true: is for one process"),
        (
            ["loss=hinge", "loss._target_=test_shared.Remembering"],
            "loss._target_=test_shared.Remembering: keeps a state",
        ),
        (
            ["model._target_=test_shared.with_deviation"],
            "its discriminator looks at several samples at once",
        ),
        (["model._target_=dropout.mlp_with_dropout"], "its generator draws random numbers"),
        (
            ["penalty._target_=test_shared.spread_of_logits", "~penalty.gamma"],
            "penalty._target_=test_shared.spread_of_logits: the discriminator's gradients",
        ),
    ],
)
def test_runs_that_would_be_other_ones_are_refused_before_anything_is_made(
    together: Processes, overrides: list[str], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        run(tiny(*MLP, *overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_that_need_the_whole_batch_are_found_by_their_numbers(two: Processes) -> None:
    expected = {
        ("penalty=r1",): (False, False, False),
        ("loss=relativistic", "penalty=dragan"): (False, True, False),
        CASES["a loss of the mean logit"]: (True, False, False),
        CASES["a loss that draws numbers"]: (True, False, False),
        CASES["a penalty of the largest gradient"]: (False, False, True),
        ("model.generator_norm=batch", "trainer.pac=2", "penalty=wgan_gp"): (False, False, False),
    }
    for overrides, plan in expected.items():
        parts = build(tiny(*MLP, *overrides))
        assert make_plan(parts, 2) == plan, overrides


def test_number_of_processes_is_noted_and_no_part_of_the_configuration(
    two: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny(*MLP, "trainer.checkpoint_every=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "_current", two)
        disturb(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(Interrupted, match="SIGINT after step"):
            run(cfg, tmp_path)
    run(cfg, tmp_path)
    note = read_provenance(tmp_path)
    assert note
    assert [start["processes"] for start in note["starts"]] == [2, 1]


def test_signal_to_any_process_stops_all_after_the_same_step(
    two: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (follower,) = children(os.getpid())
    cfg = tiny(*MLP)
    monkeypatch.setattr(processes, "_current", two)
    run(cfg, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, 2, lambda: os.kill(follower, signal.SIGTERM))
        with pytest.raises(Interrupted, match=r"stopped by SIGTERM after step [2-4] of") as caught:
            run(cfg, tmp_path / "stopped")
    assert caught.value.exit_code == 128 + signal.SIGTERM
    run(cfg, tmp_path / "stopped")
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def test_death_of_a_process_ends_the_others_and_the_run_goes_on_from_its_checkpoint(
    two: Processes, pairs: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny(*MLP, "trainer.checkpoint_every=2")
    (follower,) = children(os.getpid())
    monkeypatch.setattr(processes, "_current", two)
    run(cfg, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, 4, lambda: os.kill(follower, signal.SIGKILL))
        with pytest.raises(ProcessLost, match="another of its 2 processes has died; continue"):
            run(cfg, tmp_path / "killed")
    result = read_result(tmp_path / "killed")
    assert result
    assert result["status"] == "interrupted"
    PAIR[:] = [start_pair(pairs)]
    monkeypatch.setattr(processes, "_current", PAIR[0])
    run(cfg, tmp_path / "killed")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_torchrun_trains_one_run(tmp_path: Path) -> None:
    train = [*TORCHRUN, str(SCRIPTS / "train.py"), *TINY, *MLP]
    code, out, err = execute([*train, f"hydra.run.dir={tmp_path / 'run'}"])
    assert code == 0, err
    assert out.count(f"completed at step {STEPS}") == 1
    assert checkpoint_paths(tmp_path / "run")


@pytest.mark.slow
def test_torchrun_refuses_sweeps_and_prints_the_help_once(tmp_path: Path) -> None:
    train = [*TORCHRUN, str(SCRIPTS / "train.py")]
    code, out, err = execute([*train, "-m", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}"])
    assert code == 1
    assert err.count("-m: 2 processes train one run, and not a sweep") == 1
    assert not (tmp_path / "sweep").exists()
    code, out, err = execute([*train, "--help"])
    assert code == 0, err
    assert out.count("Train a GAN, or a sweep of GANs") == 1


def test_places_with_too_few_cores_or_gpus_are_refused() -> None:
    place = Place(2, 1, "cpus_per_task", "gpus_per_node")
    check_place(place, 1, "cuda")
    check_place(place, 2, "cpu")
    with pytest.raises(UserError, match=r"cpus_per_task=2: must be at least 4"):
        check_place(place, 4, "cpu")
    with pytest.raises(UserError, match=r"gpus_per_node=1: must be at least 2, a GPU for each"):
        check_place(place, 2, "auto")


def test_a_process_takes_the_gpu_of_its_number() -> None:
    launch = Launch(rank=1, size=2, local_rank=1, local_size=2, host="", port=0)
    one = Processes(launch, cast(Any, None))
    assert one.device_name("cuda", gpus=2) == "cuda:1"
    assert one.device_name("auto", gpus=4) == "cuda:1"
    assert one.device_name("auto", gpus=0) == "cpu"
    with pytest.raises(UserError, match="each of 2 processes needs a GPU of its own"):
        one.device_name("cuda", gpus=1)


def test_process_that_dies_before_it_starts_is_noticed_and_another_attempt_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead = [sys.executable, "-c", ""]
    monkeypatch.setattr(followers, "_start", lambda launch: subprocess.Popen(dead))
    with with_followers(2):
        processes = current_processes()
        assert processes
        with pytest.raises(StartFailed, match="one of 2 processes has died before it had started"):
            processes.connect(torch.device("cpu"))
    assert ending_of(StartFailed("")).status is Status.RAISED, "which is tried again"
