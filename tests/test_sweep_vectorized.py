"""Which runs go into one group, and what becomes of them where a group comes to grief."""

import functools
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import TESTS, command, composed, ended, resume_command

from gan.config.checks import flatten
from gan.config.compose import CONF_DIR, compose
from gan.files import write_text
from gan.launchers.local import LocalPool
from gan.launchers.pool import Ended, Event, Note, Requeued, Started, Task
from gan.launchers.queue import Queue
from gan.launchers.slots import Slot
from gan.run.signals import StopRequest
from gan.sweep.composer import plain
from gan.sweep.directory import Sweep
from gan.sweep.launch import places
from gan.sweep.plan import Job
from gan.sweep.report import Display
from gan.sweep.schedule import Limits, Outcome, Runner
from gan.vectorized.compatible import signature

FREE = re.compile(
    r"seed|name|tags|notes|logging\..*|metrics\..*"
    r"|trainer\.(max_steps|max_epochs|checkpoint_every|profile|ema_half_life|ema_ramp_up)"
    r"|(discriminator_)?optimizer\.(lr|betas|eps|alpha|momentum|weight_decay)"
    r"|loss\.label_smoothing|penalty\.(gamma|weight|limit)|model\.(hidden_dim|channels)"
)
"""The keys that members of a group may differ in, by what each of them does."""
WHOLE = ["", *(f"{p.parent.name}={p.stem}" for p in sorted(CONF_DIR.glob("recipe/*.yaml")))]
WHOLE += [f"experiment={path.stem}" for path in sorted(CONF_DIR.glob("experiment/*.yaml"))]
WHOLE += ["model=dcgan", "model=sngan", "data=image_folder data.folder=x", "data=ring8"]
WHOLE += ["optimizer=sgd optimizer.momentum=0.9 discriminator_optimizer=rmsprop"]


@functools.cache
def config(overrides: str = "") -> dict[str, Any]:
    """Not to be changed by a test."""
    return plain(compose(*overrides.split()))


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *groups, last = key.split(".")
    copy = json.loads(json.dumps(config))
    node = copy
    for name in groups:
        node = node[name]
    node[last] = value
    return dict(copy)


def another(value: Any) -> Any:
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 3
    if isinstance(value, list):
        return [another(item) for item in value] or ["x"]
    return "x" if value is None else f"{value}x"


@pytest.mark.parametrize("choice", WHOLE)
def test_of_every_key_it_is_known_whether_members_may_differ_in_it(choice: str) -> None:
    whole = config(choice)
    for key, value in flatten(whole).items():
        other = signature(changed(whole, key, another(value)))
        off = (value is None and "ema" in key) or (value == 0 and "momentum" in key)
        assert (other == signature(whole)) == bool(FREE.fullmatch(key) and not off), key


def test_recipes_are_different_programs() -> None:
    recipes = [config(choice) for choice in WHOLE if choice.startswith("recipe=")]
    assert len({signature(recipe) for recipe in recipes}) == len(recipes) == 8


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("", "seed=2 optimizer.lr=1 metrics=fast name=other trainer.max_steps=9", True),
        ("", "trainer.max_steps=null trainer.max_epochs=1 penalty.gamma=0", True),
        ("", "model=large", True),
        ("model=dcgan", "model=dcgan_small", True),
        ("", "penalty=r2", False),
        ("", "optimizer=adamw", False),
        ("", "discriminator_optimizer=adam", False),
        ("", "trainer.ema_half_life=100", False),
        ("trainer.ema_half_life=100", "trainer.ema_half_life=9 trainer.ema_ramp_up=0.1", True),
        ("trainer.ema_half_life=100", "trainer.ema_half_life=9 trainer.ema_ramp_up=null", False),
        ("optimizer=sgd", "optimizer=sgd optimizer.momentum=0.9", False),
        ("optimizer=sgd optimizer.momentum=0.1", "optimizer=sgd optimizer.momentum=0.9", True),
        ("", "threads=2", False),
    ],
)
def test_what_members_may_differ_in(one: str, other: str, alike: bool) -> None:
    assert (signature(config(one)) == signature(config(other))) == alike


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_widths_are_equal_where_a_layer_norm_sees_them(network: str) -> None:
    normed = config(f"model.{network}_norm=layer")
    assert signature(normed) != signature(changed(normed, "model.hidden_dim", 16))
    assert signature(normed) == signature(changed(normed, "seed", 9))


