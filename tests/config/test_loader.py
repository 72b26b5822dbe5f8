"""Experiments together with what the command line chooses beside them."""

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from conf_options import MANDATORY, composed
from omegaconf import DictConfig, OmegaConf
from sweep_commands import compose_sweep

from gan.config.checks import checked, flatten
from gan.config.compose import compose
from gan.config.schema import CONF_DIR
from gan.config.trust import folder_powers, option_files
from gan.errors import UserError
from gan.sweep.composer import Composer, plain_config
from gan.sweep.plan import identity
from gan.sweep.space import read_space

GROUPS = ("model", "data", "loss", "penalty", "optimizer")


def options(group: str) -> list[str]:
    """Return the names of the options of a group."""
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


SOME_EXPERIMENTS = [
    pytest.param(name, marks=[] if name in ("lab", "zoo", "ring8") else pytest.mark.slow)
    for name in options("experiment")
    if name != "r3gan_cifar10"
]
"""Experiments, of which a few are tried by default: one run, a sweep, and other data. The networks
and curves of r3gan_cifar10 go with its own penalty alone."""


def below(cfg: DictConfig, group: str) -> dict[str, Any]:
    """Return what a configuration says about a group, with interpolations as they are written."""
    node = OmegaConf.to_container(cfg[group])
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


@pytest.fixture(scope="module")
def composer() -> Composer:
    """Return a composer that reads conf/."""
    master, loader = compose_sweep()
    return Composer(loader, master)


def composer_of(experiment: str, *others: str) -> Composer:
    """Return a composer for sweeps of an experiment."""
    master, loader = compose_sweep(f"experiment={experiment}", *others)
    return Composer(loader, master)


@pytest.mark.parametrize("experiment", SOME_EXPERIMENTS)
def test_chosen_recipe_is_trained_in_every_experiment(experiment: str) -> None:
    composer = composer_of(experiment)
    for recipe in options("recipe"):
        cfg = composer.compose([f"experiment={experiment}", f"recipe={recipe}"])
        checked(cfg)
        file = OmegaConf.load(CONF_DIR / f"recipe/{recipe}.yaml")
        assert isinstance(file, DictConfig)
        for entry in file.pop("defaults"):
            ((override, option),) = entry.items()
            group = str(override).removeprefix("override /")
            asked = below(composed(f"{group}={option}"), group)
            asked |= below(file, group) if group in file else {}
            assert below(cfg, group) == asked, recipe
        flat = flatten(cfg)
        assert {key: flat[key] for key in flatten(file)} == flatten(file), recipe


@pytest.mark.parametrize("experiment", SOME_EXPERIMENTS)
def test_chosen_options_are_trained_in_every_experiment(experiment: str) -> None:
    composer = composer_of(experiment, "model=base")
    count = max(len(options(group)) for group in GROUPS)
    columns = [islice(cycle(options(group)), count) for group in GROUPS]
    for row in zip(*columns, strict=True):
        chosen = [f"{group}={option}" for group, option in zip(GROUPS, row, strict=True)]
        values = [value for choice in chosen for value in MANDATORY.get(choice, [])]
        cfg = composer.compose([f"experiment={experiment}", *chosen, *values])
        checked(cfg)
        for group, choice in zip(GROUPS, chosen, strict=True):
            assert below(cfg, group) == below(composed(choice), group), choice


@pytest.mark.parametrize("recipe", options("recipe"))
def test_recipe_sets_keys_of_the_options_beside_it(composer: Composer, recipe: str) -> None:
    cfg = composer.compose([f"recipe={recipe}", "model=dcgan_small"])
    assert cfg.model.discriminator_spectral_norm == (recipe == "hinge_sn")
    assert cfg.model.channels == 16


def test_settings_of_a_replaced_option_are_left_out_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cfg = compose("experiment=ring8", "metrics=fast", "model=large")
    assert cfg.metrics == compose("metrics=fast").metrics
    assert (cfg.model.hidden_dim, cfg.model.latent_dim) == (1024, 100)
    assert (cfg.optimizer.lr, cfg.trainer.max_steps) == (5e-4, 10000)
    err = capsys.readouterr().err
    assert "metrics=fast replaces metrics.every of experiment=ring8\n" in err
    compose("experiment=ring8", "metrics=fast")
    assert capsys.readouterr().err == "", "it is said once"


