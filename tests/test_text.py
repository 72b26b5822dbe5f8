"""Texts of the user: taken as they are written, stored, and never read as anything else."""

import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from runs import SCRIPTS, SHORT

from gan.config.checks import as_config, flatten, plain
from gan.config.compose import compose
from gan.config.overrides import as_override
from gan.errors import UserError
from gan.run.directory import read_config, read_overrides, store_config

PIECES = ["\\", "'", '"', "$", "{", "}", "${", "\\${", "a", " ", "手", "\n", ",", "#", "."]


def test_any_text_is_the_same_after_the_command_line_and_after_a_file() -> None:
    choose, parser = random.Random(0), OverridesParser.create()
    for _ in range(2000):
        text = "".join(choose.choices(PIECES, k=choose.randint(0, 7)))
        assert plain(as_config({"key": [text]})) == {"key": [text]}
        value = parser.parse_override(f"key={as_override(text)}").value()
        assert OmegaConf.create({"key": value}).key == text


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("notes=手写数字", "手写数字"),
        ("notes=exp#3", "exp#3"),
        ("notes=a, b", "a, b"),
        ("notes=it's", "it's"),
        ("notes=choice(a,b)", "choice(a,b)"),
        ("notes=[a", "[a"),
        ("notes={a:b}", "{a:b}"),
        ("notes=true", "true"),
        ("notes=007", "007"),
        ("notes=${x", "${x"),
        ("notes=${seed} #3", "0 #3"),
        ("notes='a, b'", "a, b"),
        ("notes=${hydra:job.name}", "train"),
        ("name=1.10", "1.10"),
        ("tags=[695e0514]", ["695e0514"]),
        ("tags=[1.10,'a,b']", ["1.10", "a,b"]),
        ("tags=[it's,手]", ["it's", "手"]),
        ("data.root=~/pics#1", "~/pics#1"),
    ],
)
def test_keys_of_texts_take_them_as_they_are_written(override: str, value: object) -> None:
    assert flatten(compose(override))[override.partition("=")[0]] == value


def test_a_folder_whose_name_is_a_number_is_that_folder() -> None:
    cfg = compose("data=image_folder", "data.folder=1.10")
    assert cfg.data.folder == "1.10"


@pytest.mark.parametrize("override", ["optimizer.lr=1,2", "metrics.split=train,test"])
def test_several_values_of_a_key_that_is_no_free_text_need_a_sweep(override: str) -> None:
    with pytest.raises(UserError, match=f"^{override}: .*--multirun"):
        compose(override)


def test_a_stored_text_is_not_resolved_again(tmp_path: Path) -> None:
    words = [r"notes=cost \${x}", "discriminator_optimizer.lr=${optimizer.lr}", "notes_of=${y"]
    cfg = compose(*words[:2])
    store_config(tmp_path, cfg, words, dict)
    stored = read_config(tmp_path)
    assert (stored.notes, stored.discriminator_optimizer.lr) == ("cost ${x}", 2e-4)
    assert read_overrides(tmp_path) == words


def test_a_run_with_dollars_in_its_words_trains_and_goes_on(tmp_path: Path) -> None:
    words = [r"notes=cost \${x}", "discriminator_optimizer.lr=${optimizer.lr}"]
    run_dir = tmp_path / "run"
    short = [*SHORT, "data=digits", "trainer.max_steps=7", *words, f"hydra.run.dir={run_dir}"]
    for command in (["train.py", *short], ["resume.py", str(run_dir)]):
        done = subprocess.run(
            [sys.executable, str(SCRIPTS / command[0]), *command[1:]],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert set(words) < set(read_overrides(run_dir))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--cfg job -m seed=1,2", "sweep.dry_run=true"),
        ("--shell-completion", "--shell-completion: needs install=SHELL"),
        ("--resolve", "--resolve: needs --cfg or --help"),
        ("--config-name confg", "did you mean 'config'?"),
        ("--config-path nothing", "--config-path=nothing: there is no such folder"),
    ],
)
def test_wrong_flags_are_one_line_with_a_hint(arguments: str, message: str) -> None:
    command = [sys.executable, str(SCRIPTS / "train.py"), *shlex.split(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