def task(name: str, **config: Any) -> Task:
    """Of the kind that its first letter says."""
    return Task(name, {"device": "cpu", "threads": 1, "kind": name[0], **config}, Path(name), [])


def divided(queue: Queue, held: list[list[str]]) -> list[list[str]]:
    """What each worker holds, after as many tasks as there are places for were taken."""
    held = [list(names) for names in held]
    while True:
        for names in sorted(held, key=len):
            if taken := queue.take(names):
                names.append(taken.name)
                break
        else:
            return held


def queue_of(names: str, workers: int, most: int = 64) -> Queue:
    queue = Queue(workers, most, lambda config: str(config["kind"]))
    for name in names.split():
        queue.add(task(name))
    return queue


def test_a_kind_is_divided_evenly_and_ended_members_are_followed_by_others() -> None:
    queue = queue_of("a1 a2 b1 a3 b2 a4 a5 b3", workers=2)
    first, second = divided(queue, [[], []])
    assert (first, second) == (["a1", "a3", "a5"], ["a2", "a4"])
    # The second one is through, and takes its share of the other kind, no more.
    assert divided(queue, [first, []]) == [first, ["b1", "b2"]]
    assert divided(queue, [first, ["b2"]]) == [first, ["b2", "b3"]]
    assert divided(queue, [[], []]) == [[], []]


def test_there_is_a_most_that_a_worker_takes() -> None:
    queue = queue_of("a1 a2 a3 a4 a5", workers=1, most=3)
    assert divided(queue, [[]]) == [["a1", "a2", "a3"]]
    assert divided(queue, [["a2", "a3"]]) == [["a2", "a3", "a4"]]


def test_members_with_a_cap_are_among_no_more() -> None:
    queue = queue_of("a1 a2 a3 a4 a5", workers=1)
    (held,) = divided(queue, [[]])
    assert held == ["a1", "a2", "a3", "a4", "a5"]
    queue.lower("a1", 2)
    queue.put_back(task("a1"))
    queue.add(task("a6"))
    # It does not fit, and holds up no other.
    assert divided(queue, [["a2", "a3"]]) == [["a2", "a3", "a6"]]
    assert divided(queue, [["a2"]]) == [["a2", "a1"]]
    queue.add(task("a7"))
    assert divided(queue, [["a2", "a1"]]) == [["a2", "a1"]]
    queue.lower("a1", 5)
    assert queue.cap("a1") == 2


def test_one_at_a_time_the_order_is_kept() -> None:
    queue = Queue(2)
    for name in ("a1", "b1", "a2"):
        queue.add(task(name))
    assert divided(queue, [[], []]) == [["a1"], ["b1"]]
    assert queue.withdraw("a2")
    assert not queue.withdraw("a2")
    assert divided(queue, [[], ["b1"]]) == [[], ["b1"]]


class Groups:
    """A pool of workers that do as they are told, and what it has told."""

    def __init__(self, path: Path, workers: int, most: int = 64):
        queue = Queue(workers, most, lambda config: str(config["kind"]))
        self.pool = LocalPool(
            [Slot(1)] * workers,
            path / "workers.log",
            queue,
            module="fake_group",
            settings={"compile": True, "measure": False},
        )
        self._path = path
        self.events: list[Event] = []

    def submit(self, names: str, *, idle: bool = False, deaf: bool = False) -> None:
        for name in names.split():
            (self._path / name).mkdir(exist_ok=True)
            made = task(name, idle=idle, deaf=deaf)
            self.pool.submit(Task(name, made.config, self._path / name, []))

    def order(self, names: str, what: str | int) -> None:
        """A status to end with, the cap to be returned with, or to die."""
        for name in names.split():
            write_text(self._path / name / "order", json.dumps(what))

    def until(self, come: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not come():
            assert time.monotonic() < deadline, self.events
            if event := self.pool.wait(0.1):
                self.events.append(event)

    def until_started(self, names: str) -> None:
        """Every one of these is told to have started, once more than before."""
        missing, before = names.split(), len(self.events)
        self.until(
            lambda: {e.name for e in self.events[before:] if isinstance(e, Started)} >= {*missing}
        )

    def held(self) -> list[str]:
        """What each worker holds."""
        return [" ".join(sorted(worker.tasks)) for _, worker in sorted(self.pool._workers.items())]

    def ended(self) -> dict[str, str]:
        return {event.name: event.status for event in self.events if isinstance(event, Ended)}

    def requeued(self) -> dict[str, str]:
        return {event.name: event.reason for event in self.events if isinstance(event, Requeued)}


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Groups]]:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    made: list[Groups] = []

    def make(workers: int, most: int = 64) -> Groups:
        made.append(Groups(tmp_path, workers, most))
        return made[-1]

    yield make
    for one in made:
        one.pool.close()


