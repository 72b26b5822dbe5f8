"""The Slurm launcher and a Slurm that the tests play themselves: no job trains anything.

Ray's launcher shares all that is said of cohorts here.
"""

import json
import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan.errors import NoAnswer, UserError
from gan.launchers import cluster, slurm
from gan.launchers.base import Ended, Event, Note, Requeued, Started
from gan.launchers.slurm import SlurmLauncher
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status

SILENCE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


class FakeSlurm:
    """A Slurm whose jobs do what the test says, in the place of its commands and of submitit."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        """The state of each job. It knows them in the order in which they came."""
        self.arguments: dict[str, tuple[Any, ...]] = {}
        """What each job was given."""
        self.answers = True
        self.errors: list[str | None] = []
        """What the next calls of sbatch say in place of taking jobs; None takes them."""
        self.takes_them_all_the_same = False
        """Jobs arrive although sbatch fails."""
        self.arrays = 0

    def run(self, *command: str) -> str | None:
        """Carry out a command of Slurm; return None where it does not answer."""
        if not self.answers:
            return None
        if command[0] == "scancel":
            named = [word for word in command if word in self.states]
            for handle in named or self.live():
                self.end(handle, "CANCELLED")
            return ""
        if "--format=%i" in command:
            return "\n".join(self.live())
        return "\n".join(f"{handle}|{state}|0|" for handle, state in self.states.items())

    def map_array(self, function: Any, *lists: list[Any]) -> list[SimpleNamespace]:
        """Take an array of jobs, as submitit's executor does."""
        from submitit.core.utils import FailedJobError

        error = self.errors.pop(0) if self.errors else None
        submitted = []
        if error is None or self.takes_them_all_the_same:
            self.arrays += 1
            for index, arguments in enumerate(zip(*lists, strict=True)):
                handle = f"{self.arrays}_{index}"
                self.states[handle], self.arguments[handle] = "PENDING", arguments
                submitted.append(SimpleNamespace(job_id=handle))
        if error is not None:
            raise FailedJobError(error)
        return submitted

    def live(self, *states: str) -> list[str]:
        """Return the jobs in these states, or all that have not ended."""
        wanted = states or ("PENDING", "RUNNING")
        return [handle for handle, state in self.states.items() if state in wanted]

    def begin(self, limit: int) -> None:
        """Let jobs begin, at most `limit` of each array at the same time."""
        for array in range(1, self.arrays + 1):
            running = [h for h in self.live("RUNNING") if h.startswith(f"{array}_")]
            pending = [h for h in self.live("PENDING") if h.startswith(f"{array}_")]
            for handle in pending[: limit - len(running)]:
                self.states[handle] = "RUNNING"

    def end(self, handle: str, state: str) -> None:
        """End a job that has not ended."""
        if handle in self.live():
            self.states[handle] = state

    def run_dir(self, handle: str) -> Path:
        """Return the run directory of a job with one run."""
        return Path(self.arguments[handle][1])

    def complete(self, handle: str) -> None:
        """Let a job with one run finish its run."""
        write_result(self.run_dir(handle))
        self.end(handle, "COMPLETED")

    def requests(self, handle: str) -> list[dict[str, Any]]:
        """Return what the launcher has told the job of a cohort."""
        path = Path(f"{self.arguments[handle][0]}.requests")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def attempts(self, handle: str) -> list[str]:
        """Return the names of the attempts that the job of a cohort was given."""
        return [m["attempt"]["name"] for m in self.requests(handle) if "attempt" in m]

    def report(self, handle: str, *events: tuple[Any, ...]) -> None:
        """Let the job of a cohort report events: their kinds, names and other fields."""
        with Path(f"{self.arguments[handle][0]}.events").open("a") as file:
            for kind, *name, fields in [(*event, {})[:3] for event in events]:
                file.write(json.dumps({"event": kind, "name": name[0], **fields}) + "\n")

    def say_goodbye(self, handle: str, state: str = "COMPLETED") -> None:
        """Let the job of a cohort end by itself."""
        with Path(f"{self.arguments[handle][0]}.events").open("a") as file:
            file.write('{"event": "closed"}\n')
        self.end(handle, state)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Return a Slurm that is asked in the place of a real one."""
    pytest.importorskip("submitit", reason='no submitit: pip install "gan-sweeps[slurm]"')
    fake = FakeSlurm()
    monkeypatch.setattr(slurm, "_run_slurm", fake.run)
    monkeypatch.setattr(SlurmLauncher, "_make_executor", lambda self, name: fake)
    monkeypatch.setattr(slurm, "SECONDS_BETWEEN_POLLS", 0.0)
    monkeypatch.setattr(cluster, "compatibility_key", lambda config: str(config["key"]))
    return fake


def start(folder: Path, **settings: Any) -> SlurmLauncher:
    """Start a launcher in a folder."""
    launcher = SlurmLauncher(**settings)
    launcher.start(folder, folder / "workers.log", device="cpu", threads=1, runs=1)
    return launcher


def submit(launcher: SlurmLauncher, folder: Path, names: str) -> None:
    """Submit attempts whose compatibility key is the first letter of their names."""
    for name in names.split():
        config = {"device": "cpu", "threads": 1, "key": name[0]}
        launcher.submit(Attempt(name, config, folder / name, []))


def look(launcher: SlurmLauncher) -> list[Event]:
    """Return the events until nothing more is new."""
    events = []
    while event := launcher.wait(0.001):
        events.append(event)
    return events


def write_result(run_dir: Path) -> None:
    """Write the result of a completed run."""
    run_dir.mkdir(exist_ok=True)
    result = {"status": "completed", "objective_name": None, "objective": None}
    (run_dir / "result.json").write_text(json.dumps(result))


def save_checkpoint(folder: Path, name: str, step: int = 1) -> None:
    """Write a file with the name of a checkpoint."""
    path = folder / name / "checkpoints" / f"step-{step:09}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def started(names: str) -> list[tuple[str, str]]:
    """Return the events that say that attempts have begun."""
    return [("started", name) for name in names.split()]


@pytest.mark.parametrize(("stopped", "left"), [("a2", ["1_0"]), ("a1 a2", [])])
def test_request_to_stop_that_slurm_does_not_hear_is_made_again(
    fake: FakeSlurm, tmp_path: Path, stopped: str, left: list[str]
) -> None:
    launcher = start(tmp_path)
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    fake.begin(2)
    fake.answers = False
    for name in stopped.split():
        launcher.stop(name)
    look(launcher)
    assert fake.live() == ["1_0", "1_1"]
    fake.answers = True
    events = look(launcher)
    assert fake.live() == left
    assert [e.name for e in events if isinstance(e, Ended)] == stopped.split()


def test_silent_slurm_is_told_once_and_ends_the_sweep_with_the_way_to_go_on(
    fake: FakeSlurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    launcher = start(tmp_path)
    submit(launcher, tmp_path, "a1 a2")
    assert look(launcher) == []
    assert fake.live() == ["1_0", "1_1"]
    fake.answers = False
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert look(launcher) == []
    assert caplog.messages == ["Slurm does not answer; waiting for it for up to 10 minutes"]
    fake.answers = True
    fake.begin(2)
    assert look(launcher) == [Started("a1"), Started("a2")]
    fake.answers = False
    look(launcher)
    monkeypatch.setattr(slurm, "SECONDS_WITHOUT_ANSWER", 0.0)
    with pytest.raises(NoAnswer, match=rf"once it answers: .*resume.* {tmp_path}") as caught:
        look(launcher)
    assert "\n" not in str(caught.value)
    launcher.close()
    # The next process ends the jobs that this one has left before it submits any.
    fake.answers = True
    launcher = start(tmp_path)
    assert fake.live() == []
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    assert fake.live() == ["2_0", "2_1"]


@pytest.mark.parametrize("error", ["", SILENCE], ids=["killed", "silent"])
@pytest.mark.parametrize("has_jobs", [False, True])
def test_jobs_that_arrived_although_sbatch_failed_are_ended_before_others_are_submitted(
    fake: FakeSlurm, tmp_path: Path, error: str, has_jobs: bool
) -> None:
    launcher = start(tmp_path)
    if has_jobs:
        submit(launcher, tmp_path, "a0")
        look(launcher)
    known = fake.live()
    fake.errors, fake.takes_them_all_the_same = [error], True
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    look(launcher)
    arrived = [handle for handle in fake.states if handle not in known][:2]
    assert [fake.states[handle] for handle in arrived] == ["CANCELLED"] * 2
    look(launcher)
    live = fake.live()
    assert set(known) < set(live)
    assert sorted(fake.run_dir(h).name for h in live) == ["a0", "a1", "a2"][not has_jobs :]


def test_array_that_is_refused_follows_later_and_nothing_is_submitted_twice(
    fake: FakeSlurm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launcher = start(tmp_path, array_size=2)
    refusal = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    fake.errors = [None, refusal, refusal, None]
    submit(launcher, tmp_path, "a1 a2 a3 a4 a5")
    with caplog.at_level(logging.WARNING):
        look(launcher)
        for _ in range(4):
            look(launcher)
    told = [text for text in caplog.messages if "Slurm takes no jobs" in text]
    assert len(told) == 1
    assert "QOSMaxSubmitJobPerUserLimit" in told[0]
    assert [fake.run_dir(h).name for h in fake.live()] == ["a1", "a2", "a3", "a4", "a5"]


def test_first_refusal_ends_the_sweep(fake: FakeSlurm, tmp_path: Path) -> None:
    launcher = start(tmp_path)
    fake.errors = ["sbatch: error: invalid partition specified: nosuch"]
    submit(launcher, tmp_path, "a1")
    with pytest.raises(UserError, match="Slurm takes no jobs: invalid partition"):
        look(launcher)
    launcher.close()
    assert list(tmp_path.iterdir()) == []


def test_preempted_runs_keep_no_others_from_starting_and_all_places_are_used(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    launcher, names = start(tmp_path, n_jobs=3), "a1 a2 a3 a4 a5 a6 a7 a8"
    submit(launcher, tmp_path, names)
    look(launcher)
    fake.begin(3)
    look(launcher)
    for handle in fake.live("RUNNING"):
        fake.end(handle, "PREEMPTED")
    assert [e.name for e in look(launcher) if isinstance(e, Requeued)] == ["a1", "a2", "a3"]
    ended: list[str] = []
    while len(ended) < 8:
        fake.begin(3)
        running = fake.live("RUNNING")
        assert len(running) == min(3, 8 - len(ended)), ended
        fake.complete(running[0])
        ended += [event.name for event in look(launcher) if isinstance(event, Ended)]
        look(launcher)
    assert sorted(ended) == names.split()
    # Those that wait for their first place come first.
    assert set(ended[:3]) == {"a4", "a5", "a6"}


def test_attempts_of_a_key_are_divided_among_the_jobs(fake: FakeSlurm, tmp_path: Path) -> None:
    launcher = start(tmp_path, vectorized=True, n_jobs=2)
    assert launcher.max_running("cpu", 1) == 128
    assert launcher.max_running_in_search("cpu", 1) == 16
    submit(launcher, tmp_path, "a1 a2 b1 a3 a4")
    look(launcher)
    assert [fake.attempts(h) for h in fake.live()] == [["a1", "a2"], ["a3", "a4"], ["b1"]]
    assert fake.requests("1_0")[0] == {
        "settings": {"vectorize": True, "compile": True, "cuda_graphs": True, "measure": True}
    }


def test_what_a_cohort_reports_becomes_events_once_its_files_are_seen(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    launcher = start(tmp_path, vectorized=True, n_jobs=1)
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    fake.begin(1)
    with Path(f"{fake.arguments['1_0'][0]}.events").open("a") as file:
        file.write('{"event": "note", "text": "as fast as it gets"}\n{"event": "start')
        file.flush()
        assert look(launcher) == [Note("as fast as it gets")]
        file.write('ed", "name": "a1"}\n')
    assert look(launcher) == [Started("a1")]
    fake.report("1_0", ("started", "a2"), ("ended", "a2", {"status": "completed"}))
    fake.report("1_0", ("ended", "a1", {"status": "raised", "reason": "ValueError"}))
    assert look(launcher) == [
        Started("a2"),
        Ended("a1", Ending(Status.RAISED, reason="ValueError")),
    ]
    # An exception leaves things behind, so the job gets no more attempts.
    assert fake.requests("1_0")[-1] == {"close": True}
    fake.say_goodbye("1_0")
    assert look(launcher) == []
    write_result(tmp_path / "a2")
    (event,) = look(launcher)
    assert isinstance(event, Ended)
    assert (event.name, event.ending.status) == ("a2", "completed")
    launcher.close()
    assert not (tmp_path / ".slurm").exists()


def test_free_places_of_a_cohort_go_to_attempts_that_wait(fake: FakeSlurm, tmp_path: Path) -> None:
    launcher = start(tmp_path, vectorized=True, n_jobs=1, max_group=2)
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    fake.begin(1)
    fake.report("1_0", ("started", "a1"), ("ended", "a1", {"status": "refused", "reason": "no"}))
    look(launcher)
    submit(launcher, tmp_path, "b1 a3 a4")
    look(launcher)
    assert fake.attempts("1_0") == ["a1", "a2", "a3"]
    # It ends before it has seen the last one, which goes on in another job at once.
    fake.report("1_0", ("started", "a2"), ("ended", "a2", {"status": "refused", "reason": "no"}))
    fake.say_goodbye("1_0")
    assert [type(event) for event in look(launcher)] == [Started, Ended]
    look(launcher)
    second, third = fake.live()
    assert (fake.attempts(second), fake.attempts(third)) == (["a3", "a4"], ["b1"])
    # A job without runs gets those of another kind, or may end.
    fake.begin(1)
    submit(launcher, tmp_path, "c1")
    for name in ("a3", "a4", "c1"):
        fake.report(second, ("started", name), ("ended", name, {"status": "busy"}))
        look(launcher)
        look(launcher)
    assert fake.attempts(second) == ["a3", "a4", "c1"]
    assert fake.requests(second)[-1] == {"close": True}


def test_attempts_that_a_cohort_gives_back_go_on_alone_or_in_smaller_cohorts(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2 a3 a4")
    look(launcher)
    fake.begin(9)
    fake.report("1_0", *started("a1 a2 a3"))
    fake.report("1_0", ("returned", "a2", {"reason": "", "max_runs": 1}))
    fake.report("1_0", ("returned", "a3", {"reason": "memory ran out", "max_runs": 2}))
    fake.report("1_0", ("returned", "a4", {"reason": "memory ran out", "max_runs": 2}))
    events = look(launcher)
    assert events[3:] == [Requeued("a2", ""), Requeued("a3", "memory ran out")]
    look(launcher)
    live = fake.live()
    assert [fake.attempts(h) for h in live[1:]] == [["a2"], ["a3", "a4"]]
    # It is alone already, and no better place can be found for it.
    fake.report(live[1], ("started", "a2"), ("returned", "a2", {"reason": "no", "max_runs": 1}))
    assert look(launcher)[1:] == [Ended("a2", Ending(Status.LOST, reason="no"))]


def test_cohorts_of_half_the_size_find_out_which_run_kills_its_job(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2 a3 a4")
    lost: list[Ended] = []
    ended: list[str] = []
    for _ in range(20):
        lost += [event for event in look(launcher) if isinstance(event, Ended)]
        fake.begin(9)
        for handle in fake.live("RUNNING"):
            names = fake.attempts(handle)
            fake.report(handle, *[("started", name) for name in names])
            if "a3" in names:
                fake.end(handle, "FAILED")
            else:
                fake.say_goodbye(handle)
                ended += names
                for name in names:
                    write_result(tmp_path / name)
        if len(lost) == 4:
            break
    assert sorted(ended) == ["a1", "a2", "a4"]
    (culprit,) = [event for event in lost if event.ending.status is Status.LOST]
    assert culprit.name == "a3"
    assert "ended in FAILED" in str(culprit.ending.reason)


@pytest.mark.parametrize("state", ["PREEMPTED", "COMPLETED"])
def test_cohort_that_lost_its_place_goes_on_where_it_saved(
    fake: FakeSlurm, tmp_path: Path, state: str
) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2 a3")
    look(launcher)
    fake.begin(1)
    fake.report("1_0", *started("a1 a2"))
    look(launcher)
    for name in ("a1", "a2"):
        save_checkpoint(tmp_path, name)
    for name in ("a1", "a2", "a3"):
        fake.report("1_0", ("ended", name, {"status": "interrupted", "reason": "stopped"}))
    fake.say_goodbye("1_0", state)
    reason = "its Slurm job 1_0 " + ("was preempted" if state == "PREEMPTED" else "ran out of time")
    # Nobody needs to know of the one that had not begun.
    assert look(launcher) == [Requeued("a1", reason), Requeued("a2", reason)]
    look(launcher)
    assert [sorted(fake.attempts(h)) for h in fake.live()] == [["a1", "a2", "a3"]]


def test_run_that_saves_nothing_until_the_time_is_up_is_lost(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    fake.begin(1)
    fake.report("1_0", *started("a1 a2"))
    save_checkpoint(tmp_path, "a2")
    fake.end("1_0", "TIMEOUT")
    events = look(launcher)[2:]
    assert events[1] == Requeued("a2", "its Slurm job 1_0 ran out of time")
    assert isinstance(events[0], Ended)
    assert events[0].ending.status is Status.LOST
    assert "before it saved a checkpoint" in str(events[0].ending.reason)


def test_one_run_of_a_cohort_is_stopped_pruned_or_killed_by_itself(
    fake: FakeSlurm, tmp_path: Path
) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2 a3")
    launcher.stop("a3")
    assert look(launcher) == [Ended("a3", Ending(Status.INTERRUPTED))]
    submit(launcher, tmp_path, "a3")
    look(launcher)
    look(launcher)
    fake.begin(1)
    first, second = fake.live()
    # A run that has not begun has nothing to prune.
    launcher.prune("a1")
    fake.report(first, *started("a1 a2"))
    look(launcher)
    for _ in range(2):
        launcher.prune("a1")
    launcher.stop("a2")
    assert fake.requests(first)[3:] == [{"prune": "a1"}, {"stop": "a2"}]
    fake.report(first, ("ended", "a2", {"status": "interrupted", "reason": "stopped"}))
    assert look(launcher) == [Ended("a2", Ending(Status.INTERRUPTED, reason="stopped"))]
    # It does not stop, and its whole job must be killed. A run beside it goes on elsewhere.
    fake.report(second, *started("a3"))
    submit(launcher, tmp_path, "a4")
    launcher.kill("a1")
    look(launcher)
    assert fake.states[first] == "CANCELLED"
    assert fake.states[second] == "RUNNING"


def test_cohort_whose_runs_are_all_to_stop_is_cancelled(fake: FakeSlurm, tmp_path: Path) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    for name in ("a1", "a2"):
        launcher.stop(name)
    interrupted = Ending(Status.INTERRUPTED)
    assert look(launcher) == [Ended("a1", interrupted), Ended("a2", interrupted)]
    assert fake.states["1_0"] == "CANCELLED"


def test_cohort_that_somebody_cancels_has_failed(fake: FakeSlurm, tmp_path: Path) -> None:
    launcher = start(tmp_path, vectorized=True)
    submit(launcher, tmp_path, "a1 a2")
    look(launcher)
    fake.end("1_0", "CANCELLED")
    endings = [event.ending for event in look(launcher) if isinstance(event, Ended)]
    assert [ending.status for ending in endings] == ["refused"] * 2
    assert "was cancelled by scancel" in str(endings[0].reason)


@pytest.mark.parametrize("setting", [{"max_group": 1}, {"measure": False}])
def test_setting_of_cohorts_without_cohorts_is_refused(
    fake: FakeSlurm, setting: dict[str, Any]
) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(UserError, match=f"{name}={str(value).lower()}: has no effect without"):
        SlurmLauncher(**setting).check()


def test_controller_gets_the_options_that_were_given_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def sbatch(command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "17;cluster\n", "")

    monkeypatch.setattr("subprocess.run", sbatch)
    controller = {"mem": 0, "nice": 0, "time": "7-0", "requeue": False, "partition": None}
    launcher = SlurmLauncher(partition="gpu", controller=controller, detach=True)
    assert launcher.start_controller(tmp_path, ["n_jobs=2"]) == "Slurm job 17"
    (command,) = commands
    assert {"--mem=0", "--nice=0", "--time=7-0", "--cpus-per-task=1"} <= {*command}
    assert not [word for word in command if word.startswith(("--requeue", "--partition"))]
    assert "gan.launchers.controller" in command[-1]
    assert command[-1].endswith(f" {tmp_path} n_jobs=2")
