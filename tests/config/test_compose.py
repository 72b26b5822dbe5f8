"""Composed configurations, errors about wrong overrides, and imports that are not needed."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from gan.config.compose import compose, compose_unchecked, source_words
from gan.config.loader import VERSION_BASE
from gan.config.overrides import as_override
from gan.config.schema import CONF_DIR, GROUPS
from gan.errors import UserError

TRAIN = CONF_DIR.parent / "scripts/train.py"


def test_optimizer_lr_is_for_both_networks_unless_the_discriminator_has_its_own() -> None:
    def rates(*overrides: str) -> tuple[float, float]:
        cfg = compose(*overrides)
        return cfg.optimizer.lr, cfg.discriminator_optimizer.lr

    assert rates("optimizer.lr=3e-4") == (3e-4, 3e-4)
    assert rates("optimizer.lr=3e-4", "discriminator_optimizer.lr=1e-5") == (3e-4, 1e-5)
    assert rates("discriminator_optimizer.lr=1e-5") == (2e-4, 1e-5)
    assert rates("optimizer.lr=3e-4", "discriminator_optimizer=rmsprop") == (3e-4, 3e-4)


def test_the_default_configuration() -> None:
    cfg = compose()
    assert (cfg.model.hidden_dim, cfg.model.latent_dim) == (256, 100)
    assert (cfg.optimizer._target_, cfg.optimizer.betas) == ("torch.optim.Adam", [0.5, 0.999])
    assert cfg.loss._target_ == "gan.losses.non_saturating"
    assert (cfg.data._target_, cfg.penalty._target_) == ("gan.data.mnist5k", "gan.penalties.r1")


def test_the_command_line_overrides_an_experiment() -> None:
    cfg = compose("experiment=lab", "data=mnist5k", "optimizer.lr=1e-3", "trainer.max_epochs=2")
    assert cfg.data._target_ == "gan.data.mnist5k"
    assert (cfg.optimizer.lr, cfg.trainer.max_epochs, cfg.trainer.max_steps) == (1e-3, 2, None)
    assert (cfg.optimizer.betas, cfg.penalty._target_) == ([0.9, 0.999], None)


WRONG = [
    # Unknown keys
    ("optimizer.lrr=1", ["optimizer.lrr=1", "unknown key", "'optimizer.lr'"]),
    ("model.hiden_dim=1", ["model.hiden_dim=1", "unknown key", "'model.hidden_dim'"]),
    ("trainer.max_step=3", ["trainer.max_step=3", "unknown key", "'trainer.max_steps'"]),
    ("model.foo=1", ["model.foo=1", "unknown key", "latent_dim, conditional"]),
    ("seeds=3", ["seeds=3", "unknown key", "'sweep.seeds'"]),
    ("modle=base", ["modle=base", "unknown key", "'model'"]),
    ("+model.foo=1", ["model.foo", "unknown key"]),
    ("++model.hiden_dim=1", ["model.hiden_dim", "unknown key", "'model.hidden_dim'"]),
    ("+foo=1", ["foo", "unknown key"]),
    ("optimizer=sgd optimizer.betas=[0,0]", ["optimizer.betas", "unknown key", "nesterov"]),
    ("penalty=none penalty.gamma=1", ["penalty.gamma=1", "unknown key", "interval"]),
    ("~model.hidden_dim", ["model.hidden_dim", "must be set"]),
    ("~optimizer", ["optimizer"]),
    # Unknown options of groups
    ("model=huge", ["model=huge", "no such option", "base, dcgan, "]),
    ("model=bas", ["model=bas", "base, dcgan, ", "did you mean 'base'"]),
    ("optimizer=adan", ["optimizer=adan", "adam, adamw, rmsprop, sgd", "did you mean 'adam"]),
    ("loss=minmax", ["loss=minmax", "did you mean 'minimax'"]),
    ("penalty=wgangp", ["penalty=wgangp", "did you mean 'wgan_gp'"]),
    ("data=cifar", ["data=cifar", "mnist5k"]),
    ("experiment=none", ["experiment=none", "no such option", "lab"]),
    ("seed=1 model=null", ["model=null", "no such option", "base, dcgan, "]),
    ("recipe=null", ["recipe=null: leave it out for no option, or write ~recipe"]),
    ("+experiment=ring8", ["+experiment: is a group that has an option already; leave out"]),
    ("++recipe=lab", ["++recipe: is a group; leave out the pluses"]),
    ("model={foo:1}", ["model.foo: unknown key", "model has _target_, latent_dim"]),
    ("model=3", ["model=3", "no such option", "base, dcgan, "]),
    ("+model=base", ["model", "one option"]),
    # Types
    ("optimizer.lr=abc", ["optimizer.lr=abc", "a number"]),
    ("optimizer.lr=true", ["optimizer.lr=true", "a number"]),
    ("optimizer.lr=[1,2]", ["optimizer.lr=[1,2]", "a number"]),
    ("model.hidden_dim=1.5", ["model.hidden_dim=1.5", "a whole number"]),
    ("model.hidden_dim=true", ["model.hidden_dim=true", "a whole number"]),
    ("model.hidden_dim=null", ["model.hidden_dim=null", "not be null"]),
    ("seed=one", ["seed=one", "a whole number"]),
    ("logging.tensorboard=maybe", ["logging.tensorboard=maybe", "true or false"]),
    ("optimizer.betas=0.5", ["optimizer.betas=0.5", "must be a list"]),
    ("optimizer.betas=[a,b]", ["optimizer.betas=[a,b]", "a number"]),
    ("optimizer.betas=['${nope}',0.9]", ["optimizer.betas: Interpolation key 'nope' not found"]),
    ("+penalty.lambda=1", ["penalty.lambda: unknown key"]),
    ("+optimizer.weight-decay=1", ["unknown key; did you mean 'optimizer.weight_decay'?"]),
    ("loss._target_=3", ["loss._target_=3: must be the dotted name of a function"]),
    ("tags=a", ["tags=a", "must be a list"]),
    # Ranges
    ("model.hidden_dim=0", ["model.hidden_dim=0", "at least 1"]),
    ("model.hidden_dim=-8", ["model.hidden_dim=-8", "at least 1"]),
    ("optimizer.lr=-1e-3", ["optimizer.lr=-0.001", "above 0"]),
    ("optimizer.lr=0", ["optimizer.lr=0", "above 0"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "must be"]),
    ("discriminator_optimizer.lr=-1", ["discriminator_optimizer.lr=-1", "above 0"]),
    ("discriminator_optimizer.beta=1", ["discriminator_optimizer.beta=1", "unknown key"]),
    ("optimizer.betas=[0.5,1.0]", ["optimizer.betas=[0.5,1.0]", "below 1"]),
    ("optimizer.betas=[-0.1,0.9]", ["optimizer.betas=[-0.1,0.9]", "at least 0"]),
    ("optimizer.betas=[0.5,nan]", ["optimizer.betas=[0.5,nan]", "must be"]),
    ("optimizer.betas=[0.5]", ["optimizer.betas=[0.5]", "2 values"]),
    ("optimizer.betas=[0.5,0.9,0.9]", ["optimizer.betas=[0.5,0.9,0.9]", "2 values"]),
    ("trainer.batch_size=0", ["trainer.batch_size=0", "at least 1"]),
    ("model.generator_norm=bach", ["model.generator_norm=bach", "none, batch", "'batch'"]),
    ("model.conditional=some", ["model.conditional=some", "true or false"]),
    ("trainer.precision=fp64", ["trainer.precision=fp64", "fp32, tf32, bf16, fp16"]),
    ("seed=-1", ["seed=-1", "at least 0"]),
    ("device=gpu", ["device=gpu", "cuda"]),
    ("device=cuda:x", ["device=cuda:x", "cuda"]),
    ("name=a/b", ["name=a/b", "match"]),
    ("name=", ["name=", "match"]),
    ("data=image_folder", ["data.folder: must be set, as in data.folder=VALUE"]),
    ("data=image_folder data.folder=x data.channels=4", ["data.channels=4", "must be one of 1, 3"]),
    ("data=ring8 data.root=x", ["data.root=x", "unknown key"]),
    # More than one key
    ("trainer.max_epochs=3", ["trainer.max_steps=", "trainer.max_epochs=3", "both"]),
    ("trainer.max_steps=null", ["trainer.max_steps=null", "trainer.max_epochs=null", "neither"]),
    ("experiment=lab trainer.max_steps=9", ["trainer.max_steps=9", "trainer.max_epochs=30"]),
    ("metrics=none metrics.objective=sliced_wasserstein", ["metrics.objective=sliced_wasserstein"]),
    (
        "logging.samples_every_epochs=2",
        ["logging.samples_every=500", "logging.samples_every_epochs=2", "both are"],
    ),
    ("logging.samples_every=null", ["logging.samples_every=null", "neither"]),
    ("logging.samples_every_epochs=0", ["logging.samples_every_epochs=0", "at least 1"]),
    ("logging.samples_every_epochs=0.5", ["logging.samples_every_epochs=0.5", "whole number"]),
    ("metrics.objective=lr", ["metrics.objective=lr", "must be one of", "loss/generator"]),
    ("optimizer=sgd optimizer.nesterov=true", ["optimizer.nesterov=true", "momentum"]),
    (
        "discriminator_optimizer=sgd discriminator_optimizer.nesterov=true",
        ["discriminator_optimizer.nesterov=true", "discriminator_optimizer.momentum"],
    ),
    ("optimizer.betas.a=1", ["optimizer.betas.a=1", "is a list", "optimizer.betas.0"]),
    ("loss=[hinge,wasserstein]", ["loss=[hinge,wasserstein]", "-m loss=hinge,wasserstein"]),
    ("model=[base,small]", ["model=[base,small]", "takes one option"]),
    ("recipe=[dcgan,sngan]", ["recipe=[dcgan,sngan]", "takes one option"]),
    ("trainer.pac=3", ["trainer.pac=3", "divide trainer.batch_size=128"]),
    ("trainer.pac=2 model.conditional=true", ["trainer.pac=2", "model.conditional"]),
    ("trainer.augment=[cutuot]", ["trainer.augment=[cutuot]", "did you mean 'cutout'"]),
    ("trainer.augment_p=1.1", ["trainer.augment_p=1.1", "at most 1"]),
    ("trainer.ada_target=0.6", ["trainer.ada_target=0.6", "needs something in trainer.augment"]),
    (
        "trainer.augment=[flip] trainer.augment_p=0 trainer.ada_target=0.6",
        ["trainer.ada_target=0.6", "trainer.augment_p above 0"],
    ),
    ("trainer.augment=[flip] trainer.ada_target=1", ["trainer.ada_target=1", "below 1"]),
    (
        "trainer.consistency=[flip] trainer.consistency_real=0 trainer.consistency_fake=0",
        ["trainer.consistency=[flip]", "trainer.consistency_fake above 0"],
    ),
    ("trainer.ema_half_life=0", ["trainer.ema_half_life=0", "above 0"]),
    ("loss=hinge loss.label_smoothing=0.1", ["loss.label_smoothing", "unknown key"]),
    ("loss.label_smoothing=1", ["loss.label_smoothing=1", "below 1"]),
    ("metrics.names=[lenet_fdi]", ["metrics.names=[lenet_fdi]", "did you mean 'lenet_fid'"]),
    ("metrics.split=valid", ["metrics.split=valid", "train, test"]),
    # Overrides that cannot be read
    ("model.hidden_dim", ["model.hidden_dim", "KEY=VALUE"]),
    ("optimizer.betas=[0,1", ["optimizer.betas=[0,1", "must be a list"]),
    ("trainer.max_steps=choice(1,2)", ["trainer.max_steps=choice(1,2)", "--multirun"]),
    ("model.hidden_dim=1,2", ["model.hidden_dim=1,2", "--multirun"]),
    ("model.hidden_dim=${nosuch}", ["model.hidden_dim", "nosuch"]),
    ("name='a\nb'", ["name=", "match"]),
    ("~seed", ["seed"]),
    ("experiment=lab penalty.gamma=2", ["penalty.gamma=2", "unknown key", "penalty has"]),
]


@pytest.mark.parametrize(("overrides", "fragments"), WRONG, ids=[repr(case) for case, _ in WRONG])
def test_a_wrong_override_is_explained_in_one_line(overrides: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        compose(*overrides.split(" "))
    text = str(raised.value)
    assert "\n" not in text
    for fragment in fragments:
        assert fragment in text


def test_composing_twice_gives_the_same_and_leaves_hydra_as_it_was() -> None:
    with initialize_config_dir(str(CONF_DIR), **VERSION_BASE):
        state = GlobalHydra.instance().hydra
        assert compose("seed=3") == compose("seed=3")
        with pytest.raises(UserError):
            compose("model=huge")
        assert GlobalHydra.instance().hydra is state
    assert not GlobalHydra.instance().is_initialized()


def test_words_of_a_run_name_its_folders_whatever_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "it's [mine], (1)"
    (folder / "loss").mkdir(parents=True)
    (folder / "loss/soft.yaml").write_text("_target_: gan.losses.minimax\nlabel_smoothing: 0.3\n")
    words = [f"hydra.searchpath={as_override([f'file://{folder}'])}", "loss=soft"]
    hydra = compose_unchecked(words, with_hydra=True).hydra
    assert compose(*source_words(hydra), "loss=soft").loss.label_smoothing == 0.3


def test_every_configuration_has_a_token_of_its_own() -> None:
    first, second = (OmegaConf.create({"a": "${token:}", "b": "${token:}"}) for _ in range(2))
    assert first.a == first.b
    assert first.a != second.a


PROBE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    assert not error.code, error.code
print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"torch", "torchvision", "tensorboard", "sklearn", "mlxtend", "numpy"}


def output_and_modules(cwd: Path, *arguments: str) -> tuple[str, set[str]]:
    """Return what a script prints, and the modules that it has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stderr.split())
    assert {"hydra", "omegaconf", "gan.config.schema"} <= modules
    return done.stdout, modules


