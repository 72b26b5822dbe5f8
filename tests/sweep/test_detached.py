"""Sweeps that a cluster drives: handed over, followed, stopped and taken up."""

from pathlib import Path
from typing import Any

import pytest
from sweep_commands import compose_sweep, execute, sweep_command

from gan.commands.resume import Options, resume
from gan.errors import Interrupted, JobsFailed, UserError
from gan.launchers.controller import IS_CONTROLLER, note_end, read_state
from gan.launchers.local import LocalLauncher
from gan.run.directory import claimed
from gan.run.result import Status, write_result
from gan.sweep import detached
from gan.sweep.directory import Sweep, read_sweep
from gan.sweep.space import read_space
from gan.sweep.sweep import Candidates, run_sweep

NAME = "Slurm job 17"


class FakeCluster(LocalLauncher):
    """A launcher whose cluster does what the test says."""

    def __init__(self) -> None:
        super().__init__(n_jobs=2)
        self.detach = True
        self.controllers: list[tuple[Path, list[str]]] = []
        self.refusal = ""
        self.is_there = True
        self.on_question: Any = None

    def start_controller(self, folder: Path, words: Any) -> str:
        """See Launcher."""
        if self.refusal:
            raise UserError(self.refusal)
        self.controllers.append((folder, list(words)))
        return NAME

    def has_controller(self, folder: Path, name: str) -> bool:
        """See Launcher."""
        assert name == NAME
        if self.on_question:
            self.on_question()
        return self.is_there

    def stop_controller(self, folder: Path, name: str) -> None:
        """See Launcher."""
        self.is_there = False


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return the launcher of all sweeps of a test."""
    launcher = FakeCluster()
    monkeypatch.setattr(detached, "find_launcher", lambda settings: launcher)
    monkeypatch.setattr("gan.sweep.sweep.find_launcher", lambda settings: launcher)
    monkeypatch.setattr(detached, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(detached, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    return launcher


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the directory of the sweep, which is not made yet."""
    return tmp_path / "sweep"


def sweep_detached(path: Path, cluster: FakeCluster, *words: str) -> None:
    """Plan a sweep of two runs and hand it over."""
    master, loader = compose_sweep("seed=1,2", f"hydra.sweep.dir={path}", *words)
    space = read_space(loader, ["seed=1,2"], {})

    def execute_nothing(sweep: Sweep, names: list[str]) -> None:
        raise AssertionError("nothing is to run here")

    candidates = Candidates(list(space.points()), space.keys)
    assert run_sweep(master, loader, candidates, execute_nothing, cluster) == []


def end_run(path: Path, name: str, status: Status = Status.COMPLETED) -> None:
    """Write the result of a run, as its worker does."""
    (path / name).mkdir(exist_ok=True)
    facts = {"objective": 1.0, "objective_name": "sliced_wasserstein", "steps": 1, "seconds": 1.0}
    write_result(path / name, {"status": status.value, "error": "it broke", **facts})


