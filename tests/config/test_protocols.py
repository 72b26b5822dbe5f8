"""Protocols: the name of one stands in a configuration that keeps to it, and in no other."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from gan.config.compose import chosen_options, compose, compose_unchecked
from gan.errors import UserError
from gan.metrics.inception import SHA256

MINE = """# @package _global_
# Mine.
defaults:
  - override /features: lenet

metrics:
  names: [fid]
  samples: 300
  real: 200
  split: test
  objective: fid
"""


def protocol(*words: str) -> str | None:
    name: str | None = compose(*words).metrics.protocol
    return name


def test_a_protocol_sets_the_metrics_numbers_split_features_weights_and_resizing() -> None:
    def settings(cfg: DictConfig) -> list[object]:
        metrics, features = cfg.metrics, cfg.features
        numbers = [list(metrics.names), metrics.samples, metrics.real, metrics.split]
        return [*numbers, features.sha256, features.resizing]

    found = {
        name: settings(compose(f"protocol={name}"))
        for name in ("stylegan", "mimicry", "mimicry_10k", "lucic", "pytorch_fid")
    }
    fid = ["inception_fid"]
    assert found == {
        "stylegan": [fid, 50000, "all", "train", SHA256, "tensorflow"],
        "mimicry": [fid, 50000, "50000", "train", SHA256, "tensorflow"],
        "mimicry_10k": [fid, 10000, "10000", "train", SHA256, "tensorflow"],
        "lucic": [fid, 10000, "10000", "test", SHA256, "tensorflow"],
        "pytorch_fid": [fid, 50000, "all", "train", SHA256, "pytorch"],
    }


@pytest.mark.parametrize(
    "free",
    [
        *("metrics.every=7", "metrics.cache=here", "features.weights=mine.pth", "seed=3"),
        *("metrics.objective=loss/generator", "experiment=mlp", "data=mnist", "metrics.real=10000"),
    ],
)
def test_what_no_value_depends_on_may_differ(free: str) -> None:
    assert protocol("protocol=lucic", free) == "lucic"


@pytest.mark.parametrize(
    "changed",
    [
        *("metrics.samples=9999", "metrics.real=same", "metrics.split=train", "features=lenet"),
        *("features.sha256=null", "features.resizing=pytorch"),
        "metrics.names=[inception_fid,inception_kid]",
    ],
)
def test_settings_away_from_the_protocol_lose_its_name_and_a_line_says_so(
    changed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from gan.config import loader

    loader._print_once.cache_clear()
    assert protocol("protocol=lucic", changed) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"protocol=lucic: {changed.partition('=')[0]}")
    assert line.endswith("so what is measured does not carry its name")


def test_nobody_else_gives_the_name() -> None:
    assert protocol() is None
    with pytest.raises(UserError, match=r"metrics.protocol=lucic: follows from protocol=NAME"):
        compose("metrics.protocol=lucic")
    with pytest.raises(UserError, match=r"metrics.protocol=stylegan: follows from protocol=NAME"):
        compose("protocol=lucic", "metrics.protocol=stylegan")


def test_metrics_and_a_protocol_cannot_both_be_chosen() -> None:
    for words in (["metrics=fast", "protocol=lucic"], ["protocol=lucic", "metrics=fast"]):
        with pytest.raises(UserError, match=r"metrics=fast: sets metrics.\w+=.*, but protocol=luc"):
            compose(*words)


def test_the_chosen_option_is_not_recorded_beside_the_name() -> None:
    cfg = compose_unchecked(["protocol=lucic", "metrics.samples=7"], with_hydra=True)
    assert "protocol" not in chosen_options(cfg.hydra)


def test_a_protocol_of_ones_own_counts_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "protocol").mkdir()
    (tmp_path / "protocol" / "mine.yaml").write_text(MINE)
    folder = f"--config-dir={tmp_path}"
    assert protocol(folder, "protocol=mine") == "mine"
    assert protocol(folder, "protocol=mine", "metrics.samples=301") is None
    assert protocol(folder, "protocol=mine", "features.name=fashion_mnist") is None


def test_experiments_with_published_numbers_keep_to_their_protocols() -> None:
    assert protocol("experiment=sngan_cifar10") == "mimicry"
    assert protocol("experiment=r3gan_cifar10") == "stylegan"
    assert protocol("experiment=r3gan_cifar10", "protocol=lucic") == "lucic"
    assert protocol("experiment=sngan_cifar10", "metrics.samples=1000") is None
