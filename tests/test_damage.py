"""A walk over damaged files: every file of a run, a grid and a search, and every command.

After any damage a command gives what it gives without, or a line names the file.
"""

import hashlib
import io
import logging
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from runs import content, fail_at
from sweep_commands import TINY, compose_sweep, sweep_command
from sweep_commands import execute as run_command

from gan.commands import clean, compare, evaluate, generate, resume
from gan.compare.read import find_runs, read_history
from gan.config.compose import compose
from gan.errors import Interrupted, UserError
from gan.launchers.attempt import execute
from gan.run.attempt import Attempt
from gan.run.result import Status, read_result
from gan.sweep.directory import Sweep
from gan.sweep.search import run_search
from gan.sweep.space import read_space
from gan.sweep.sweep import Candidates, raise_failure, run_sweep
from gan.train import run

OVERRIDES = [*TINY, "logging.tensorboard=true", "trainer.max_steps=28", "model.hidden_dim=8"]
GRID = [*OVERRIDES, "optimizer.lr=1e-4,2e-4"]
SEARCH = [*OVERRIDES, "optimizer.lr=1e-4,2e-4", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"]

Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "emptied": lambda path: path.write_bytes(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(path.read_bytes() + b"\0\xff{garbage"),
    "missing": lambda path: path.unlink(),
}
ON_SWEEPS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "compare": (compare.main, ["columns=lr", "format=markdown"]),
    "best": (compare.main, ["best"]),
    "clean": (clean.main, ["keep=2"]),
}
"""Commands that read a sweep, and their arguments."""
MAY_BE_MISSING = "result.json", "metrics-default.json", "step-00000020.pt", "step-00000028.pt"
"""Files that a killed run, or one that was not evaluated, lacks as well."""


class Outcome(NamedTuple):
    """The end of a command: what it printed, and what it left."""

    out: str
    said: str
    """Errors, notes and log lines."""
    exit_code: int


