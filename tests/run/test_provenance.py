"""A run keeps the code, the packages and the choices that it was made with."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cohorts import Parent, make_attempt, train_cohort
from runs import fail_at, interrupt_at, short
from sweep_commands import SCRIPTS, TINY, execute, sweep_command

import gan
from gan.compare.frame import load
from gan.compare.read import read_runs
from gan.compare.repeat import command
from gan.run import provenance
from gan.run.provenance import LARGEST_DIFF, note_start, own_repository, read_provenance
from gan.run.result import read_result
from gan.train import run


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, and return what it prints."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def clear() -> None:
    """Forget what this process knows of repositories and packages."""
    for function in (own_repository, provenance._repository, provenance._package):
        function.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a repository with one commit, in the place of this package's."""
    folder = tmp_path / "checkout"
    (folder / "gan").mkdir(parents=True)
    (folder / "gan" / "losses.py").write_text("loss = 1\n")
    (folder / ".gitignore").write_text("ignored/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    monkeypatch.setattr(provenance, "ROOT", folder)
    clear()
    yield folder
    clear()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Return the directory of a run."""
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def start(run_dir: Path, *targets: str) -> dict[str, object]:
    """Note a start with this process's present knowledge, and return it."""
    clear()
    config = {f"part{number}._target_": target for number, target in enumerate(targets)}
    found: dict[str, object] = note_start(run_dir, config, {})["starts"][-1]
    return found


def test_uncommitted_changes_can_be_applied_to_the_commit(checkout: Path, run_dir: Path) -> None:
    (checkout / "gan" / "losses.py").write_text("loss = 2\n")
    (checkout / "new.py").touch()
    (checkout / "ignored").mkdir()
    (checkout / "ignored" / "file").touch()
    noted = start(run_dir)
    assert noted["git"] == {"commit": git(checkout, "rev-parse", "HEAD"), "dirty": True}
    assert noted["untracked"] == ["new.py"]
    git(checkout, "stash")
    git(checkout, "apply", str(run_dir / "uncommitted.diff"))
    assert (checkout / "gan" / "losses.py").read_text() == "loss = 2\n"


def test_a_clean_checkout_leaves_no_diff(checkout: Path, run_dir: Path) -> None:
    assert start(run_dir)["diff"] is None
    assert [path.name for path in run_dir.iterdir()] == ["provenance.json"]


def test_a_huge_diff_is_cut_and_says_so(checkout: Path, run_dir: Path) -> None:
    (checkout / "gan" / "losses.py").write_text("x = 1\n" * LARGEST_DIFF)
    start(run_dir)
    diff = (run_dir / "uncommitted.diff").read_bytes()
    assert len(diff) < LARGEST_DIFF + 100
    assert b"cut here" in diff[-100:]


def test_a_start_with_other_code_is_noted_beside_the_first(checkout: Path, run_dir: Path) -> None:
    (checkout / "gan" / "losses.py").write_text("loss = 2\n")
    start(run_dir)
    start(run_dir)
    (checkout / "gan" / "losses.py").write_text("loss = 3\n")
    start(run_dir)
    note = read_provenance(run_dir)
    assert note
    assert [noted["diff"] for noted in note["starts"]] == ["uncommitted.diff", "uncommitted-2.diff"]
    assert b"loss = 2" in (run_dir / "uncommitted.diff").read_bytes()
    assert b"loss = 3" in (run_dir / "uncommitted-2.diff").read_bytes()


def test_packages_of_targets_have_their_version_and_commit(
    checkout: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "my_losses.py").touch()
    git(checkout, "add", ".")
    git(checkout, "commit", "-qm", "Add losses")
    (checkout / "ignored" / "pkg").mkdir(parents=True)
    (checkout / "ignored" / "pkg" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(checkout))
    monkeypatch.syspath_prepend(str(checkout / "ignored"))
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    targets = start(
        run_dir,
        "__main__.loss",
        "my_losses.mine",
        "pkg.Thing",
        "torch.optim.Adam",
        "gan.losses.hinge",
    )
    commit = git(checkout, "rev-parse", "HEAD")
    noted = targets["targets"]
    assert isinstance(noted, dict)
    assert noted["my_losses"].pop("code") != noted["pkg"].pop("code")
    assert noted == {
        "__main__": {},
        "my_losses": {"commit": commit, "dirty": False},
        "pkg": {},
        "torch": {"version": importlib.metadata.version("torch")},
    }


def test_changed_code_of_one_version_is_told_when_a_run_goes_on_and_when_it_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "packages" / "sharp_losses"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from gan.losses import hinge as sharp\n")
    monkeypatch.syspath_prepend(str(package.parent))
    overrides = ["loss=hinge", "loss._target_=sharp_losses.sharp", "trainer.max_steps=20"]

    clear()
    run(short(*overrides), tmp_path / "before", overrides=overrides)
    fail_at(15, short(*overrides), tmp_path / "across", overrides)
    assert "the code of sharp_losses changed" not in caplog.text
    (package / "settings.py").write_text("sharpness = 2\n")
    clear()
    run(short(*overrides), tmp_path / "across", overrides=overrides)
    assert "the code of sharp_losses changed" in caplog.text
    run(short(*overrides), tmp_path / "after", overrides=overrides)

    table = load(tmp_path / "before", tmp_path / "after")
    assert table["sharp_losses"].nunique() == 2
    assert "copy_of" not in table
    (before,) = read_runs([tmp_path / "before"])
    assert "the code of sharp_losses has changed since it was made" in command(before)[1]


def test_installed_packages_are_listed_in_order(run_dir: Path) -> None:
    packages = start(run_dir)["packages"]
    assert isinstance(packages, list)
    assert f"gan-sweeps=={gan.__version__}" in packages
    assert packages == sorted(packages, key=str.lower)


def test_nothing_of_the_environment_is_kept(
    checkout: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    git(checkout, "remote", "add", "origin", "https://user:hunter2@example.org/repo.git")
    start(run_dir)
    assert "hunter2" not in (run_dir / "provenance.json").read_text()


def test_where_git_is_missing_the_rest_is_kept(
    checkout: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(run_dir))
    noted = start(run_dir)
    assert noted["git"] is None
    assert noted["packages"]


def test_git_is_asked_once_for_many_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clear()
    asked: list[tuple[object, ...]] = []
    original = provenance._git

    def counted(folder: Path, *arguments: str) -> bytes | None:
        asked.append((folder, *arguments))
        return original(folder, *arguments)

    monkeypatch.setattr(provenance, "_git", counted)
    for seed in range(3):
        run(short("trainer.max_steps=1", f"seed={seed}"), tmp_path / str(seed))
    assert len(asked) == len(set(asked))


def test_a_run_keeps_its_choices_and_its_id_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        interrupt_at(patch, 15, fail)
        with pytest.raises(RuntimeError):
            run(short(), tmp_path / "run", choices={"recipe": "lab"})
    before = read_provenance(tmp_path / "run")
    run(short(), tmp_path / "run")
    assert read_provenance(tmp_path / "run") == before
    result = read_result(tmp_path / "run")
    assert result
    assert result["choices"] == {"recipe": "lab"}


def test_the_command_line_keeps_what_was_chosen(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "train.py"), *TINY, "recipe=hinge_sn", "model=small"]
    code, _, err = execute([*command, f"hydra.run.dir={tmp_path / 'run'}"])
    assert code == 0, err
    choices = json.loads((tmp_path / "run" / "result.json").read_text())["choices"]
    assert choices["recipe"] == "hinge_sn"
    assert choices["model"] == "small"
    assert not [group for group in choices if group.startswith("hydra/")]


def test_recipes_and_experiments_are_columns_of_a_comparison(tmp_path: Path) -> None:
    swept = ["recipe=lab,hinge_sn", "optimizer.lr=1e-4"]
    code, _, err = execute(sweep_command(tmp_path / "sweep", *swept))
    assert code == 0, err
    frame = load(tmp_path / "sweep")
    assert set(frame["recipe"]) == {"lab", "hinge_sn"}
    assert "experiment" not in frame
    for path, recipe in zip(frame["path"], frame["recipe"], strict=True):
        assert recipe in path


def test_runs_of_a_cohort_keep_their_choices(tmp_path: Path) -> None:
    attempt = make_attempt(tmp_path, "a")
    attempt.choices["recipe"] = "lab"
    train_cohort(Parent(attempt))
    result = read_result(attempt.run_dir)
    assert result
    assert result["choices"] == {"recipe": "lab"}


def test_this_package_knows_its_own_commit() -> None:
    clear()
    own = own_repository()
    if own is None:
        pytest.skip("not a git checkout")
    assert own.commit == git(Path(gan.__file__).parent, "rev-parse", "HEAD")
    assert os.path.samefile(own.root, Path(gan.__file__).parent.parent)  # noqa: PTH121