def test_planned_sweep_is_handed_over_with_the_words_that_it_needs(
    path: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_detached(path, cluster, "sweep.retry_failed=true")
    assert cluster.controllers == [(path.resolve(), ["retry_failed=true"])]
    assert read_state(path) == NAME
    stored = read_sweep(path)
    assert stored
    assert list(stored.jobs) == ["seed=1", "seed=2"]
    assert f"{NAME} drives this sweep from now on; follow it by:" in capsys.readouterr().out


def test_sweep_that_a_controller_drives_is_not_handed_over_again(
    path: Path, cluster: FakeCluster
) -> None:
    sweep_detached(path, cluster)
    with pytest.raises(UserError, match=f"{NAME} drives this sweep; follow it by: "):
        sweep_detached(path, cluster)
    with pytest.raises(UserError, match=r"^n_jobs=3: Slurm job 17 drives this sweep; end it first"):
        resume([path], Options(n_jobs=3))
    assert len(cluster.controllers) == 1
    cluster.is_there = False
    sweep_detached(path, cluster)
    assert len(cluster.controllers) == 2


def test_refused_controller_leaves_nothing_behind(path: Path, cluster: FakeCluster) -> None:
    cluster.refusal = "Slurm takes no controller: invalid partition"
    with pytest.raises(UserError, match="Slurm takes no controller"):
        sweep_detached(path, cluster)
    assert not path.exists()


def test_controller_drives_the_sweep_itself(
    path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_detached(path, cluster)
    monkeypatch.setenv(IS_CONTROLLER, "1")
    assert not detached.is_detached(cluster)
    assert detached.living_controller(path) is None
    with pytest.raises(AssertionError, match="nothing is to run here"):
        sweep_detached(path, cluster)
    assert read_state(path) == NAME, "it forgets itself only when the sweep is over"


def test_followed_sweep_shows_its_runs_and_ends_with_their_table(
    path: Path, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_detached(path, cluster)
    questions = 0

    def go_on() -> None:
        nonlocal questions
        questions += 1
        if questions == 2:
            with claimed(path / "seed=1"):
                shown.look()
            end_run(path, "seed=1")
        if questions == 3:
            end_run(path, "seed=2", Status.FAILED)
            cluster.is_there = False

    sweep = read_sweep(path)
    assert sweep
    shown = detached._Shown(sweep)
    cluster.on_question = go_on
    with pytest.raises(JobsFailed, match="1 of 2 runs failed"):
        resume([path], Options())
    out = capsys.readouterr().out
    assert f"following {NAME}; Ctrl-C ends this command and not the sweep" in out
    assert "seed=1" in out
    assert "it broke" in out


def test_sweep_whose_controller_is_gone_is_taken_up(
    path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_detached(path, cluster)
    taken_up: list[list[str]] = []

    def run_here(sweep: Sweep, names: list[str]) -> None:
        taken_up.append(names)
        for name in names:
            end_run(path, name)

    monkeypatch.setattr("gan.sweep.sweep.in_launcher", lambda launcher: run_here)
    cluster.is_there = False
    end_run(path, "seed=1")
    resume([path], Options())
    assert taken_up == [["seed=2"]]
    assert read_state(path) is None


def test_follower_of_a_sweep_that_is_stopped_does_not_take_it_up(
    path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_detached(path, cluster)

    def stop() -> None:
        # Another command has said stop=true since this one began to follow.
        if cluster.controllers.pop() is None:
            note_end(path, 130)
            cluster.is_there = False

    cluster.controllers = [None, (path, [])]  # type: ignore[list-item]
    cluster.on_question = stop
    monkeypatch.setattr("gan.sweep.sweep.in_launcher", lambda launcher: pytest.fail("drives it"))
    with pytest.raises(JobsFailed, match="2 of 2 runs have not ended"):
        resume([path], Options())


def test_follower_waits_for_a_cluster_that_does_not_answer_for_a_while(
    path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_detached(path, cluster)
    questions = 0

    def answer() -> None:
        nonlocal questions
        questions += 1
        if 1 < questions < 5:
            raise UserError("hydra/launcher=slurm: Slurm does not answer, try squeue")
        if questions == 5:
            for name in ("seed=1", "seed=2"):
                end_run(path, name)
            note_end(path, 0)

    cluster.on_question = answer
    resume([path], Options())
    assert questions >= 5
    cluster.on_question = None
    sweep_detached(path, cluster)
    questions = 1
    cluster.on_question = answer
    monkeypatch.setattr(detached, "SECONDS_WITHOUT_ANSWER", -1.0)
    with pytest.raises(UserError, match="does not answer"):
        detached.follow(path, NAME)


def test_run_that_is_tried_again_is_shown_again(path: Path, cluster: FakeCluster) -> None:
    sweep_detached(path, cluster)
    end_run(path, "seed=1", Status.FAILED)
    sweep = read_sweep(path)
    assert sweep
    shown = detached._Shown(sweep)
    events: list[Any] = []
    shown.display.show = events.append  # type: ignore[method-assign,assignment]
    shown.look()
    assert events == [], "it failed before"
    with claimed(path / "seed=1"):
        (path / "seed=1" / "result.json").unlink()
        shown.look()
    end_run(path, "seed=1")
    shown.look()
    assert [type(event).__name__ for event in events] == ["Started", "JobEnded"]


def test_what_is_asked_for_when_a_sweep_is_handed_over_again_reaches_its_controller(
    path: Path, cluster: FakeCluster
) -> None:
    sweep_detached(path, cluster)
    cluster.is_there = False
    resume([path], Options(detach=True, n_jobs=7, device="cpu", retry_failed=True))
    words = ["retry_failed=true", "device=cpu", "n_jobs=7"]
    assert cluster.controllers[1:] == [(path.resolve(), words)]


def test_controller_of_a_sweep_that_cannot_run_is_not_begun(
    path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(device: str) -> None:
        raise UserError(f"hydra.launcher.num_cpus=1: must be at least 4 on {device}")

    monkeypatch.setattr(cluster, "check_place", refuse)
    with pytest.raises(UserError, match="must be at least 4 on auto"):
        sweep_detached(path, cluster)
    assert cluster.controllers == []
    assert not path.exists()


def test_interrupted_follower_leaves_the_sweep_alone(path: Path, cluster: FakeCluster) -> None:
    sweep_detached(path, cluster)

    def interrupt() -> None:
        if not cluster.controllers:
            raise KeyboardInterrupt
        cluster.controllers.clear()

    cluster.on_question = interrupt
    with pytest.raises(Interrupted, match="goes on; follow it again by: ") as stopped:
        resume([path], Options())
    assert stopped.value.exit_code == 130
    assert read_state(path) == NAME


def test_sweep_is_stopped_and_handed_over_again(path: Path, cluster: FakeCluster) -> None:
    sweep_detached(path, cluster)
    with pytest.raises(UserError, match="give one of them"):
        resume([path], Options(stop=True, detach=True))
    resume([path], Options(stop=True))
    assert not cluster.is_there
    with pytest.raises(UserError, match=r"^stop=true: no job of a cluster drives"):
        resume([path], Options(stop=True))
    resume([path], Options(detach=True))
    assert cluster.controllers[1:] == [(path.resolve(), [])]


def test_sweep_without_a_cluster_is_not_handed_over(
    path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_detached(path, cluster)
    assert not detached.can_detach(path), "its settings are those of a local launcher"
    cluster.is_there = False
    launcher = LocalLauncher(n_jobs=2)
    monkeypatch.setattr("gan.sweep.sweep.find_launcher", lambda settings: launcher)
    with pytest.raises(UserError, match="only the launchers slurm and ray have a cluster"):
        resume([path], Options(detach=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["hydra.launcher.detach=true"],
            "hydra/launcher=slurm and hydra/launcher=ray have it, and this one does not",
        ),
        (
            ["hydra/launcher=ray", "hydra.launcher.detach=true"],
            "address=local starts a Ray that ends with this command",
        ),
    ],
)
def test_launcher_that_cannot_drive_a_sweep_is_refused(
    path: Path, words: list[str], message: str
) -> None:
    code, _, err = execute([*sweep_command(path, "seed=1,2"), *words])
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not path.exists()
