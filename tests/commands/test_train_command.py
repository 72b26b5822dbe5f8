"""The command line of train: its help, its flags, and mistakes that are refused before training."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan import __version__
from gan.commands import command_line, help
from gan.commands.train_help import train_help
from gan.config.checks import all_keys
from gan.config.compose import chosen_options, source_words
from gan.config.reference import read_comments
from gan.config.schema import CONF_DIR, GROUPS

SEEDS = ("seed=0,1", "sweep.dry_run=true")


def begin(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Path, list[str]]:
    """Run the command line up to the start of training.

    Returns:
        The directory of the run, and the words that say where YAML files are.
    """
    begun: list[tuple[Path, list[str]]] = []

    def task(cfg: DictConfig) -> None:
        hydra: Any = HydraConfig.get()
        assert chosen_options(hydra)
        begun.append((Path(hydra.runtime.output_dir), source_words(hydra)))

    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    # The program sets it for its own process, which is this one here.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    command_line.run_with_hydra(task)
    (found,) = begun
    return found


def refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    """Return the one line with which the command line is refused."""
    with pytest.raises(SystemExit) as ended:
        begin(monkeypatch, *words)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with a home directory in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_the_help_describes_every_option_and_every_key_of_the_chosen_ones() -> None:
    text = "\n".join(train_help([]))
    for group in (*GROUPS, "recipe", "experiment", "hydra/launcher", "hydra/sweeper"):
        assert f"\n{group}: " in text
        for path in (CONF_DIR / group).glob("*.yaml"):
            first = " ".join(read_comments(path)[0].split()[:2])
            assert f" {path.stem} " in text
            assert first in text
    # Each of these is in the options that are chosen by default.
    always = ("optimizer.lr", "trainer.n_critic", "sweep.seeds", "seed")
    assert {key for key in all_keys() if f"\n  {key}=" in text} >= {*always, "logging.every"}
    for key in (*always, "hydra.run.dir", "hydra.launcher.n_jobs", "hydra.sweeper.points"):
        assert f"\n  {key}=" in text
    assert "(whole number, at least 1, or null)" in text
    assert "schema" not in text


def test_the_help_shows_what_the_command_line_chooses(tmp_path: Path) -> None:
    own = tmp_path / "mine/loss/soft.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# A loss of mine.\ndefaults: [non_saturating]\nlabel_smoothing: 0.3\n")
    words = ["--config-dir=mine", "loss=soft", "model=dcgan", "data=image_folder", "seed=7"]
    text = "\n".join(train_help(words))
    assert "* soft            A loss of mine." in text
    assert "\n  loss.label_smoothing=0.3\n" in text
    assert "\n  data.folder=???\n" in text
    assert "\n  seed=7\n" in text
    assert "model.hidden_layers" not in text


def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = [*help.table([("one=1", "word " * 40), ("longer=2", "short")])]
    assert max(map(len, lines)) <= 60
    assert lines[-1] == "  longer=2  short"


def test_version_is_that_of_this_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", "--version"])
    command_line.run_with_hydra(lambda cfg: None)
    assert capsys.readouterr().out == f"gan-sweeps {__version__}\n"


@pytest.mark.parametrize("words", [("-m", *SEEDS), (*SEEDS, "-m"), (SEEDS[0], "-m", SEEDS[1])])
def test_a_sweep_is_asked_for_anywhere_on_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    command_line.run_with_hydra(lambda cfg: None)
    assert "2 runs, 0 done, 2 to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~/x", "home/x"),
        ("outputs/a/hidden_dim=256,lr=0.0002", "outputs/a/hidden_dim=256,lr=0.0002"),
        ("my runs/x", "my runs/x"),
    ],
)
def test_the_directory_of_a_run_may_have_any_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, expected: str
) -> None:
    run_dir, _ = begin(monkeypatch, f"hydra.run.dir={given}")
    assert run_dir == tmp_path / expected


def test_a_folder_of_options_is_remembered_by_its_full_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "more").mkdir()
    words = ("--config-dir", "mine", "hydra.searchpath=[file://more]", "hydra.run.dir=x")
    _, sources = begin(monkeypatch, *words)
    more = f"hydra.searchpath=['file://{tmp_path}/more']"
    assert sources == [f"--config-dir={tmp_path}/mine", more]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sweep.seeds=5", "sweep.seeds=5: is about a sweep, and this is one run; add -m"),
        ("hydra/launcher=slurm", "hydra/launcher=slurm: is about a sweep"),
        ("hydra.sweep.dir=x", "hydra.sweep.dir=x: is about a sweep"),
        ("-m seed=0,1 hydra.run.dir=x", "hydra.run.dir=x: is about one run; a sweep takes hydra.s"),
        ("-m seed=0,1 hydra.job.chdir=true", "hydra.job.chdir=true: has no effect on the runs of"),
        ("-m seed=0,1 +hydra.job.env_set.A=1", "+hydra.job.env_set.A=1: has no effect on the"),
        ("hydra.job.env_set.A=1", "hydra.job.env_set.A=1: not there yet; add it by +hydra.job.env"),
        (
            "hydra.output_subdir=",
            "hydra.output_subdir=: must be the name of a folder inside the run's",
        ),
        ("hydra.output_subdir=..", "hydra.output_subdir=..: must be the name of a folder inside"),
        ("hydra.run.dir=", "hydra.run.dir=: must be the path of a directory"),
        ("-m seed=0,1 hydra.sweep.dir=", "hydra.sweep.dir=: must be the path of a directory"),
        ("data.root=", "data.root=: must be the path of a file or a folder"),
        ("metrics.cache=", "metrics.cache=: must be the path of a file or a folder"),
        ("lr=1", "lr=1: unknown key 'lr'; did you mean 'optimizer.lr'?"),
        ("model.hidden_dm=1", "unknown key 'model.hidden_dm'; did you mean 'model.hidden_dim'?"),
        ("hydra.launchr.n_jobs=1", "unknown key 'hydra.launchr'; did you mean 'hydra.launcher'?"),
        ("notes=null", "notes=null: must not be null; leave it out for the default"),
        ("=", "=: cannot be read as KEY=VALUE"),
        ("--multirunn", "--multirunn: no such option; did you mean '--multirun'?"),
        ("--cfg jobb", "--cfg: invalid choice: 'jobb'"),
        ("--cfg", "--cfg: expected one argument"),
        ("--cfg job hydra.foo=1", "hydra.foo=1: unknown key 'hydra.foo'"),
        ("-p model", "--package=model: needs --cfg"),
        ("--config-dir=", "--config-dir=: there is no such folder of configurations"),
        ("--experimental-rerun=x", "--experimental-rerun=x: reads a file of Hydra's"),
        ("--help modl=base", "modl=base: unknown key 'modl'; did you mean 'model'?"),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    line: str,
    expected: str,
) -> None:
    assert expected in refusal(monkeypatch, capsys, *line.split(" "))
    assert list(tmp_path.iterdir()) == []


def test_text_with_commas_in_a_sweep_is_refused_with_the_form_that_is_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(monkeypatch, capsys, "-m", "notes=a, b", *SEEDS)
    assert line.endswith("""set it once for all runs, as in "notes='a, b'\"""")
