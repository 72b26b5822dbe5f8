"""State of optimizers, losses and penalties: saved, or refused before it can be lost."""

import inspect
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from runs import content, interrupt_at, short

import gan.step
from gan.errors import Interrupted, UserError
from gan.run.checkpoint import checkpoint_paths, load_newest_checkpoint, save_checkpoint
from gan.run.contents import changed, contents
from gan.run.result import read_result
from gan.seeds import derive_seed
from gan.step import Batch, StepKind, StepResult, TrainableGAN, train_step
from gan.train import run

QUIET = ("data=digits", "metrics=none", "logging=quiet", "trainer.max_steps=20", "threads=1")


def with_group(name: str, settings: dict[str, Any], *overrides: str) -> DictConfig:
    """Return a short run's configuration with other settings in one group."""
    config = OmegaConf.to_container(short(*QUIET, *overrides), resolve=True)
    assert isinstance(config, dict)
    config[name] = settings
    return OmegaConf.create({str(key): value for key, value in config.items()})


def assert_resumes(
    cfg: DictConfig, folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int = 13
) -> None:
    """Check that a run that is stopped in the middle ends as one that is not."""
    run(cfg, folder / "undisturbed")
    with monkeypatch.context() as patch:
        interrupt_at(patch, stop, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(cfg, folder / "run")
    run(cfg, folder / "run")
    assert content(folder / "run") == content(folder / "undisturbed")


OPTIMIZERS = sorted(
    name
    for name, made in vars(torch.optim).items()
    if inspect.isclass(made) and {"params", "lr"} <= inspect.signature(made).parameters.keys()
)
REFUSED = {"LBFGS": "closure", "SparseAdam": "dense gradients", "Muon": "2D"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_run_with_any_optimizer_of_torch_resumes_bit_for_bit_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings: dict[str, Any] = {"_target_": f"torch.optim.{name}", "lr": 1e-3}
    if "betas" in inspect.signature(getattr(torch.optim, name)).parameters:
        settings["betas"] = [0.5, 0.9]
    cfg = with_group("optimizer", settings)
    if name in REFUSED:
        with pytest.raises(UserError, match=rf"^optimizer\._target_=.*{REFUSED[name]}"):
            run(cfg, tmp_path / "run")
        assert not (tmp_path / "run").exists()
    else:
        assert_resumes(cfg, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("group", "settings"),
    [
        ("loss", {"_target_": "outside.SavedAverage"}),
        ("loss", {"_target_": "outside.ModuleLoss"}),
        ("loss", {"_target_": "outside.spread_loss", "weight": 1.0}),
        ("penalty", {"_target_": "outside.LeCam", "interval": 2, "weight": 1.0, "decay": 0.9}),
        ("penalty", {"_target_": "outside.consistency", "interval": 3, "weight": 1.0}),
        ("penalty", {"_target_": "outside.feature_consistency", "interval": 1, "weight": 1.0}),
    ],
)
def test_run_with_an_outside_loss_or_penalty_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, settings: dict[str, Any]
) -> None:
    assert_resumes(with_group(group, settings), tmp_path, monkeypatch)


def test_outside_parts_change_the_weights(tmp_path: Path) -> None:
    penalties: list[dict[str, Any]] = [
        {"_target_": None, "interval": 1},
        {"_target_": "outside.LeCam", "interval": 1, "weight": 1.0, "decay": 0.9},
        {"_target_": "outside.consistency", "interval": 1, "weight": 1.0},
        {"_target_": "outside.feature_consistency", "interval": 1, "weight": 1.0},
    ]
    weights = []
    for number, settings in enumerate(penalties):
        run(with_group("penalty", settings), tmp_path / str(number))
        checkpoint = load_newest_checkpoint(tmp_path / str(number)) or {}
        weights.append(str(checkpoint["discriminator"]))
    assert len(set(weights)) == 4


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("outside.counting_loss", r"discriminator\.calls changes"),
        ("outside.appending_loss", r"discriminator\.kept"),
        ("outside.Average", r"discriminator\.self\.mean"),
        ("outside.bound_loss", r"discriminator\.self\.mean"),
        ("outside.HalfSavedAverage", r"could not restore discriminator\.self\.calls"),
    ],
)
def test_loss_that_keeps_a_state_which_is_not_saved_is_refused_after_its_first_step(
    tmp_path: Path, target: str, place: str
) -> None:
    with pytest.raises(UserError, match=f"^loss: .*{place}.*state_dict"):
        run(with_group("loss", {"_target_": target}), tmp_path / "run")
    assert (read_result(tmp_path / "run") or {})["status"] == "failed"
    assert not checkpoint_paths(tmp_path / "run")