def test_workers_divide_the_tasks_and_whoever_ends_is_followed(
    groups: Callable[..., Groups],
) -> None:
    group = groups(workers=2)
    group.submit("a1 a2 a3 a4")
    group.until_started("a1 a2 a3 a4")
    assert group.held() == ["a1 a3", "a2 a4"]
    assert Note(json.dumps({"compile": True, "measure": False})) in group.events
    group.submit("b1 a5")
    group.order("a2", "completed")
    group.until_started("a5")
    assert group.held() == ["a1 a3", "a4 a5"]
    group.order("a1 a3", "diverged")
    group.until_started("b1")
    assert group.held() == ["b1", "a4 a5"]
    assert group.ended() == {"a2": "completed", "a1": "diverged", "a3": "diverged"}
    assert group.requeued() == {}


def test_who_takes_its_group_down_is_found_by_halving(groups: Callable[..., Groups]) -> None:
    group = groups(workers=1)
    group.submit("a1 a2 a3 a4 a5")
    group.until_started("a1 a2 a3 a4 a5")
    group.order("a2", "die")
    group.until_started("a1 a2")
    assert group.held() == ["a1 a2"]
    reasons = set(group.requeued().values())
    assert len(group.requeued()) == 5
    assert reasons == {
        "its group's process was killed by SIGKILL, as the system does when memory runs out; "
        "from now on in a group of at most 2"
    }
    group.order("a2", "die")
    group.until_started("a1")
    assert group.requeued()["a1"].endswith("; from now on alone")
    assert group.held() == ["a1"]
    group.order("a1", "completed")
    group.until_started("a2")
    assert group.held() == ["a2"]
    group.order("a2", "die")
    group.until_started("a3 a4")
    assert group.ended() == {"a1": "completed", "a2": "lost"}
    group.order("a3 a4 a5", "completed")
    group.until(lambda: len(group.ended()) == 5)
    assert list(group.ended().values()).count("completed") == 4


def test_one_is_stopped_or_pruned_or_killed_and_the_others_go_on(
    groups: Callable[..., Groups],
) -> None:
    group = groups(workers=1)
    group.submit("a1 a2 a3 a4")
    group.submit("a5", deaf=True)
    group.submit("b1")
    group.until_started("a1 a2 a3 a4 a5")
    group.pool.stop("a1")
    group.pool.prune("a2")
    group.pool.stop("b1")
    group.until(lambda: len(group.ended()) == 3)
    assert group.ended() == {"a1": "interrupted", "a2": "pruned", "b1": "interrupted"}
    group.pool.stop("a5")
    group.pool.kill("a5")
    group.until_started("a3 a4")
    assert group.ended()["a5"] == "lost"
    assert group.requeued() == dict.fromkeys(
        ("a3", "a4"), "its group's process was ended because of a5"
    )
    # Without a cap, they are joined by others.
    group.submit("a6 a7")
    group.until_started("a6 a7")
    assert group.held() == ["a3 a4 a6 a7"]


