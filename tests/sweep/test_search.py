"""Searches: their space, the choices of each sampler, and trials that end in every way."""

import itertools
import json
import os
import sqlite3
import statistics
from collections import deque
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sweep_commands import (
    compose_sweep,
    execute,
    finish,
    kill,
    resume_command,
    start,
    sweep_command,
    wait_until,
)

from gan.config.compose import explain
from gan.config.overrides import as_override
from gan.errors import JobsFailed, UserError
from gan.launchers.base import Ended, Event, Launcher, Progress, Started
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status, read_records, write_result
from gan.sweep.directory import read_sweep

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from gan.sweep.distributions import distributions_of  # noqa: E402
from gan.sweep.search import run_search  # noqa: E402
from gan.sweep.space import Space, read_space  # noqa: E402
from gan.sweep.study import open_study  # noqa: E402
from gan.sweep.sweep import search_command  # noqa: E402

LOG_LR = "optimizer.lr=tag(log, interval(1e-5, 1e-2))"
RANDOM = ("hydra/sweeper=optuna", "hydra.sweeper.sampler=random")
State = optuna.trial.TrialState


def space_of(*texts: str, params: dict[str, str] | None = None) -> Space:
    """Return the space of a command line."""
    _, loader = compose_sweep("hydra/sweeper=optuna")
    return read_space(loader, texts, params or {})


def test_space_follows_the_syntax_of_hydra() -> None:
    distributions = optuna.distributions
    found = space_of(
        LOG_LR,
        "optimizer.betas.0=interval(0, 0.9)",
        "model.hidden_layers=int(interval(1, 4))",
        "model.hidden_dim=range(64, 257, 64)",
        "optimizer.eps=range(0.0, 1.0, 0.25)",
        "loss=minimax,non_saturating",
        "penalty=glob(r*)",
        "seed=3",
        params={"seed": "interval(1, 2)", "trainer.batch_size": "choice(16, 32)"},
    )
    assert distributions_of(found) == {
        "optimizer.lr": distributions.FloatDistribution(1e-5, 1e-2, log=True),
        "optimizer.betas.0": distributions.FloatDistribution(0.0, 0.9),
        "model.hidden_layers": distributions.IntDistribution(1, 4),
        "model.hidden_dim": distributions.IntDistribution(64, 256, step=64),
        "optimizer.eps": distributions.FloatDistribution(0.0, 0.75, step=0.25),
        "loss": distributions.CategoricalDistribution(["minimax", "non_saturating"]),
        "penalty": distributions.CategoricalDistribution(["r1", "r1r2", "r2"]),
        "trainer.batch_size": distributions.CategoricalDistribution(["16", "32"]),
    }
    assert found.fixed == ["seed=3"], "the command line replaces params"
    corners = [dict(text.split("=") for text in point) for point in found.corners()]
    low, *others, high = corners
    assert [point["penalty"] for point in (low, *others, high)] == ["r1", "r1r2", "r2"]
    assert (low["model.hidden_dim"], high["model.hidden_dim"]) == ("64", "256")
    assert float(high["optimizer.betas.0"]) == pytest.approx(0.9, rel=1e-5)


def test_values_of_a_point_have_six_digits() -> None:
    space = space_of(LOG_LR, "model.hidden_dim=range(64,257,64)", "loss=minimax,hinge")
    point = {"optimizer.lr": 0.00123456789, "model.hidden_dim": 64, "loss": "minimax"}
    expected = ["optimizer.lr=0.00123457", "model.hidden_dim=64", "loss=minimax"]
    assert space.swept_point(point) == expected


@pytest.mark.parametrize("sampler", ["tpe", "random", "sobol", "cmaes", "grid"])
def test_resumed_sampler_stays_in_the_space_and_chooses_new_points(
    sampler: str, tmp_path: Path
) -> None:
    master, _ = compose_sweep("hydra/sweeper=optuna", f"hydra.sweeper.sampler={sampler}")
    lr = "optimizer.lr=1e-4,2e-4,3e-4,4e-4,5e-4,6e-4" if sampler == "grid" else LOG_LR
    found = space_of(lr)
    space = distributions_of(found)
    rates = list(found.labels()) if sampler == "grid" else None
    chosen = []
    for _ in range(2):
        study = open_study(
            master.hydra.sweeper,
            tmp_path,
            ["minimize"],
            grid=rates,
            seed=0,
            max_steps=100,
        )
        for _ in range(3):
            trial = study.ask(space)
            assert space["optimizer.lr"]._contains(
                space["optimizer.lr"].to_internal_repr(trial.params["optimizer.lr"])
            )
            chosen.append(trial.params["optimizer.lr"])
            study.tell(trial, float(len(chosen)))
    assert len(set(chosen)) == 6