def test_key_of_the_command_line_counts_more_than_a_chosen_option() -> None:
    cfg = compose("experiment=ring8", "model=large", "model.hidden_dim=32", "recipe=wgan_gp")
    assert (cfg.model.hidden_dim, cfg.penalty.weight) == (32, 10.0)
    cfg = compose("experiment=lab", "recipe=wgan_gp", "trainer.n_critic=2", "loss=hinge")
    assert (cfg.trainer.n_critic, cfg.loss._target_) == (2, "gan.losses.hinge")
    assert cfg.penalty._target_ == "gan.penalties.wgan_gp"


def test_option_counts_more_than_the_recipe_of_an_experiment() -> None:
    cfg = compose("experiment=mlp", "optimizer=rmsprop")
    assert cfg.optimizer == compose("optimizer=rmsprop").optimizer
    assert cfg.loss._target_ == "gan.losses.non_saturating"


def identities(*overrides: str) -> dict[str, str]:
    """Return the identity of each point of a sweep, by its recipe and its model."""
    master, loader = compose_sweep(*overrides)
    params = {str(key): value for key, value in master.hydra.sweeper.params.items()}
    composer = Composer(loader, master)
    found = {}
    for point in read_space(loader, list(master.hydra.overrides.task), params).points():
        swept = [text for text in point if text.startswith(("recipe=", "model="))]
        found[" ".join(swept)] = identity(flatten(plain_config(composer.compose(point))))
    return found


def test_swept_recipes_are_different_runs_in_an_experiment() -> None:
    swept = identities("experiment=lab", "recipe=glob(*)")
    assert len(set(swept.values())) == len(options("recipe"))
    swept = identities("experiment=lab,ring8", "recipe=wgan_gp")
    assert list(swept) == ["recipe=wgan_gp"]


def test_experiment_sets_keys_of_the_options_that_it_sweeps_over_itself() -> None:
    swept = identities("experiment=zoo", "recipe=least_squares")
    key = "model.discriminator_norm=none"
    narrowed = identities("experiment=zoo", "recipe=least_squares", "model=base,dcgan_small", key)
    assert {name.split()[0]: value for name, value in swept.items()} == {
        name.split()[-1]: value for name, value in narrowed.items()
    }
    chosen = identities("experiment=zoo", "recipe=least_squares", "model=dcgan_small")
    assert not {*chosen.values()} & {*swept.values()}


def test_recipes_that_an_experiment_sweeps_over_set_keys_of_a_chosen_model() -> None:
    key = "model.discriminator_norm=none"
    swept = identities("experiment=zoo", key)
    chosen = identities("experiment=zoo", "model=dcgan_small", key)
    assert len(chosen) == len(options("recipe"))
    for name, value in chosen.items():
        recipe, model = name.split()
        assert value == swept[f"{model} {recipe}"], recipe