def test_what_is_being_stopped_does_not_begin_again(groups: Callable[..., Groups]) -> None:
    group = groups(workers=1)
    group.submit("a1 a2 a3", deaf=True)
    group.until_started("a1 a2 a3")
    for name in ("a1", "a2"):
        group.pool.stop(name)
    group.order("a1", 1)
    group.until(lambda: "a1" in group.ended())
    group.order("a3", "die")
    group.until_started("a3")
    assert group.ended() == {"a1": "interrupted", "a2": "lost"}
    assert set(group.requeued()) == {"a3"}


def test_what_a_worker_gives_back_goes_on_in_smaller_groups(
    groups: Callable[..., Groups],
) -> None:
    group = groups(workers=1)
    group.submit("a1")
    group.submit("a2 a3", idle=True)
    group.until_started("a1")
    group.order("a2 a3", 1)
    group.until(lambda: group.held() == ["a1"])
    # They had not begun, so that there is nothing to tell.
    assert group.requeued() == {}
    group.order("a1", 1)
    group.until_started("a1")
    assert group.requeued() == {"a1": "it is too much"}
    assert group.held() == ["a1"]
    # Alone, it has no better place to go to.
    group.order("a1", 1)
    group.until(lambda: group.held() == ["a2"])
    assert group.ended() == {"a1": "lost"}


def test_where_a_run_raised_no_other_begins(groups: Callable[..., Groups]) -> None:
    group = groups(workers=1)
    group.submit("a1 a2")
    group.until_started("a1 a2")
    pid = group.pool._workers[0].process.pid
    group.order("a1", "raised")
    group.until(lambda: "a1" in group.ended())
    group.submit("a1 a3")
    group.order("a2", "completed")
    group.until_started("a1")
    assert group.pool._workers[0].process.pid != pid
    # What raised goes on alone.
    assert group.held() == ["a1"]
    group.order("a1", "completed")
    group.until_started("a3")


def test_attempts_that_a_group_cost_are_not_counted(
    groups: Callable[..., Groups], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = groups(workers=1)
    names = ("a1", "a2")
    settings = {name: task(name, idle=False, deaf=False).config for name in names}
    runner = Runner(
        Sweep(tmp_path, {name: Job(name, name, [], settings[name]) for name in names}),
        group.pool,
        Limits(retries=0),
    )
    display = Display(2, [], "sliced_wasserstein")
    for job in runner._sweep.jobs.values():
        (tmp_path / job.name).mkdir()
        runner.submit(job)
    outcomes, died = {}, False
    for event in runner.events(StopRequest()):
        display.follow(event)
        if isinstance(event, Outcome):
            outcomes[event.job.name] = event.status
        if isinstance(event, Started) and event.name == "a2" and not died:
            died = True
            group.order("a2", "die")
        elif isinstance(event, Started) and died:
            group.order(event.name, "completed")
    assert outcomes == {"a1": "completed", "a2": "completed"}
    out = capsys.readouterr().out
    assert out.count("from now on alone; goes on when there is room") == 2
    assert out.count('"measure": false') == 1


def test_as_many_run_at_a_time_as_the_groups_hold() -> None:
    def counts(*overrides: str) -> tuple[int | None, int | None]:
        master, _ = composed("hydra/launcher=vectorized", "hydra.launcher.n_jobs=3", *overrides)
        where = places(plain(master.hydra.launcher))
        return where.count("cpu", 1), where.width("cpu", 1)

    assert counts("hydra.launcher.max_group=5") == (15, 15)
    assert counts() == (192, 24)


def test_a_command_line(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    code, out, err = ended(
        command(
            path,
            "hydra/launcher=vectorized",
            "hydra.launcher.n_jobs=1",
            "hydra.launcher.compile=false",
            "seed=1,2",
            "optimizer.lr=1e-4,1e-3",
        )
    )
    assert code == 0, err
    assert "4 to run, 0 done before; 4 at a time" in out
    results = {
        file.parent.name: json.loads(file.read_text()) for file in path.glob("*/result.json")
    }
    assert len(results) == 4
    assert {result["status"] for result in results.values()} == {"completed"}
    assert len({result["objective"] for result in results.values()}) == 4
    code, out, err = ended(resume_command(path))
    assert code == 0, err
    assert "to run" not in out