def call(main: Callable[[], object], *arguments: object) -> Outcome:
    """Call a command in this process. Errors that a user would see as a traceback are raised."""
    out, said = io.StringIO(), io.StringIO()
    handler, code = logging.StreamHandler(said), 0
    logger = logging.getLogger("gan")
    logger.addHandler(handler)
    argv, sys.argv = sys.argv, ["command", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(said):
            main()
    except SystemExit as error:
        code = int(error.code or 0)
    except (UserError, Interrupted) as error:
        said.write(str(error))
        code = error.exit_code
    finally:
        sys.argv = argv
        logger.removeHandler(handler)
    # A damaged file takes other room on the disk, and the disk use is right to say so.
    shown = re.sub(r"^disk use of .*\n", "", out.getvalue(), flags=re.MULTILINE)
    return Outcome(shown, said.getvalue(), code)


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, relative to it."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def cases(files: Sequence[Path], full: bool) -> list[tuple[Path, str]]:
    """Return pairs of a file and a damage: all, or every file with one damage after the other."""
    names = list(DAMAGES)
    if full:
        return [(file, name) for file in files for name in names]
    return [(file, names[number % len(names)]) for number, file in enumerate(files)]


def result_of(run_dir: Path) -> dict[str, object] | None:
    """Return what does not depend on the clock in the result of a run."""
    times = ("seconds", "ended", "images_per_second")
    result = read_result(run_dir)
    return result and {name: value for name, value in result.items() if name not in times}


def result_and_records(run_dir: Path) -> object:
    """Return the result of a run, its records, its pictures and its last checkpoint."""
    return result_of(run_dir), content(run_dir)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A run that was stopped after 23 of 28 steps, and evaluated."""
    path = tmp_path_factory.mktemp("interrupted") / "run"
    fail_at(24, compose(*OVERRIDES), path, OVERRIDES)
    assert call(evaluate.main, path, "metrics=default", "samples=64").exit_code == 0
    return path


@pytest.fixture(scope="module")
def finished(interrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, gone on to its end."""
    path = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(interrupted, path)
    assert call(resume.main, path).exit_code == 0
    return path


def commands(path: Path) -> dict[str, Outcome]:
    """Return what each command says of a directory of runs, without the path and times."""
    run_dir = next(file.parent for file in sorted(path.rglob("checkpoints")))
    samples = path.parent / "out.npz"
    arguments: dict[str, tuple[Callable[[], object], list[object]]] = {
        "compare": (compare.main, [path, "format=csv"]),
        "best": (compare.main, [path, "best"]),
        "page": (compare.main, [path, f"html={path.parent / 'page.html'}"]),
        "clean": (clean.main, [path, "keep=0"]),
        "generate": (generate.main, [run_dir, "n=2", f"out={samples}"]),
        "evaluate": (evaluate.main, [run_dir, "metrics=default", "samples=64", "name=again"]),
    }
    found = {}
    for name, (main, words) in arguments.items():
        outcome = call(main, *words)
        out = without_times(outcome.out).replace(str(path.parent), "")
        if name == "generate" and samples.exists():
            out += hashlib.sha256(samples.read_bytes()).hexdigest()
        if name == "page":
            out += str(history_of_all(path))
        found[name] = outcome._replace(out=out)
    (run_dir / "metrics-again.json").unlink(missing_ok=True)
    samples.unlink(missing_ok=True)
    return found


def history_of_all(path: Path) -> list[object]:
    """Return the points of all curves below a directory."""
    return [read_history(run_dir) for run_dir in find_runs([path])]


def without_times(table: str) -> str:
    """Return a table as CSV without its columns that are times; another text as it is."""
    lines = [line.split(",") for line in table.splitlines()]
    if not lines or "changed" not in lines[0]:
        # Columns are as wide as paths, and some files as large as times are long.
        return re.sub(r" +", " ", re.sub(r"\d+\.\d MB", "MB", table))
    kept = [n for n, name in enumerate(lines[0]) if name not in ("changed", "seconds")]
    return "\n".join(",".join(line[n] for n in kept) for line in lines)


def silent(file: Path, now: Outcome, before: Outcome) -> bool:
    """Return whether a command did otherwise than without the damage, and did not name the file."""
    alike = now.out == before.out and now.exit_code == before.exit_code
    return not alike and file.name not in now.said


def goes_on(main: Callable[[], object], run_dir: Path, file: Path) -> tuple[Outcome, bool]:
    """Go on with a run; return what was said, and whether a line names the damaged file."""
    outcome = call(main)
    # An event file is written again under another name.
    named = file.name in outcome.said or ("event file" in outcome.said and "events" in file.name)
    return outcome, named


def train_here(sweep: Sweep, names: list[str]) -> None:
    """Train jobs of a sweep in this process, in place of a launcher."""
    for name in names:
        job = sweep.jobs[name]
        ending = execute(Attempt(name, job.config, sweep.run_dir(name), job.overrides, job.choices))
        if ending.status is Status.REFUSED:
            sweep.record_failure(name, ending.reason)


def sweep_here(path: Path) -> None:
    """Run the command line of the grid, in this process."""
    master, loader = compose_sweep(*GRID, f"hydra.sweep.dir={path}")
    points = list(read_space(loader, list(master.hydra.overrides.task), {}).points())
    raise_failure(run_sweep(master, loader, Candidates(points), train_here))


def search_here(path: Path) -> None:
    """Run the command line of the search, in this process."""
    own = [text for text in SEARCH if text.startswith("hydra")]
    task = [text for text in SEARCH if not text.startswith("hydra")]
    master, loader = compose_sweep(*own, f"hydra.sweep.dir={path}")
    run_search(master, loader, task)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A grid of two runs that are finished."""
    path = tmp_path_factory.mktemp("grid") / "sweep"
    assert call(partial(sweep_here, path)).exit_code == 0
    return path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A search of two trials that are finished."""
    path = tmp_path_factory.mktemp("search") / "sweep"
    options = [text for text in SEARCH if text not in TINY]
    code, _, error = run_command(sweep_command(path, *options))
    assert code == 0, error
    return path


def results_below(path: Path) -> dict[str, object]:
    """Return the results of all runs of a sweep that can be read, by name."""
    return {file.parent.name: result_of(file.parent) for file in path.glob("*/result.json")}


def walk_sweep(
    original: Path, files: Sequence[Path], tmp_path: Path, *ways: Callable[[Path], object]
) -> int:
    """Damage files of a sweep one by one in each way, and go on; return the number of cases."""
    problems = []
    place = tmp_path / "sweep"
    expected = results_below(original)
    shutil.copytree(original, place)
    before = {name: call(main, place, *words) for name, (main, words) in ON_SWEEPS.items()}
    for file, damage in cases(files, True):
        for go_on in ways:
            shutil.rmtree(place)
            shutil.copytree(original, place)
            DAMAGES[damage](place / file)
            for name, (main, words) in ON_SWEEPS.items():
                now = call(main, place, *words)
                is_state = damage == "missing" and file.name in MAY_BE_MISSING
                if not is_state and silent(file, now, before[name]):
                    problems.append(f"{file} {damage}: {name}: {now}")
            logs = {log: log.stat().st_size for log in place.glob("*/train.log")}
            outcome = call(partial(go_on, place))
            said = outcome.out + outcome.said
            said += "".join(log.read_bytes()[size:].decode() for log, size in logs.items())
            # The copies of conf/ are checked together, and an event file gets another name.
            names = file.name, "/conf: " if file.parts[0] == "conf" else "event file"
            named = any(name in said for name in names)
            if not named and (outcome.exit_code or results_below(place) != expected):
                problems.append(f"{file} {damage}: {go_on}: {outcome}")
    assert not problems, "\n".join(problems)
    return len(files) * len(DAMAGES) * len(ways)


def walk_run(original: Path, finished: Path, tmp_path: Path, *, full: bool) -> int:
    """Damage the files of a run one by one; return the number of cases."""
    # The files of a finished run are not touched when it is run again.
    outcome_of = result_of if original == finished else result_and_records
    expected, problems = outcome_of(finished), []
    whole = tmp_path / "whole" / "run"
    shutil.copytree(original, whole)
    before = commands(whole)
    todo = cases(files_below(original), full)
    for file, damage in todo:
        path = tmp_path / "damaged" / "run"
        shutil.copytree(original, path)
        DAMAGES[damage](path / file)
        for name, now in commands(path).items():
            is_state = damage == "missing" and file.name in MAY_BE_MISSING
            if not is_state and silent(file, now, before[name]):
                problems.append(f"{file} {damage}: {name}: {now} in place of {before[name]}")
        again = Path(shutil.copytree(path, tmp_path / "again" / "run"))
        for main, run_dir in (
            (partial(resume.resume, [path], resume.Options()), path),
            (partial(run, compose(*OVERRIDES), again, overrides=OVERRIDES), again),
        ):
            outcome, named = goes_on(main, run_dir, file)
            if not named and (outcome.exit_code or outcome_of(run_dir) != expected):
                problems.append(f"{file} {damage}: {main}: {outcome}")
        for folder in ("damaged", "again"):
            shutil.rmtree(tmp_path / folder)
    assert not problems, "\n".join(problems)
    return len(todo)


def test_damaged_file_of_a_stopped_run_changes_nothing_or_is_named(
    interrupted: Path, finished: Path, tmp_path: Path
) -> None:
    assert walk_run(interrupted, finished, tmp_path, full=False) >= 14


@pytest.mark.slow
@pytest.mark.parametrize("state", ["interrupted", "finished"])
def test_no_damage_of_a_run_gives_wrong_results_silently(
    interrupted: Path, finished: Path, tmp_path: Path, state: str
) -> None:
    original = {"interrupted": interrupted, "finished": finished}[state]
    assert walk_run(original, finished, tmp_path, full=True) >= 56


def resume_here(path: Path) -> None:
    resume.resume([path], resume.Options())


@pytest.mark.slow
def test_damaged_plan_of_a_grid_changes_nothing_or_is_named(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.sweep.sweep.in_launcher", lambda launcher: train_here)
    files = [Path("jobs.jsonl"), Path("sweep.json")]
    assert walk_sweep(swept, files, tmp_path, sweep_here, resume_here) == 16


@pytest.mark.slow
def test_no_damage_of_a_grid_gives_wrong_results_silently(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.sweep.sweep.in_launcher", lambda launcher: train_here)
    files = [file for file in files_below(swept) if file.parts[0] not in ("conf", "lr=0.0002")]
    files += [Path("conf/.checksum"), Path("conf/0/optimizer/adam.yaml")]
    assert walk_sweep(swept, files, tmp_path, sweep_here, resume_here) >= 100


@pytest.mark.slow
def test_damaged_study_of_a_search_changes_nothing_or_is_named(
    searched: Path, tmp_path: Path
) -> None:
    files = [Path("jobs.jsonl"), Path("study.jsonl")]
    assert walk_sweep(searched, files, tmp_path, search_here) == 8


@pytest.mark.slow
def test_no_damage_of_a_search_gives_wrong_results_silently(searched: Path, tmp_path: Path) -> None:
    files = [file for file in files_below(searched) if len(file.parts) == 1]
    files += [Path("conf/.checksum"), Path("conf/0/optimizer/adam.yaml")]
    assert walk_sweep(searched, files, tmp_path, search_here) >= 24