def test_experiment_sweeps_over_the_keys_that_a_chosen_optimizer_has() -> None:
    def params(*overrides: str) -> list[str]:
        master, _ = compose_sweep("experiment=lucic_wide", *overrides)
        return list(master.hydra.sweeper.params)

    assert params() == ["optimizer.lr", "optimizer.betas.0", "trainer.n_critic"]
    assert params("optimizer=rmsprop") == ["optimizer.lr", "trainer.n_critic"]
    assert params("recipe=wasserstein_clip") == ["optimizer.lr", "trainer.n_critic"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder with the options of a user."""
    files = {
        "experiment/mine": "defaults: [override /loss: hinge]\noptimizer: {lr: 1e-2}\n",
        "experiment/more": "defaults: [mine, override /penalty: r2]\npenalty: {gamma: 7}\n",
        "experiment/shares": "defaults: [/shared/big@_global_]\n",
        "experiment/rms": "defaults: [override /optimizer: rmsprop]\n",
        "experiment/sweeps": "defaults: [override /loss: hinge]\noptimizer: {lr: 1e-2}\n"
        "hydra: {sweeper: {params: {recipe: 'lab,wgan_gp'}}}\n",
        "recipe/gentle": "defaults: [lab, override /penalty: r1]\npenalty: {gamma: 1}\n",
        "shared/big": "model: {hidden_dim: 999}\n",
    }
    for name, text in files.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"# @package _global_\n{text}")
    return tmp_path


def test_option_in_a_folder_below_a_group_is_one_of_the_group(own: Path) -> None:
    text = (CONF_DIR / "model/base.yaml").read_text().replace("hidden_dim: 256", "hidden_dim: 77")
    (own / "model/sub").mkdir(parents=True)
    (own / "model/sub/deep.yaml").write_text(text)
    assert compose_own(own, "model=sub/deep").model.hidden_dim == 77
    (own / "protocol/ours").mkdir(parents=True)
    settings = "# @package _global_\nmetrics: {names: [fid], samples: 99, every: 10}\n"
    (own / "protocol/ours/small.yaml").write_text(settings)
    cfg = compose_own(own, "protocol=ours/small", "metrics.objective=fid")
    assert cfg.metrics.protocol == "ours/small"


def test_folder_of_options_may_be_that_of_a_whole_project(tmp_path: Path) -> None:
    for name in ("loss/mine", ".hidden/a", "venv/b", "outputs/run/config", "outputs/sweep/conf/c"):
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for name in ("venv/pyvenv.cfg", "outputs/run/provenance.json", "outputs/sweep/sweep.json"):
        (tmp_path / name).touch()
    (tmp_path / "list.yaml").write_text("- a\n")
    assert option_files(tmp_path) == [tmp_path / "list.yaml", tmp_path / "loss/mine.yaml"]
    assert folder_powers(tmp_path) == ()


def compose_own(own: Path, *overrides: str) -> DictConfig:
    """Return the configuration of a command line that also finds the options of a user."""
    return compose(f"hydra.searchpath=[file://{own}]", *overrides)


def test_experiments_and_recipes_of_a_user_combine_in_the_same_way(own: Path) -> None:
    cfg = compose_own(own, "experiment=more")
    assert (cfg.loss._target_, cfg.penalty.gamma, cfg.optimizer.lr) == ("gan.losses.hinge", 7, 1e-2)
    cfg = compose_own(own, "experiment=more", "recipe=wgan_gp")
    assert cfg.loss._target_ == "gan.losses.wasserstein"
    assert (cfg.optimizer.lr, cfg.trainer.n_critic) == (5e-4, 5)
    cfg = compose_own(own, "experiment=more", "recipe=gentle")
    assert (cfg.penalty._target_, cfg.penalty.gamma) == ("gan.penalties.r1", 1)
    assert (cfg.loss._target_, cfg.optimizer.lr) == ("gan.losses.non_saturating", 2e-4)
    cfg = compose_own(own, "experiment=more", "recipe=gentle", "penalty=wgan_gp")
    assert cfg.penalty == compose("penalty=wgan_gp").penalty


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "experiment=shares model=large",
            r"^model=large: sets model.hidden_dim=1024, but shared=big of experiment=shares ",
        ),
        (
            "+shared=big model=large",
            r"^model=large: sets model.hidden_dim=1024, but shared=big makes it 999",
        ),
        (
            "experiment=rms recipe=lab",
            r"^recipe=lab: sets optimizer.betas, which the optimizer of experiment=rms does not",
        ),
        (
            "recipe=lab optimizer=rmsprop",
            r"^recipe=lab: sets optimizer.betas, which optimizer=rmsprop does not have; choose",
        ),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    own: Path, overrides: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        compose_own(own, *overrides.split())
    assert "\n" not in str(raised.value)


def test_a_value_decides_between_choices_that_contradict_each_other(own: Path) -> None:
    overrides = ["+shared=big", "model=large", "model.hidden_dim=64"]
    assert compose_own(own, *overrides).model.hidden_dim == 64
    swept = [*overrides[:2], "model.hidden_dim=64,32"]
    master, loader = compose_sweep(f"hydra.searchpath=[file://{own}]", *swept)
    composer = Composer(loader, master)
    assert composer.compose(overrides).model.hidden_dim == 64


def test_recipes_that_an_experiment_sweeps_over_are_different_runs(own: Path) -> None:
    swept = identities(f"hydra.searchpath=[file://{own}]", "experiment=sweeps")
    assert len(set(swept.values())) == 2
