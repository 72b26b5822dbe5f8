"""Every command of every README: it has a rule here, it parses, and it runs in bash."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from readmes import NAMES, READMES, ROOT, blocks, commands

from gan.commands.command_line import parse
from gan.config.compose import compose, config_loader
from gan.config.overrides import with_quotes
from gan.config.spaces import read_dimension
from gan.sweep.space import read_space

NOT_RUN = {
    r"pip install|apt-get": "installs packages",
    r"pytest": "runs all these tests again",
    r"optuna-dashboard": "serves pages until it is stopped",
    r"\S+ scripts/board\.py": "serves pages until it is stopped; test_board.py opens it",
    r"torchrun ": "needs GPUs, or many cores; test_shared.py starts one",
    r"\S+ scripts/benchmark\.py": "takes minutes; test_benchmark.py runs short rounds",
    r"python -m gan\.config\.reference": "writes into the repository; test_reference.py compares",
    r"python -m gan\.compare\.simulation": "takes a minute, and test_inference.py checks its rates",
    r".* '?logging=\S*(mlflow|wandb|trackio)": "tells a service; test_trackers.py stands for them",
    r".* protocol=": "needs the weights of Inception; test_evaluate_command.py measures by others",
    r".* --config-dir=own": "needs files of its own; test_evaluate_command.py writes such",
    r".* --config-dir my_conf": "needs files of its own; test_readme.py writes and trains them",
}
"""Beginnings of commands that are not run here, with the reason."""
PLANNED = r".* (hydra/launcher=(slurm|ray)|experiment=zoo)"
"""Sweeps that need a cluster or an hour: only their plan is made."""
NEEDS_MNIST = r".* (data=(mnist|fashion_mnist)|experiment=(lab|zoo))( |$)"
RUN = r"([A-Z_]+=\S+ )*(python scripts/\w+\.py|gan \w+)|echo "
"""Beginnings of all other commands."""

SHORT = (
    "trainer.max_steps=6",
    "trainer.max_epochs=null",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=6",
    "metrics.every=6",
    "metrics.samples=200",
    "logging.every=2",
    "logging.samples_every=6",
    "logging.samples_every_epochs=null",
    "threads=1",
)
"""Overrides that follow those of a training command, so that it takes seconds."""
RUN_DIR = "outputs/2026-01-31/12-00-00-gan-0123abcd"
"""The directory of a run that scripts/README.md resumes."""
ALL = [
    (name, command)
    for name, readme in zip(NAMES, READMES, strict=True)
    for command in commands(readme)
]


def reason_not_to_run(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if re.match(start, command)), None)


def script_and_words(command: str) -> tuple[str, list[str]]:
    """The name of the command that a line runs, and its arguments."""
    words = shlex.split(command, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    if words[0] == "gan":
        return words[1].replace("-", "_"), words[2:]
    if words[0] == "python" and words[1].startswith("scripts/"):
        return Path(words[1]).stem, words[2:]
    return "", words


def test_every_command_in_a_readme_has_a_rule() -> None:
    for name, command in ALL:
        assert reason_not_to_run(command) or re.match(RUN, command), f"{name}: {command}"
    for start in NOT_RUN:
        assert any(re.match(start, command) for _, command in ALL), f"{start} stands in no README"


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_commands_in_a_readme_parse_in_bash(readme: Path) -> None:
    for block in blocks(readme.read_text(), "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{block}"


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_commands_in_a_readme_hold_nothing_that_bash_expands(readme: Path) -> None:
    for block in blocks(readme.read_text(), "bash"):
        # What is quoted, and what follows a hash, is left alone.
        bare = re.sub(r"'[^']*'|\"[^\"$`]*\"|(?<!\S)#.*", "", block)
        assert not re.search(r"=\S*[][(){}*?$<>!]", bare), block


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_scripts_that_a_readme_names_exist(readme: Path) -> None:
    for script in re.findall(r"\b(scripts/\w+\.py)", readme.read_text()):
        assert (ROOT / script).is_file(), script


def corners(overrides: list[str]) -> list[Sequence[str]]:
    """Points of a sweep in which each of its values occurs; the overrides of one run."""
    with config_loader(()) as loader:
        space = read_space(loader, quoted(overrides), {})
    return space.corners() or [space.fixed]


def quoted(overrides: list[str]) -> list[str]:
    """Overrides that Hydra's parser reads, and those that our own reads as they are."""
    return [text if read_dimension(text) else with_quotes(text) for text in overrides]


