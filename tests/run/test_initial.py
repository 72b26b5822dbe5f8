"""Runs that start from the weights of others."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from cohorts import Parent, make_attempt, train_cohort
from omegaconf import DictConfig, OmegaConf
from runs import content, interrupt_at, short
from safetensors.torch import save_file
from sweep_commands import compose_sweep, execute, sweep_command

from gan.commands.resume import Options as ResumeOptions
from gan.commands.resume import resume
from gan.compare.read import read_run
from gan.compare.repeat import command
from gan.config.checks import flatten
from gan.config.compose import compose
from gan.errors import Interrupted, UserError
from gan.run.checkpoint import checkpoint_paths, load_newest_checkpoint
from gan.run.directory import read_config
from gan.run.result import Status, read_result
from gan.run.run import Run
from gan.sweep.composer import Composer
from gan.sweep.plan import identity, make_plan
from gan.train import run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the run whose weights others take."""
    run_dir = tmp_path_factory.mktemp("source") / "run"
    run(short(), run_dir)
    return run_dir


def weights(run_dir: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights in a run's newest checkpoint."""
    saved = load_newest_checkpoint(run_dir)
    assert saved
    return {role: saved[role] for role in ("generator", "discriminator")}


def as_safetensors(run_dir: Path, file: Path, *roles: str) -> Path:
    """Write a run's weights into a safetensors file."""
    named = {f"{r}.{n}": w.clone() for r in roles for n, w in weights(run_dir)[r].items()}
    save_file(named, file)
    return file


def assert_equal(networks: dict[str, dict[str, torch.Tensor]], run: Run) -> None:
    """Check that a run's networks have these weights."""
    for role, expected in networks.items():
        own = getattr(run.parts, role).state_dict()
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[name], expected[name]) for name in own)


def test_run_whose_first_weights_are_gone_does_not_begin_again(tmp_path: Path) -> None:
    run(short(), tmp_path / "source")
    run(short(f"trainer.init_from={tmp_path / 'source'}"), tmp_path / "run")
    before = content(tmp_path / "run")
    run(short("trainer.max_steps=60"), tmp_path / "source", extend=True)
    with pytest.raises(UserError, match="its weights have changed"):
        resume([tmp_path / "run"], ResumeOptions(restart=True))
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(UserError, match="does not exist"):
        resume([tmp_path / "run"], ResumeOptions(restart=True))
    assert content(tmp_path / "run") == before
    assert read_result(tmp_path / "run")


@pytest.mark.parametrize("kind", ["run", "checkpoint", "safetensors"])
def test_networks_and_average_start_from_the_weights_and_optimizers_anew(
    source: Path, tmp_path: Path, kind: str
) -> None:
    places = {
        "run": source,
        "checkpoint": checkpoint_paths(source)[0],
        "safetensors": tmp_path / "weights.safetensors",
    }
    as_safetensors(source, places["safetensors"], "generator", "discriminator")
    cfg = short(f"trainer.init_from='{places[kind]}'", "trainer.ema_half_life=100", "seed=7")
    with Run.open(cfg, tmp_path / "run") as opened:
        assert_equal(weights(source), opened)
        average = opened.parts.averaged_generator
        assert average is not None
        for name, weight in weights(source)["generator"].items():
            assert torch.equal(average.state_dict()[name], weight)
        assert opened.parts.generator_optimizer.state == {}
        assert opened.step == 0


def test_a_file_of_a_generator_alone_leaves_the_discriminator_as_it_is(
    source: Path, tmp_path: Path
) -> None:
    file = as_safetensors(source, tmp_path / "generator.safetensors", "generator")
    with Run.open(short(), tmp_path / "fresh") as opened:
        fresh = {"discriminator": dict(opened.parts.discriminator.state_dict())}
    with Run.open(short(f"trainer.init_from={file}"), tmp_path / "run") as opened:
        assert_equal({"generator": weights(source)["generator"]} | fresh, opened)