def test_target_that_returns_no_loss_or_one_value_for_each_sample_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"^loss\._target_=outside\.no_loss: returned object, not"):
        run(with_group("loss", {"_target_": "outside.no_loss"}), tmp_path / "run")
    settings = {"_target_": "outside.no_loss", "interval": 1}
    with pytest.raises(UserError, match=r"^penalty\._target_=outside\.no_loss: returned object"):
        run(with_group("penalty", settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=r"^loss: must return a scalar, not values \(16, 1\)"):
        run(with_group("loss", {"_target_": "outside.unreduced_loss"}), tmp_path / "run")


def test_penalty_on_features_is_refused_where_the_discriminator_has_none(tmp_path: Path) -> None:
    penalty = {"_target_": "outside.feature_consistency", "interval": 1, "weight": 1.0}
    cfg = with_group("penalty", penalty)
    cfg.model = dict(cfg.model) | {"_target_": "outside.pair", "layer": "rms"}
    with pytest.raises(UserError, match=r"needs the discriminator's features, but .* takes no"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["outside.consistency", "outside.feature_consistency"])
def test_compiled_run_with_a_penalty_of_its_own_is_like_an_eager_one(
    tmp_path: Path, target: str
) -> None:
    penalty = {"_target_": target, "interval": 1, "weight": 1.0}
    for name in ("false", "true"):
        override = f"trainer.compile={name}"
        run(with_group("penalty", penalty, override, "trainer.max_steps=4"), tmp_path / name)
    eager, compiled = (load_newest_checkpoint(tmp_path / name) or {} for name in ("false", "true"))
    for key, value in eager["discriminator"].items():
        torch.testing.assert_close(compiled["discriminator"][key], value, rtol=1e-3, atol=1e-4)


def test_compiled_run_with_a_state_of_its_own_is_refused(tmp_path: Path) -> None:
    cfg = with_group("loss", {"_target_": "outside.SavedAverage"}, "trainer.compile=true")
    with pytest.raises(UserError, match=r"^trainer\.compile=true: the loss keeps a state"):
        run(cfg, tmp_path / "run")


@pytest.mark.slow
def test_compiled_run_with_a_state_that_is_not_saved_is_refused(tmp_path: Path) -> None:
    cfg = with_group("loss", {"_target_": "outside.counting_loss"}, "trainer.compile=true")
    with pytest.raises(UserError, match=r"^loss: keeps a state"):
        run(cfg, tmp_path / "other")


def test_value_that_cannot_be_read_back_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    betas = ListConfig([0.5, 0.9])
    unreadable = {"step": 1, "optimizer": {"param_groups": [{"lr": 0.1, "betas": betas}]}}
    message = r"^optimizer\.param_groups\[0\]\.betas: a ListConfig cannot be read back"
    with pytest.raises(UserError, match=message):
        save_checkpoint(tmp_path, unreadable)
    assert not checkpoint_paths(tmp_path)


def test_checkpoint_with_values_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "step-00000001.pt"
    torch.save({"step": 1, "betas": ListConfig([0.5, 0.9])}, path)
    with pytest.raises(UserError, match=r"step-00000001\.pt: cannot be read, it holds other"):
        load_newest_checkpoint(tmp_path)


VARIABLE = 0


def counts_in_its_module() -> None:
    global VARIABLE
    VARIABLE += 1


def remembering() -> dict[str, Any]:
    """Return functions that remember that they were called, each in another way."""
    import collections
    import functools
    import itertools
    import random

    import numpy as np

    numbers, tensor, array = itertools.count(), torch.zeros(2), np.zeros(2)
    queue, table, generator = collections.deque([0]), {"calls": 0}, torch.Generator()
    dice, stream = random.Random(0), np.random.default_rng(0)

    class OfItsClass:
        calls = 0

        def __call__(self) -> None:
            OfItsClass.calls += 1

    class Slotted:
        __slots__ = ("calls",)

        def __call__(self) -> None:
            self.calls = getattr(self, "calls", 0) + 1

    def yields() -> Any:
        calls = 0
        while True:
            calls += 1
            yield calls

    def attribute() -> None:
        attribute.calls = getattr(attribute, "calls", 0) + 1  # type: ignore[attr-defined]

    def default(kept: list[int] = []) -> None:  # noqa: B006
        kept.append(1)

    def helped() -> None:
        counts_in_its_module()

    yielding = yields()
    next(yielding)
    return {
        "counter": lambda: next(numbers),
        "tensor": lambda: tensor.add_(1),
        "array": lambda: np.add(array, 1, out=array),
        "queue": lambda: queue.append(1),
        "table": lambda: table.update(calls=table["calls"] + 1),
        "generator of torch": lambda: torch.rand(1, generator=generator),
        "dice": lambda: dice.random(),
        "generator of numpy": lambda: stream.random(),
        "class": OfItsClass(),
        "slots": Slotted(),
        "generator function": lambda: next(yielding),
        "attribute": attribute,
        "default": default,
        "partial": functools.partial(default, []),
        "partial of keyword": functools.partial(default, kept=[]),
        "module": counts_in_its_module,
        "helper": helped,
        "method of a list": functools.partial(list[int]().append, 1),
        "method of its object": functools.partial(queue.append, 1),
    }


@pytest.mark.parametrize("name", remembering())
def test_function_that_remembers_a_call_has_other_contents_after_it(name: str) -> None:
    function = remembering()[name]
    before = contents(function)
    assert changed(before, contents(function)) is None
    function()
    assert changed(before, contents(function)) is not None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("transposed_pair", "its generator returns samples"),
        ("two_logits_pair", r"must return logits \(batch, 1\)"),
        ("swapped_pair", "its generator cannot be called"),
        ("one_network", "must return two networks"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, target: str, message: str
) -> None:
    cfg = short("metrics=none")
    cfg.model = {"_target_": f"outside.{target}", "latent_dim": 8, "conditional": False}
    with pytest.raises(UserError, match=rf"model\._target_=outside\.{target}: .*{message}"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def note_latents(
    latents: dict[str, torch.Tensor], name: str, trained: TrainableGAN, batch: Batch, kind: StepKind
) -> StepResult:
    """Make a step, and keep the latents of the first one."""
    latents.setdefault(name, batch.z)
    return train_step(trained, batch, kind)


def test_run_of_a_gpu_goes_on_on_a_cpu_with_other_random_numbers(tmp_path: Path) -> None:
    cfg = short(*QUIET, "trainer.max_steps=12", "trainer.checkpoint_every=6", "device=cpu")
    latents: dict[str, torch.Tensor] = {}
    for name in ("cpu", "gpu"):
        run(cfg, tmp_path / name)
        (tmp_path / name / "result.json").unlink()
        newest, earlier = checkpoint_paths(tmp_path / name)
        newest.unlink()
        saved = torch.load(earlier, weights_only=True)
        if name == "gpu":
            # A generator of CUDA has a state of 16 bytes.
            state = torch.zeros(16, dtype=torch.uint8)
            save_checkpoint(tmp_path / name, saved | {"noise": state, "cuda_random": state})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gan.step, "train_step", partial(note_latents, latents, name))
            run(cfg, tmp_path / name)
        assert (read_result(tmp_path / name) or {})["status"] == "completed"
        assert (load_newest_checkpoint(tmp_path / name) or {})["step"] == 12
    first = torch.randn(
        latents["gpu"].shape,
        generator=torch.Generator().manual_seed(derive_seed(cfg.seed, "noise")),
    )
    assert not torch.equal(latents["gpu"], first)
    assert not torch.equal(latents["gpu"], latents["cpu"])