TRAIN = {
    f"{name}: {command}": script_and_words(command)[1]
    for name, command in ALL
    # The options of other folders are not known here.
    if script_and_words(command)[0] == "train" and "--config-dir" not in command
}


@pytest.mark.parametrize("words", TRAIN.values(), ids=TRAIN)
def test_training_commands_in_a_readme_compose(words: list[str]) -> None:
    options = ("-m", "--multirun", "--help", "--cfg", "job")
    overrides = [word for word in words if word not in options]
    for point in corners(overrides):
        compose(*point)


def test_options_of_other_commands_in_a_readme_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    for _, command in ALL:
        name, words = script_and_words(command)
        if name not in ("", "train"):
            package = "benchmarks.command" if name == "benchmark" else f"gan.commands.{name}"
            # What follows > is the shell's.
            parse(
                words[: words.index(">")] if ">" in words else words,
                importlib.import_module(package).Options,
                name == "compare",
                ("data", "features", "metrics") if name == "evaluate" else (),
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder in which a reader has trained, with everything that the READMEs ask for."""
    folder = tmp_path_factory.mktemp("readers") / "folder"
    for name in ("conf/experiment", "home/.config/gan-sweeps", "photos", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "scripts").symlink_to(ROOT / "scripts")
    (folder / "mypackage.py").write_text(
        "from hydra.experimental.callback import Callback\n\n\nclass Mine(Callback):\n    pass\n"
    )
    random = np.random.default_rng(0)
    for number in range(40):
        pixels = random.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"photos/{number}.png")
    # What a command is given beside its own words.
    for name, start in (("python", ""), ("gan", " -m gan")):
        path = folder / "bin" / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{start} "$@" $MORE\n')
        path.chmod(0o755)
    if archives := os.environ.get("GAN_TEST_DATA"):
        for path in Path(archives).glob("*/raw/*.gz"):
            copy = data_root / path.relative_to(archives)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    train = "python scripts/train.py"
    lines = [
        f"{train} trainer.keep_best=sliced_wasserstein hydra.run.dir={RUN_DIR}",
        f"{train} model.conditional=true hydra.run.dir=outputs/conditional",
        f"{train} -m optimizer.lr=1e-4,2e-4 sweep.seeds=2 hydra.sweep.dir=outputs/rates",
        f"{train} -m recipe=lab,wgan_gp sweep.seeds=2 hydra.sweep.dir=outputs/recipes",
        f"{train} -m loss=hinge sweep.seeds=2 hydra.sweep.dir=outputs/hinge",
    ]
    for line in lines:
        execute(line, folder)
    return folder


def execute(command: str, folder: Path) -> None:
    """Run a command in bash as the READMEs have it, with less work, and check that it succeeds."""
    name, words = script_and_words(command)
    more: list[str] = []
    if name == "train" and "--help" not in words:
        more += SHORT
        more += ["sweep.dry_run=true"] if re.match(PLANNED, command) else []
        more += ["hydra.sweeper.n_trials=2"] if "hydra/sweeper=optuna" in words else []
    elif name == "evaluate":
        more += ["samples=600"]
    elif name == "train_classifier":
        more += ["epochs=1"]
    environment = os.environ | {
        "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "HOME": str(folder / "home"),
        "MORE": " ".join(more),
    }
    done = subprocess.run(
        ["bash", "-c", with_real_names(command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def with_real_names(command: str) -> str:
    """A command with real directories in the place of RUN_DIR and the like, and less to train."""
    names = {
        "SWEEP_DIR": "outputs/recipes" if "recipe=" in command else "outputs/rates",
        "SWEEP_A": "outputs/recipes",
        "SWEEP_B": "outputs/hinge",
        "RUN_DIR": "outputs/conditional" if "label=" in command else RUN_DIR,
        "range(32)": "range(2)",
        "range(8)": "range(2)",
        "trainer.max_steps=30000": "trainer.max_steps=12",
        "trainer.max_epochs=60": "trainer.max_epochs=1",
    }
    for name, real in names.items():
        command = re.sub(rf"(?<!\w){re.escape(name)}", real, command)
    return command


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_commands_in_a_readme_run(readme: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "folder"
    shutil.copytree(folder, copy, symlinks=True)
    for command in commands(readme):
        needs_mnist = re.match(NEEDS_MNIST, command) and not re.match(PLANNED, command)
        has_what_it_needs = os.environ.get("GAN_TEST_DATA") or not needs_mnist
        if has_what_it_needs and not reason_not_to_run(command):
            execute(command, copy)