def test_the_same_weights_elsewhere_are_the_same_run_and_others_are_not(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source, tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    run(short("trainer.init_from=here", "trainer.max_steps=20"), tmp_path / "run")
    stored = read_config(tmp_path / "run").trainer
    assert stored.init_from == str(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    # The same weights, in a file that holds nothing else.
    as_safetensors(source, tmp_path / "w.safetensors", "generator", "discriminator")
    for place in ("there", "w.safetensors"):
        run(short(f"trainer.init_from={place}", "trainer.max_steps=20"), tmp_path / "run")
    run(short("seed=5", "trainer.max_steps=3"), tmp_path / "other")
    with pytest.raises(UserError, match=r"its run has trainer\.init_hash="):
        run(short("trainer.init_from=other", "trainer.max_steps=20"), tmp_path / "run")
    with pytest.raises(UserError, match=r"its run has trainer\.init_hash="):
        run(short("trainer.max_steps=20"), tmp_path / "run")


def test_a_run_goes_on_when_the_source_is_gone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(source, tmp_path / "source")
    cfg = short(f"trainer.init_from={tmp_path / 'source'}")
    run(cfg, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 23, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(cfg, tmp_path / "run")
    shutil.rmtree(tmp_path / "source")
    run(cfg, tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "undisturbed")


def test_weights_that_changed_before_the_first_step_are_refused(
    source: Path, tmp_path: Path
) -> None:
    file = as_safetensors(source, tmp_path / "w.safetensors", "generator", "discriminator")
    cfg = short(f"trainer.init_from={file}", "trainer.init_hash='0123456789abcdef'")
    with pytest.raises(UserError, match="its weights have changed"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_networks_are_refused_before_anything_is_written(
    source: Path, tmp_path: Path
) -> None:
    for override, message in {
        "model.hidden_dim=32": "has shape (16, 100) there and (32, 100) here; "
        "set model.hidden_dim=16, as that run has, and not 32",
        "model.hidden_layers=3": "set model.hidden_layers=",
        "trainer.pac=2": "; set trainer.pac=1, as that run has, and not 2",
    }.items():
        with pytest.raises(UserError) as caught:
            run(short(f"trainer.init_from={source}", override), tmp_path / "run")
        assert message in str(caught.value)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "does not exist"),
        ("empty", "not a run directory, it has no config.yaml"),
        ("new", "has no checkpoint that can be read"),
        ("text.pt", "is damaged, or no checkpoint"),
        ("text.safetensors", "cannot be read"),
        ("other.pt", "holds no weights of a generator or a discriminator"),
    ],
)
def test_a_place_without_weights_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "new").mkdir()
    shutil.copy(source / "config.yaml", tmp_path / "new")
    (tmp_path / "text.pt").write_text("text")
    (tmp_path / "text.safetensors").write_text("text")
    torch.save({"step": 3}, tmp_path / "other.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run(short(f"trainer.init_from={place}"), tmp_path / "run")
    assert str(caught.value).startswith(f"trainer.init_from={tmp_path / place}: ")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_runs_that_start_from_nothing_keep_their_identity() -> None:
    config = OmegaConf.to_container(short(), resolve=True)
    assert isinstance(config, dict)
    old = {**config, "trainer": {k: v for k, v in config["trainer"].items() if "init" not in k}}
    assert identity(flatten(old)) == identity(flatten(short()))


def test_a_sweep_over_initial_weights_plans_a_run_for_each(source: Path, tmp_path: Path) -> None:
    run(short("seed=3", "trainer.max_steps=2"), tmp_path / "other")
    places = [source, checkpoint_paths(source)[0], tmp_path / "other"]
    master, loader = compose_sweep()
    points = [[f"trainer.init_from={place}"] for place in places]
    plan = make_plan(Composer(loader, master), points, swept=(), seeds=1)
    # The first two are the same weights.
    assert [len(set(names)) for names in zip(*plan.points, strict=True)] == [2]
    assert (
        plan.jobs[0].config["trainer"]["init_hash"] != plan.jobs[1].config["trainer"]["init_hash"]
    )
    assert plan.jobs[1].name == "init_from=other"


def test_workers_start_from_a_relative_path_and_the_command_can_be_repeated(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    same = ["data=mnist5k", "trainer.init_from=run", "seed=0,1"]
    code, _, err = execute(sweep_command(tmp_path / "sweep", *same))
    assert code == 0, err
    monkeypatch.chdir(tmp_path)
    for run_dir in (tmp_path / "sweep").glob("seed=*"):
        words, _ = command(read_run(run_dir))
        overrides = words[2:]
        assert (
            flatten(compose(*overrides)).items()
            >= {
                "trainer.init_from": str(source),
                "trainer.init_hash": read_config(run_dir).trainer.init_hash,
            }.items()
        )
        with Run.open(compose(*overrides), tmp_path / "again") as opened:
            assert_equal(weights(source), opened)
        shutil.rmtree(tmp_path / "again")


def test_runs_of_a_cohort_start_from_their_own_weights(source: Path, tmp_path: Path) -> None:
    run(make_cfg("seed=3", "trainer.max_steps=5"), tmp_path / "a")
    run(make_cfg("seed=4", "trainer.max_steps=5"), tmp_path / "b")
    attempts = [
        make_attempt(tmp_path, f"from {name}", f"trainer.init_from={tmp_path / name}")
        for name in ("a", "b")
    ]
    parent = Parent(*attempts)
    train_cohort(parent)
    assert parent.statuses == dict.fromkeys(("from a", "from b"), Status.COMPLETED)
    for attempt in attempts:
        run(OmegaConf.create(attempt.config), tmp_path / "alone")
        ours, alone = read_result(attempt.run_dir), read_result(tmp_path / "alone")
        assert ours is not None
        assert alone is not None
        assert ours["objective"] == pytest.approx(alone["objective"], rel=1e-3)
        shutil.rmtree(tmp_path / "alone")


def make_cfg(*overrides: str) -> DictConfig:
    """Return the configuration of a run of a cohort."""
    return OmegaConf.create(make_attempt(Path(), "x", *overrides).config)