@pytest.mark.parametrize("overrides", [["model=small"], ["experiment=lab", "seed=7"]])
def test_showing_the_configuration_imports_no_torch(tmp_path: Path, overrides: list[str]) -> None:
    text, modules = output_and_modules(tmp_path, str(TRAIN), "--cfg", "job", *overrides)
    assert not modules & HEAVY
    assert text.strip() == OmegaConf.to_yaml(compose(*overrides)).strip()
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_group_and_imports_no_torch(tmp_path: Path) -> None:
    text, modules = output_and_modules(tmp_path, str(TRAIN), "--help")
    assert not modules & HEAVY
    for group in GROUPS:
        assert f"\n{group}: " in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "code",
    [
        "from gan.config.compose import compose; print(compose('seed=5').seed)",
        "from gan.config.reference import read_option; print(read_option('loss', 'hinge').about)",
    ],
)
def test_configurations_can_be_used_without_torch(tmp_path: Path, code: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(code)
    text, modules = output_and_modules(tmp_path, str(script))
    assert text in ("5\n", "The hinge loss (arXiv:1705.02894).\n")
    assert not modules & HEAVY


def test_training_imports_no_compiler(tmp_path: Path) -> None:
    overrides = ["trainer.max_steps=1", "trainer.batch_size=16", "metrics.samples=100"]
    text, modules = output_and_modules(tmp_path, str(TRAIN), "model=small", *overrides)
    assert "completed at step 1" in text
    assert {"torch.optim", "gan.run.graph"} <= modules
    assert "torch._dynamo" not in modules