@pytest.mark.parametrize(
    ("pruner", "kind"),
    [
        ("none", "NopPruner"),
        ("median", "MedianPruner"),
        ("asha", "SuccessiveHalvingPruner"),
        ("hyperband", "HyperbandPruner"),
        ("wilcoxon", "WilcoxonPruner"),
    ],
)
def test_pruner_is_chosen_by_its_name(pruner: str, kind: str, tmp_path: Path) -> None:
    master, _ = compose_sweep("hydra/sweeper=optuna", f"hydra.sweeper.pruner={pruner}")
    study = open_study(master.hydra.sweeper, tmp_path, ["minimize"], seed=0, max_steps=1000)
    assert type(study.pruner).__name__ == kind


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["optimizer.lrr=interval(1,2)"], "did you mean 'optimizer.lr'?"),
        (["optimizer.lr=interval(-1,2)"], "optimizer.lr=-1.0: must be above 0"),
        (["optimizer.lr=3"], "nothing to search over"),
        (["optimizer.lr=interval(2,1)"], "optimizer.lr=interval(2,1): "),
        (["device=cpu,cuda"], "device: cannot be swept over"),
        ([LOG_LR, "hydra.sweeper.sampler=tpee"], "did you mean 'tpe'?"),
        ([LOG_LR, "hydra.sweeper.pruner=hyperban"], "did you mean 'hyperband'?"),
        ([LOG_LR, "hydra.sweeper.sampler=grid"], "optimizer.lr needs values, not an interval"),
        ([LOG_LR, "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials=0: must be at least 1"),
        (["metrics.samples=100,200"], "would not compare: samples=100; samples=200"),
        ([LOG_LR, "hydra.sweeper.objectives=[fid]"], "hydra.sweeper.objectives="),
        ([LOG_LR, "metrics=none"], "metrics.objective=null: a search needs a value to improve"),
        (
            [LOG_LR, "metrics=none", "hydra.sweeper.objectives=[sliced_wasserstein]"],
            "sliced_wasserstein: no run reports it",
        ),
        (
            [
                LOG_LR,
                "hydra.sweeper.objectives=[prob/real,prob/fake]",
                "hydra.sweeper.pruner=asha",
            ],
            "pruner=asha: needs a single objective",
        ),
        (
            [LOG_LR, "hydra.sweeper.directions=[minimize,minimize]"],
            "has 2 values for 1 objectives",
        ),
        ([LOG_LR, "hydra.sweeper.storage=sqlite:////none/db"], "sqlite:////none/db: does not ans"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(
    texts: list[str], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "sweep"
    own = [text for text in texts if text.startswith("hydra.")]
    task = [text for text in texts if not text.startswith("hydra.")]
    master, loader = compose_sweep("hydra/sweeper=optuna", *own, f"hydra.sweep.dir={path}")
    try:
        run_search(master, loader, task)
    except UserError as error:
        line = str(error)
    except Exception as error:
        line = explain(error, task)
    assert expected in line
    assert "\n" not in line
    assert not path.exists()


def trials(path: Path) -> list[Any]:
    """Return the trials of a search."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Optuna's own way to read such a file, with which the dashboard reads it as well.
    storage = JournalStorage(JournalFileBackend(str(path / "study.jsonl")))
    return list(optuna.load_study(study_name="search", storage=storage).get_trials())


def results(path: Path) -> dict[str, dict[str, Any]]:
    """Return the results of a sweep's runs, by run."""
    files = path.glob("*/result.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_killed_and_resumed_search_ends_with_its_number_of_trials(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    command = sweep_command(
        path,
        "hydra/sweeper=optuna",
        "optimizer=sgd",
        "optimizer.lr=1e-4,1e-3,1e-2,0.1,1e30",
        "hydra.sweeper.sampler=grid",
        "hydra.sweeper.pruner=asha",
        "hydra.sweeper.min_steps=10",
        "hydra.sweeper.reduction_factor=2",
        "metrics.every=10",
        "trainer.max_steps=60",
    )
    process = start(command)
    wait_until(lambda: len(results(path)) >= 2)
    kill(process.pid)
    finish(process)
    assert len(results(path)) < 5, "it was over before it was killed"
    code, out, err = execute(resume_command(path))
    assert code == 0, err
    assert "best: sliced_wasserstein" in out

    ended = trials(path)
    assert len(ended) == 5
    ends = results(path)
    states = {"completed": State.COMPLETE, "pruned": State.PRUNED, "diverged": State.FAIL}
    for trial in ended:
        (name,) = trial.user_attrs["jobs"]
        assert trial.state == states[ends[name]["status"]]
        if trial.state == State.COMPLETE:
            assert trial.values == [ends[name]["final"]["sliced_wasserstein"]]
    assert ends["lr=1e+30"]["status"] == "diverged"
    pruned = [name for name, result in ends.items() if result["status"] == "pruned"]
    assert pruned
    for name in pruned:
        assert 10 <= ends[name]["steps"] < 60
        assert any(name in line and "pruned" in line for line in out.splitlines())
        assert ends[name]["objective"] == read_records(path / name)[-1]["sliced_wasserstein"]

    code, _, err = execute(resume_command(path))
    assert code == 0, err
    assert len(trials(path)) == 5
    code, _, err = execute([*command, "optimizer.momentum=0.5"])
    assert code == 2
    assert "its search has another fixed" in err


@pytest.mark.slow
def test_search_has_several_objectives_and_repeats_points_over_seeds(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    code, out, err = execute(
        sweep_command(
            path,
            "hydra/sweeper=optuna",
            "hydra.sweeper.sampler=random",
            LOG_LR,
            "hydra.sweeper.n_trials=3",
            "hydra.sweeper.objectives=[sliced_wasserstein,prob/fake]",
            "hydra.sweeper.directions=[minimize,maximize]",
            "sweep.seeds=3",
        )
    )
    assert code == 0, err
    ends = results(path)
    assert len(ends) == 9
    for trial in trials(path):
        finals = [ends[name]["final"] for name in trial.user_attrs["jobs"]]
        assert trial.values == [
            statistics.median(final[name] for final in finals)
            for name in ("sliced_wasserstein", "prob/fake")
        ]
        lowest, _, highest = sorted(final["prob/fake"] for final in finals)
        assert trial.user_attrs["iqr"][1] == pytest.approx((highest - lowest) / 2)
    assert {result["seed"] for result in ends.values()} == {0, 1, 2}
    assert "optuna-dashboard study.jsonl" in out


@pytest.mark.slow
def test_point_that_is_chosen_again_is_not_trained_again(tmp_path: Path) -> None:
    """Four choices among two values repeat a point."""
    path = tmp_path / "sweep"
    code, _, err = execute(sweep_command(path, *RANDOM, "seed=1,2", "hydra.sweeper.n_trials=4"))
    assert code == 0, err
    assert len(trials(path)) == 4
    assert set(results(path)) <= {"seed=1", "seed=2"}
    assert all(trial.state == State.COMPLETE for trial in trials(path))


class ForgetfulLauncher(Launcher):
    """A launcher whose first run is bad and loses its process when it is pruned for the first time.

    Its runs log a value at two steps and complete when they are not pruned.
    """

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.events: deque[Event] = deque()
        self.attempts: list[str] = []
        self.requests: list[str] = []

    def threads_per_run(self, device: str, runs: int) -> int:
        """See Launcher."""
        return 1

    def max_running_in_search(self, device: str, threads: int) -> int:
        """See Launcher."""
        return 1

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """See Launcher."""

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        name, self._dir = attempt.name, attempt.run_dir
        is_bad = len({*self.attempts, name}) > 2
        self.attempts.append(name)
        value = 9.0 if is_bad else 1.0
        record = {"sliced_wasserstein": value}
        self.events += [Started(name), *(Progress(name, step, 30, record) for step in (10, 20))]
        if not is_bad:
            self._end(name, Status.COMPLETED)

    def prune(self, name: str) -> None:
        """See Launcher."""
        self.requests.append(name)
        if len(self.requests) == 1:
            self.events.append(Ended(name, Ending(Status.LOST, reason="lost")))
        elif self.attempts.count(name) > 1:
            self._end(name, Status.PRUNED)

    def _end(self, name: str, status: Status) -> None:
        self._dir.mkdir(exist_ok=True)
        final = {"sliced_wasserstein": 1.0}
        facts = {"steps": 30, "seconds": 1.0, "objective": 1.0, "final": final}
        facts["objective_name"] = "sliced_wasserstein"
        write_result(self._dir, {"status": status.value, **facts})
        self.events.append(Ended(name, Ending(status, 1.0)))

    def stop(self, name: str) -> None:
        """See Launcher."""

    def kill(self, name: str) -> None:
        """See Launcher."""

    def wait(self, timeout: float) -> Event | None:
        """See Launcher."""
        assert self.events, "a run was not pruned again"
        return self.events.popleft()

    def close(self) -> None:
        """See Launcher."""


def test_pruned_run_that_loses_its_process_is_pruned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = ForgetfulLauncher(retries=3)
    monkeypatch.setattr("gan.sweep.search.planning_launcher", lambda settings: launcher)
    search = ("hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=median")
    limits = ("hydra.sweeper.startup_trials=1", "hydra.sweeper.min_steps=5")
    path = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    master, loader = compose_sweep("hydra/sweeper=optuna", *search, *limits, path)
    run_search(master, loader, [LOG_LR])
    states = [trial.state for trial in trials(tmp_path / "sweep")]
    assert states == [State.COMPLETE, State.COMPLETE, State.PRUNED]
    assert len(launcher.requests) > 1


class WatchfulLauncher(ForgetfulLauncher):
    """A launcher all of whose runs complete, and that looks at the sweep's files before each.

    Args:
        killed_at: the number of the run whose start ends this process.
    """

    def __init__(self, path: Path, killed_at: int | None = None):
        super().__init__(retries=0)
        self.path, self.killed_at = path, killed_at
        self.seen: list[tuple[int, int]] = []
        """The inode and the size of jobs.jsonl before each run."""

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        stat = (self.path / "jobs.jsonl").stat()
        self.seen.append((stat.st_ino, stat.st_size))
        if len(self.seen) == self.killed_at:
            raise RuntimeError("killed")
        self._dir = attempt.run_dir
        self.events += [Started(attempt.name), Progress(attempt.name, 10, 30, {})]
        self._end(attempt.name, Status.COMPLETED)


def search_here(
    path: Path, launcher: Launcher, monkeypatch: pytest.MonkeyPatch, n_trials: int, *words: str
) -> None:
    """Search with a launcher in this process."""
    monkeypatch.setattr("gan.sweep.search.planning_launcher", lambda settings: launcher)
    settings = [text for text in words if text.startswith(("hydra.", "sweep."))]
    settings += [f"hydra.sweeper.n_trials={n_trials}", f"hydra.sweep.dir={path}"]
    master, loader = compose_sweep("hydra/sweeper=optuna", *settings)
    space = [text for text in words if text not in settings]
    run_search(master, loader, space or [LOG_LR])


def test_a_trial_adds_a_line_and_leaves_those_of_other_trials_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = WatchfulLauncher(tmp_path / "sweep")
    search_here(tmp_path / "sweep", launcher, monkeypatch, 30)
    lines = (tmp_path / "sweep" / "jobs.jsonl").read_bytes().splitlines(keepends=True)
    inodes, sizes = zip(*launcher.seen, strict=True)
    assert len({*inodes}) == 1
    assert [after - before for before, after in itertools.pairwise([0, *sizes])] == [
        len(line) for line in lines
    ]


def test_a_point_that_is_chosen_again_adds_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    search_here(path, WatchfulLauncher(path), monkeypatch, 8, "seed=1,2")
    assert len(trials(path)) == 8
    assert len((path / "jobs.jsonl").read_text().splitlines()) == 2


def test_half_a_line_that_a_killed_search_left_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = tmp_path / "sweep", tmp_path / "sweep" / "jobs.jsonl"
    with pytest.raises(RuntimeError, match="killed"):
        search_here(path, WatchfulLauncher(path, killed_at=3), monkeypatch, 3)
    *before, last = file.read_bytes().splitlines(keepends=True)
    for torn in (last[:-1], last[: len(last) // 2], b""):
        file.write_bytes(b"".join([*before, torn]))
        with pytest.raises(RuntimeError, match="killed"):
            search_here(path, WatchfulLauncher(path, killed_at=1), monkeypatch, 3)
        assert file.read_bytes() == b"".join([*before, last])
    search_here(path, WatchfulLauncher(path), monkeypatch, 3)
    assert file.read_bytes() == b"".join([*before, last])
    assert [trial.state for trial in trials(path)] == [State.COMPLETE] * 3


def test_a_search_that_lost_the_line_of_a_trial_that_ended_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    search_here(path, WatchfulLauncher(path), monkeypatch, 2)
    content = (path / "jobs.jsonl").read_bytes()
    (path / "jobs.jsonl").write_bytes(content[:-20])
    with pytest.raises(UserError, match=r"jobs.jsonl: lacks the run lr=.*; restore it"):
        search_here(path, WatchfulLauncher(path), monkeypatch, 3)


def test_a_search_of_an_earlier_version_that_saved_all_jobs_at_each_trial_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    with monkeypatch.context() as patch:
        patch.setattr("gan.sweep.search.stored_at_once", lambda study: nullcontext())
        patch.setattr("gan.sweep.directory.Sweep.append", lambda sweep, jobs: sweep.save())
        with pytest.raises(RuntimeError, match="killed"):
            search_here(path, WatchfulLauncher(path, killed_at=3), patch, 5)
    before = (path / "jobs.jsonl").read_bytes()
    search_here(path, WatchfulLauncher(path), monkeypatch, 5)
    assert (path / "jobs.jsonl").read_bytes().startswith(before)
    assert [trial.state for trial in trials(path)] == [State.COMPLETE] * 5
    assert sorted(results(path)) == sorted(name for t in trials(path) for name in jobs_of(t))


def jobs_of(trial: Any) -> list[str]:
    """Return the names of a trial's runs."""
    names: list[str] = trial.user_attrs["jobs"]
    return names


def test_a_trial_whose_values_were_not_all_chosen_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, space = tmp_path / "sweep", (LOG_LR, "model.hidden_dim=16,32")
    choose = optuna.trial.Trial._suggest

    def killed_at_the_second(trial: Any, name: str, distribution: Any) -> Any:
        if trial.params:
            raise RuntimeError("killed")
        return choose(trial, name, distribution)

    with monkeypatch.context() as patch:
        patch.setattr("optuna.trial.Trial._suggest", killed_at_the_second)
        with pytest.raises(RuntimeError, match="killed"):
            search_here(path, WatchfulLauncher(path), patch, 2, *space)
    assert trials(path) == []
    search_here(path, WatchfulLauncher(path), monkeypatch, 2, *space)
    assert [(trial.number, len(trial.params)) for trial in trials(path)] == [(0, 2), (1, 2)]


def test_trial_that_an_earlier_version_left_without_some_values_gets_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gan.sweep.search.planning_launcher", lambda settings: ForgetfulLauncher(retries=0)
    )
    path, keys = tmp_path / "sweep", {"optimizer.lr", "model.hidden_dim"}
    words = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", f"hydra.sweep.dir={path}")
    choose = optuna.trial.Trial._suggest

    def killed_at_the_second(trial: Any, name: str, distribution: Any) -> Any:
        if trial.params:
            raise RuntimeError("killed")
        return choose(trial, name, distribution)

    def search() -> None:
        master, loader = compose_sweep(*words)
        run_search(master, loader, [LOG_LR, "model.hidden_dim=16,32"])

    with monkeypatch.context() as patch:
        patch.setattr("optuna.trial.Trial._suggest", killed_at_the_second)
        patch.setattr("gan.sweep.search.stored_at_once", lambda study: nullcontext())
        with pytest.raises(RuntimeError, match="killed"):
            search()
    (left,) = trials(path)
    assert len(left.params) == 1
    search()
    (ended,) = trials(path)
    assert ended.state == State.COMPLETE
    assert {*ended.params} == keys
    assert left.params.items() <= ended.params.items()
    (line,) = (path / "jobs.jsonl").read_text().splitlines()
    given = dict(text.split("=", 1) for text in json.loads(line)["overrides"])
    assert keys <= {*given}


def test_failed_trials_are_repeated_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, fault = tmp_path / "sweep", tmp_path / "fault"
    fault.touch()
    monkeypatch.setenv("FAULTY", str(fault))
    command = sweep_command(
        path,
        "hydra/sweeper=optuna",
        "hydra.sweeper.sampler=grid",
        "loss._target_=choice(faulty_losses.raises,gan.losses.non_saturating)",
        "hydra.launcher.retries=0",
        "device=cpu",
    )
    code, _, err = execute(command)
    assert code == 1
    assert "retry_failed=true" in err
    fault.unlink()
    before = (path / "sweep.json").read_bytes()
    code, out, err = execute(resume_command(path))
    assert code == 1, "a plain resume repeats no failed run"
    options = ("retry_failed=true", "n_jobs=1", "device=auto")
    code, out, err = execute(resume_command(path, *options))
    assert code == 0, out + err
    assert "1 of 2 trials to run; 1 runs at a time" in out
    assert {result["status"] for result in results(path).values()} == {"completed"}
    assert [trial.state for trial in trials(path)] == [State.FAIL, State.COMPLETE, State.COMPLETE]
    commands = [
        json.loads(text)["commands"] for text in (before, (path / "sweep.json").read_text())
    ]
    assert commands[0] == commands[1], "settings of one resume are not kept for the next"
    code, out, err = execute(resume_command(path, "retry_failed=true"))
    assert code == 0, out + err
    assert len(trials(path)) == 3


def test_study_of_a_search_that_was_killed_before_it_was_saved_is_begun_anew(
    tmp_path: Path,
) -> None:
    master, _ = compose_sweep("hydra/sweeper=optuna", f"hydra.sweep.dir={tmp_path}")
    study: Any = {"seed": 0, "max_steps": 100, "is_new": True}
    early = open_study(master.hydra.sweeper, tmp_path, ["maximize", "minimize"], **study)
    early.enqueue_trial({"optimizer.lr": 1.0})
    for name in ("jobs.jsonl", "study.db-journal"):
        (tmp_path / name).touch()
    assert read_sweep(tmp_path) is None
    again = open_study(master.hydra.sweeper, tmp_path, ["minimize"], **study)
    assert (len(again.directions), again.get_trials()) == (1, [])
    again.ask()
    with pytest.raises(UserError, match=r"holds the trials of another search; choose another"):
        open_study(master.hydra.sweeper, tmp_path, ["minimize"], **study)
    assert len(trials(tmp_path)) == 1


@pytest.mark.parametrize(
    "name", ["#", "?", "%", "&;:@", "%20", "a?b=c", "$HOME", "${x}", ",=()!*~ '[]{}äé€手"]
)
def test_study_lies_in_a_directory_of_any_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{name}y"
    path.mkdir()
    master, _ = compose_sweep("hydra/sweeper=optuna")
    for expected in (0, 1):
        study = open_study(master.hydra.sweeper, path, ["minimize"], seed=0, max_steps=100)
        assert len(study.get_trials()) == expected
        study.ask()
    assert [file.name for file in path.iterdir()] == ["study.jsonl"]


def test_search_of_an_earlier_version_goes_on_in_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a ?%20#"
    path.mkdir()
    (path / "study.db").touch()
    search_here(path, WatchfulLauncher(path), monkeypatch, 2)
    search_here(path, WatchfulLauncher(path), monkeypatch, 3)
    connection = sqlite3.connect(path / "study.db")
    assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (3,)
    connection.close()
    assert not (path / "study.jsonl").exists()


def test_half_a_line_at_the_end_of_a_study_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    search_here(path, WatchfulLauncher(path), monkeypatch, 2)
    before, study = trials(path), path / "study.jsonl"
    with study.open("ab") as file:
        file.write(study.read_bytes().splitlines()[-1][:20])
    search_here(path, WatchfulLauncher(path), monkeypatch, 4)
    assert trials(path)[:2] == before
    assert [trial.state for trial in trials(path)] == [State.COMPLETE] * 4


def test_changed_value_in_a_study_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep"
    search_here(path, WatchfulLauncher(path), monkeypatch, 2)
    study = path / "study.jsonl"
    lines = study.read_text().splitlines(keepends=True)
    number, line = next((n, one) for n, one in enumerate(lines, 1) if '"values": [' in one)
    lines[number - 1] = line.replace('"values": [', '"values": [1')
    study.write_text("".join(lines))
    with pytest.raises(UserError, match=rf"study.jsonl: line {number} is damaged; restore"):
        search_here(path, WatchfulLauncher(path), monkeypatch, 3)


def test_what_another_program_adds_to_a_study_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = tmp_path / "sweep"
    search_here(path, WatchfulLauncher(path), monkeypatch, 2)
    storage = JournalStorage(JournalFileBackend(str(path / "study.jsonl")))
    study = optuna.load_study(study_name="search", storage=storage)
    study.set_user_attr("note", "a note of the dashboard")
    search_here(path, WatchfulLauncher(path), monkeypatch, 3)
    master, _ = compose_sweep("hydra/sweeper=optuna")
    again = open_study(master.hydra.sweeper, path, ["minimize"], seed=0, max_steps=100)
    assert again.user_attrs == {"note": "a note of the dashboard"}
    assert len(again.trials) == 3


def test_combination_that_cannot_be_trained_is_left_out_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, space = tmp_path / "sweep", ("trainer.pac=1,2,3", "trainer.batch_size=64,96")
    words = (*space, "hydra.sweeper.sampler=random")
    search_here(path, WatchfulLauncher(path), monkeypatch, 20, *words)
    out = capsys.readouterr().out
    assert "left out trainer.pac=3 trainer.batch_size=64: trainer.pac=3: must divide" in out
    states = [trial.state for trial in trials(path)]
    assert states.count(State.COMPLETE) == 20
    refused = [trial for trial in trials(path) if "refused" in trial.user_attrs]
    assert {(t.params["trainer.pac"], t.params["trainer.batch_size"]) for t in refused} == {
        ("3", "64")
    }
    assert states.count(State.PRUNED) == len(refused) > 0


def test_search_whose_points_all_become_wrong_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    monkeypatch.setattr("gan.sweep.search.PATIENCE", 3)
    planned = "gan.sweep.search._Planner.trial"

    def refuse(planner: Any, point: Any, number: int) -> Any:
        raise UserError("a=1: must be another")

    with monkeypatch.context() as patch:
        patch.setattr(planned, refuse)
        with pytest.raises(UserError, match=r"the space: 3 points in a row were left out, .* a=1"):
            search_here(path, WatchfulLauncher(path), patch, 5)
    search_here(path, WatchfulLauncher(path), monkeypatch, 2)
    assert [t.state for t in trials(path)] == [State.COMPLETE] * 2


def test_search_whose_fixed_words_name_a_file_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    (tmp_path / "images").mkdir()
    for shade in range(40):
        Image.new("L", (8, 8), shade).save(tmp_path / "images" / f"{shade}.png")
    folder = os.path.relpath(tmp_path / "images")
    places = [f"data.folder={folder}", "data.channels=1"]
    objective = "hydra.sweeper.objectives=[loss/generator]"
    for number, fixed in enumerate((places, places[::-1]), 1):
        words = (*RANDOM, "seed=range(9)", "data=image_folder", *fixed, "metrics=none", objective)
        code, _, err = execute(sweep_command(path, *words, f"hydra.sweeper.n_trials={number}"))
        assert code == 0, err
    code, _, err = execute(resume_command(path))
    assert code == 0, err
    assert len(trials(path)) == 2


def test_resume_goes_by_the_newest_number_of_trials(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    command = sweep_command(path, *RANDOM, "seed=range(99)", "hydra.sweeper.n_trials=1")
    for words in ([], ["hydra.sweeper.n_trials=2"]):
        code, _, err = execute([*command, *words])
        assert code == 0, err
    assert "hydra.sweeper.n_trials=2" in search_command(path)
    assert "sweep.retry_failed=true" not in search_command(path)


def test_asking_for_failed_runs_again_is_not_kept_for_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    words = ["gan", "--multirun", "sweep.retry_failed=true", LOG_LR, f"hydra.sweep.dir={path}"]
    monkeypatch.setattr("sys.argv", words)
    search_here(path, WatchfulLauncher(path), monkeypatch, 1)
    assert search_command(path)[1:-1] == [LOG_LR]


def test_objective_that_the_last_record_lacks_is_taken_from_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Uneven(WatchfulLauncher):
        def _end(self, name: str, status: Status) -> None:
            super()._end(name, status)
            values = [{"step": 10, "grad_norm/generator": 0.5}, {"step": 20, "loss": 1.0}]
            if len(self.seen) == 2:
                del values[0]
            lines = "".join(json.dumps(value) + "\n" for value in values)
            (self._dir / "metrics.jsonl").write_text(lines)

    path = tmp_path / "sweep"
    objective = "hydra.sweeper.objectives=[grad_norm/generator]"
    search_here(path, Uneven(path), monkeypatch, 2, objective, LOG_LR)
    found = [(trial.state, trial.values) for trial in trials(path)]
    assert found == [(State.COMPLETE, [0.5]), (State.FAIL, None)]


def test_grid_is_refused_in_the_directory_of_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    search_here(path, WatchfulLauncher(path), monkeypatch, 1)
    before = {file.name: file.read_bytes() for file in path.glob("*.json*")}
    code, _, err = execute(sweep_command(path, "optimizer.lr=1e-4,2e-4"))
    assert code == 2
    assert "holds a search, whose points hydra/sweeper=optuna chooses" in err
    assert {file.name: file.read_bytes() for file in path.glob("*.json*")} == before


def test_search_is_refused_with_a_launcher_that_tells_of_no_ends(tmp_path: Path) -> None:
    words = ("hydra/sweeper=optuna", "hydra/launcher=basic", f"hydra.sweep.dir={tmp_path / 'a'}")
    master, loader = compose_sweep(*words)
    with pytest.raises(UserError, match="hydra/launcher=basic: runs no search"):
        run_search(master, loader, [LOG_LR])
    assert not (tmp_path / "a").exists()


def test_search_that_cannot_start_leaves_nothing_in_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(WatchfulLauncher):
        def start(self, folder: Path, log: Path, **facts: Any) -> None:
            raise UserError("device=cuda:7: is not there")

    path, url = tmp_path / "sweep", f"sqlite:///{tmp_path / 'all.db'}"
    storage = f"hydra.sweeper.storage={url}"
    with pytest.raises(UserError, match="device=cuda:7"):
        search_here(path, Refusing(path), monkeypatch, 2, storage, LOG_LR)
    assert not path.exists()
    search_here(path, WatchfulLauncher(path), monkeypatch, 2, storage, LOG_LR)
    study = optuna.load_study(study_name=str(path), storage=url)
    assert [trial.state for trial in study.trials] == [State.COMPLETE] * 2


def test_values_of_a_seed_that_ended_before_a_resume_count_for_pruning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneSeed(WatchfulLauncher):
        """Writes the records of the first seed of a trial, and dies with the second one."""

        def _end(self, name: str, status: Status) -> None:
            super()._end(name, status)
            record = {"step": 10, "sliced_wasserstein": 0.5}
            (self._dir / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    class Reports(WatchfulLauncher):
        def submit(self, attempt: Attempt) -> None:
            self._dir = attempt.run_dir
            value = {"sliced_wasserstein": 1.5}
            self.events += [Started(attempt.name), Progress(attempt.name, 10, 30, value)]
            self._end(attempt.name, Status.COMPLETED)

    path, seeds = tmp_path / "sweep", "sweep.seeds=2"
    with pytest.raises(RuntimeError, match="killed"):
        search_here(path, OneSeed(path, killed_at=2), monkeypatch, 1, seeds, LOG_LR)
    search_here(path, Reports(path), monkeypatch, 1, seeds, LOG_LR)
    (trial,) = trials(path)
    assert trial.intermediate_values == {10: 1.0}


def test_search_in_a_directory_with_special_characters_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "a,b=(ä) #?%20{'x'}"
    search = (*RANDOM, "seed=1,2", "hydra.sweeper.n_trials=1")
    command = sweep_command(path, *search)
    command = [word for word in command if not word.startswith("hydra.sweep.dir=")]
    code, _, err = execute([*command, f"hydra.sweep.dir={as_override(str(path))}"])
    assert code == 0, err
    code, out, err = execute(resume_command(path))
    assert code == 0, out + err
    assert (path / "study.jsonl").exists()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


STUDY = (
    "study=zip(model.hidden_dim=choice(16,24),optimizer.lr=choice(1e-4,2e-4))",
    "penalty=none,r1,wgan_gp",
    "penalty.gamma=when(penalty=r1, tag(log, interval(0.1, 10)))",
    "penalty.weight=when(penalty=wgan_gp, 5,10)",
    "sweep.where=penalty != 'wgan_gp' or model.hidden_dim == 16",
)


@pytest.mark.parametrize("sampler", ["tpe", "sobol"])
def test_sampler_chooses_a_dependent_key_only_where_its_choice_occurs(
    sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    sampling = f"hydra.sweeper.sampler={sampler}"
    search_here(path, WatchfulLauncher(path), monkeypatch, 5, *STUDY, sampling)
    # The second command goes on with the study, as after a kill.
    search_here(path, WatchfulLauncher(path), monkeypatch, 14, *STUDY, sampling)
    left_out = [trial for trial in trials(path) if "jobs" not in trial.user_attrs]
    trained = [trial for trial in trials(path) if "jobs" in trial.user_attrs]
    assert len(trained) == 14
    assert left_out
    for trial in trained:
        needed = {"none": set(), "r1": {"penalty.gamma"}, "wgan_gp": {"penalty.weight"}}
        penalty = trial.params["penalty"]
        assert {*trial.params} == {"study", "penalty", *needed[penalty]}
        (name,) = trial.user_attrs["jobs"]
        assert f"penalty={penalty}" in name
        assert ("hidden_dim=24" in name) == (
            trial.params["study"].startswith("model.hidden_dim=24")
        )
    for trial in left_out:
        assert trial.state == State.PRUNED
        assert trial.params["penalty"] == "wgan_gp"
        assert trial.params["study"].startswith("model.hidden_dim=24")


def test_grid_sampler_tries_each_point_of_a_dependent_space_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    study = [text.replace("tag(log, interval(0.1, 10))", "range(1, 4)") for text in STUDY]
    sampling = "hydra.sweeper.sampler=grid"
    search_here(path, WatchfulLauncher(path), monkeypatch, 3, *study, sampling)
    search_here(path, WatchfulLauncher(path), monkeypatch, 99, *study, sampling)
    points = sorted(" ".join(map(str, trial.params.values())) for trial in trials(path))
    small, large = (f"model.hidden_dim={n} optimizer.lr=0.000{i}" for n, i in ((16, 1), (24, 2)))
    assert points == sorted(
        [f"{size} {rest}" for size in (small, large) for rest in ("none", "r1 1", "r1 2", "r1 3")]
        + [f"{small} wgan_gp 5", f"{small} wgan_gp 10"]
    )
    assert {trial.state for trial in trials(path)} == {State.COMPLETE}


def test_search_that_finds_no_more_points_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gan.sweep.search.PATIENCE", 5)
    path, sampling = tmp_path / "sweep", "hydra.sweeper.sampler=random"
    # The start of the interval meets it, and no point that is drawn does.
    narrow = "sweep.where=optimizer.lr <= 1e-5"
    with pytest.raises(UserError) as ended:
        search_here(path, WatchfulLauncher(path), monkeypatch, 2, LOG_LR, narrow, sampling)
    assert str(ended.value) == (
        f"{narrow}: 5 points in a row did not meet it, so the search has ended after 0 of 2 "
        "trials; widen the space or the condition"
    )


def test_search_whose_condition_nothing_meets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    with pytest.raises(UserError, match="points in a row did not meet it"):
        search_here(path, WatchfulLauncher(path), monkeypatch, 2, LOG_LR, "sweep.where=seed == 7")
    assert not path.exists()


class CountingLauncher(WatchfulLauncher):
    """A launcher with one place that counts the trials before each run.

    Args:
        failing: the number of the first run that fails; runs before it complete.
    """

    def __init__(self, path: Path, failing: int = 1000, **settings: Any):
        super().__init__(path)
        self.failing, self.max_failures = failing, settings.get("max_failures")
        self.trials: list[int] = []

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        self.trials.append(len(trials(self.path)))
        if len(self.trials) < self.failing:
            super().submit(attempt)
        else:
            self.events.append(Ended(attempt.name, Ending(Status.REFUSED, reason="it broke")))


def test_point_is_chosen_once_the_runs_of_the_one_before_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    launcher = CountingLauncher(path)
    search_here(path, launcher, monkeypatch, 4, LOG_LR, "sweep.seeds=2")
    assert launcher.trials == [1, 1, 2, 2, 3, 3, 4, 4]


def test_search_with_too_many_failures_asks_for_no_further_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    launcher = CountingLauncher(path, failing=2, max_failures=1)
    with pytest.raises(JobsFailed, match="1 of 2 runs failed"):
        search_here(path, launcher, monkeypatch, 8, LOG_LR)
    assert launcher.trials == [1, 2]


def test_search_over_the_seed_repeats_no_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sweep"
    with pytest.raises(UserError, match=r"^sweep\.seeds=2: the seed is searched over as well"):
        search_here(
            path, CountingLauncher(path), monkeypatch, 2, LOG_LR, "seed=1,2", "sweep.seeds=2"
        )
    assert not path.exists()


@pytest.mark.parametrize(("pruner", "is_told"), [("hyperband", True), ("none", False)])
def test_pruner_that_can_prune_no_run_is_told(
    pruner: str,
    is_told: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, words = tmp_path / "sweep", (f"hydra.sweeper.pruner={pruner}", "sweep.dry_run=true")
    search_here(path, CountingLauncher(path), monkeypatch, 2, LOG_LR, *words)
    assert "hydra.sweeper.min_steps" not in capsys.readouterr().out
    many = "hydra.sweeper.min_steps=15000"
    search_here(path, CountingLauncher(path), monkeypatch, 2, LOG_LR, *words, many)
    told = f"{many}: is not below trainer.max_steps=15000, so hydra.sweeper.pruner={pruner} prunes"
    assert (told in capsys.readouterr().out) == is_told
