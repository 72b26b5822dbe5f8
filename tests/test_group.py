"""Groups: every member's directory is as if it were alone, whatever becomes of the others."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from runs import SHORT
from torch import nn

from gan.config.compose import compose
from gan.functional.compiled import Program
from gan.models import Generator, mlp_pair
from gan.run.checkpoint import load_latest, paths
from gan.run.result import read_records, read_result
from gan.run.signals import PRUNE
from gan.run.tensorboard import event_files
from gan.sweep.composer import plain
from gan.train import run
from gan.vectorized import autotune as choose
from gan.vectorized import cohort
from gan.vectorized.costs import Costs
from gan.vectorized.inbox import Assigned
from gan.vectorized.strategy import COMPILED, IN_TURN, TOGETHER, Settings
from gan.vectorized.train import GroupTrainer


def train_group(inbox: "Post", tell: "Post", settings: Settings) -> None:
    GroupTrainer(inbox, tell, settings)()


ALWAYS = Settings(compile=False, cuda_graphs=False, measure=False)
FAST = ("data=digits", "logging.every=10", "device=cpu")


class Post:
    """An inbox and what is told, in memory. `answers` maps a member's first record at or after a
    step to what is done then."""

    def __init__(self, *assigned: Assigned):
        self.waiting = list(assigned)
        self.stopping: dict[str, signal.Signals] = {}
        self.at: dict[tuple[str, int], Any] = {}
        self.begun: list[str] = []
        self.over: dict[str, tuple[str, float | None, str | None]] = {}
        self.back: dict[str, tuple[str, int]] = {}
        self.notes: list[str] = []

    def new(self) -> list[Assigned]:
        new, self.waiting = self.waiting, []
        return new

    def stops(self) -> dict[str, signal.Signals]:
        stops, self.stopping = self.stopping, {}
        return stops

    def started(self, name: str) -> None:
        self.begun.append(name)

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        if record is not None and (name, step) in self.at:
            self.at.pop((name, step))()

    def ended(
        self, name: str, status: str, objective: float | None = None, reason: str | None = None
    ) -> None:
        self.over[name] = status, objective, reason

    def returned(self, name: str, reason: str, group: int) -> None:
        self.back[name] = reason, group

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def statuses(self) -> dict[str, str]:
        return {name: status for name, (status, _, _) in self.over.items()}


def assigned(folder: Path, name: str, *overrides: str) -> Assigned:
    return Assigned(name, plain(compose(*SHORT, *FAST, *overrides)), folder / name, [*overrides])


def alone(folder: Path, member: Assigned) -> Path:
    run_dir = folder / f"{member.name}, alone"
    run(OmegaConf.create(member.config), run_dir, overrides=member.overrides)
    return run_dir


def assert_alike(one: Path, other: Path) -> None:
    """The same files, with numbers that differ by rounding alone."""
    for a, b in zip(read_records(one), read_records(other), strict=True):
        assert list(a) == list(b)
        for name, value in a.items():
            assert b[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    results = [read_result(folder) or {} for folder in (one, other)]
    assert list(results[0]) == list(results[1])
    for name in ("status", "steps", "images", "seed", "objective_name"):
        assert results[0][name] == results[1][name]
    files = [
        sorted(
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if "tfevents" not in path.name
        )
        for folder in (one, other)
    ]
    assert files[0] == files[1]
    assert len(event_files(one)) == len(event_files(other)) == 1
    assert (one / "config.yaml").read_text() == (other / "config.yaml").read_text()
    saved = [load_latest(folder) or {} for folder in (one, other)]
    assert list(saved[0]) == list(saved[1])
    for key, value in saved[0]["generator"].items():
        torch.testing.assert_close(saved[1]["generator"][key], value, rtol=1e-2, atol=1e-4)
    sizes = [paths(folder)[0].stat().st_size for folder in (one, other)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02), "no member saves what is another's"
    for name in ("noise", "random"):
        assert torch.equal(saved[0][name], saved[1][name])


def test_members_leave_the_directories_that_they_would_leave_alone(tmp_path: Path) -> None:
    members = [
        assigned(tmp_path, "plain", "trainer.ema_half_life=100"),
        assigned(tmp_path, "fast", "trainer.ema_half_life=50", "optimizer.lr=1e-3", "seed=1"),
        # Others may save, measure and end when they like.
        assigned(
            tmp_path,
            "short",
            "trainer.ema_half_life=100",
            "trainer.max_steps=25",
            "trainer.checkpoint_every=9",
            "metrics.every=8",
            "penalty.gamma=1",
        ),
        assigned(tmp_path, "narrow", "trainer.ema_half_life=100", "model.hidden_dim=8"),
    ]
    before = torch.get_rng_state()
    post = Post(*members)
    train_group(post, post, ALWAYS)
    assert torch.equal(torch.get_rng_state(), before)
    assert post.begun == ["plain", "fast", "short", "narrow"]
    assert set(post.statuses.values()) == {"completed"}
    assert post.back == {}
    for member in members:
        assert_alike(alone(tmp_path, member), member.run_dir)
        log = (member.run_dir / "train.log").read_text()
        assert not any(f"{other.run_dir}:" in log for other in members if other is not member)


def test_a_member_that_diverges_is_let_go_and_the_rest_go_on(tmp_path: Path) -> None:
    members = [assigned(tmp_path, f"r{i}", f"seed={i}", f"optimizer.lr={lr}") for i, lr in
               enumerate(("1e-3", "1e30", "1e-4"))]  # fmt: skip
    post = Post(*members)
    train_group(post, post, ALWAYS)
    assert post.statuses == {"r0": "completed", "r1": "diverged", "r2": "completed"}
    for member in (members[0], members[2]):
        assert_alike(alone(tmp_path, member), member.run_dir)


def test_members_stop_one_by_one_and_others_take_their_places(tmp_path: Path) -> None:
    """One is stopped, one pruned, and one that was begun alone joins in their place."""
    begun = assigned(tmp_path, "begun", "seed=7", "penalty.interval=3")
    # It stands where no other member's step does the same.
    first = Post(begun)
    first.at = {("begun", 10): lambda: first.stopping.update(begun=signal.SIGTERM)}
    train_group(first, first, ALWAYS)
    assert first.statuses == {"begun": "interrupted"}
    members = [assigned(tmp_path, name, f"seed={i}", "penalty.interval=3") for i, name in
               enumerate(("stays", "stopped", "pruned"))]  # fmt: skip
    post = Post(*members)

    def replaced() -> None:
        assert PRUNE is not None
        post.stopping["pruned"] = PRUNE
        post.waiting.append(begun)

    post.at = {
        ("stopped", 10): lambda: post.stopping.update(stopped=signal.SIGTERM),
        ("pruned", 20): replaced,
    }
    train_group(post, post, ALWAYS)
    expected = {"stays": "completed", "stopped": "interrupted", "pruned": "pruned"}
    assert post.statuses == expected | {"begun": "completed"}
    assert "checkpoint saved; continue with" in (post.over["stopped"][2] or "")
    assert (load_latest(tmp_path / "pruned") or {})["step"] >= 20
    for member in (members[0], begun):
        assert_alike(alone(tmp_path, member), member.run_dir)
    # A member goes on alone.
    run(OmegaConf.create(members[1].config), members[1].run_dir)
    assert_alike(alone(tmp_path, members[1]), members[1].run_dir)


@pytest.mark.parametrize(
    ("error", "cap", "reason"),
    [
        (torch.OutOfMemoryError("no more"), 2, "memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "memory ran out"),
        (
            RuntimeError("kernel is wrong\nand more"),
            1,
            "a step of all failed, RuntimeError: kernel is wrong",
        ),
    ],
)
def test_where_a_step_of_all_fails_they_go_on_elsewhere_from_their_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, cap: int, reason: str
) -> None:
    members = [assigned(tmp_path, f"r{i}", f"seed={i}") for i in range(4)]
    steps, right = 0, Program.__call__

    def fails(self: Program, *given: Any, **turns: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 25:
            raise error
        return right(self, *given, **turns)

    monkeypatch.setattr(Program, "__call__", fails)
    post = Post(*members)
    train_group(post, post, ALWAYS)
    assert post.over == {}
    assert post.back == {member.name: (reason, cap) for member in members}
    monkeypatch.undo()
    for member in members[:2]:
        assert read_result(member.run_dir) is None
        assert (load_latest(member.run_dir) or {})["step"] == 20
    post = Post(*members[:2])
    train_group(post, post, ALWAYS)
    assert set(post.statuses.values()) == {"completed"}
    assert_alike(alone(tmp_path, members[0]), members[0].run_dir)


def test_what_goes_wrong_in_one_life_ends_that_one(tmp_path: Path) -> None:
    good, busy = (assigned(tmp_path, name, f"seed={i}") for i, name in enumerate(("good", "busy")))
    wrong = assigned(tmp_path, "wrong", "seed=5")
    wrong.config["trainer"]["batch_size"] = 100_000
    full = assigned(tmp_path, "full", "seed=6")
    post = Post(good, wrong, full, busy)
    # Its files cannot be written any more.
    post.at = {("full", 10): lambda: _taken(full.run_dir / "checkpoints")}
    train_group(post, post, ALWAYS)
    assert post.statuses["good"] == post.statuses["busy"] == "completed"
    assert post.statuses["wrong"] == "refused"
    assert not (tmp_path / "wrong").exists(), "nothing half-made is left"
    assert post.statuses["full"] == "refused"


def _taken(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    if folder.is_dir():
        folder.rmdir()
    folder.touch()


def dropping(**settings: Any) -> tuple[nn.Module, nn.Module]:
    """Networks that draw from the global random state."""
    generator, discriminator = mlp_pair(**settings)
    assert isinstance(generator, Generator)
    generator.layers.insert(0, nn.Dropout(0.1))
    return generator, discriminator


def test_what_cannot_be_trained_together_is_trained_in_turn_and_why_is_told(
    tmp_path: Path,
) -> None:
    members = [assigned(tmp_path, f"r{i}", f"seed={i}") for i in range(2)]
    for member in members:
        member.config["model"]["_target_"] = "test_group.dropping"
    post = Post(*members)
    train_group(post, post, ALWAYS)
    assert set(post.statuses.values()) == {"completed"}
    assert any(note.startswith("together: not these runs, ") for note in post.notes)
    assert "randomness" in post.notes[0]


def test_more_than_there_is_memory_for_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "room", lambda member: 2)
    members = [assigned(tmp_path, f"r{i}", f"seed={i}") for i in range(3)]
    post = Post(*members)
    train_group(post, post, ALWAYS)
    assert post.statuses == {"r0": "completed", "r1": "completed"}
    assert post.back == {"r2": ("there is memory for 2 runs at once", 2)}


def test_room_is_what_the_memory_allows(tmp_path: Path) -> None:
    from gan.build import load_data
    from gan.vectorized.member import begin
    from gan.vectorized.memory import room

    counts = []
    for index, width in enumerate((16, 512)):
        name = f"w{index}"
        member = begin(assigned(tmp_path, name, f"model.hidden_dim={width}"), load_data, Post())
        assert member is not None
        counts.append(room(member))
        assert member.step == 1
        member.life.close()
    assert counts[0] > counts[1] >= 1


@pytest.mark.parametrize(
    ("costs", "left", "best", "order"),
    [
        ({IN_TURN: 1.0, TOGETHER: 0.5}, 10, TOGETHER, [IN_TURN, TOGETHER]),
        # A little faster is not worth it.
        ({IN_TURN: 1.0, TOGETHER: 0.97}, 10, IN_TURN, [IN_TURN, TOGETHER, IN_TURN]),
        # There is not enough to do.
        ({IN_TURN: 0.01}, 1000, IN_TURN, [IN_TURN]),
        (
            {IN_TURN: 1.0, TOGETHER: 1.5, IN_TURN + COMPILED: 0.7},
            1000,
            IN_TURN + COMPILED,
            [IN_TURN, TOGETHER, IN_TURN + COMPILED],
        ),
        (
            {IN_TURN: 1.0, TOGETHER: 0.5, TOGETHER + COMPILED: 0.49},
            1000,
            TOGETHER,
            [IN_TURN, TOGETHER, TOGETHER + COMPILED, TOGETHER],
        ),
    ],
)
def test_the_fastest_way_is_chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    costs: dict[str, float],
    left: int,
    best: str,
    order: Sequence[str],
) -> None:
    from gan.vectorized.cohort import Group

    tried: list[str] = []
    monkeypatch.setattr(choose, "COMPILING", 180.0)

    def arrange(self: Group, way: str) -> None:
        tried.append(way)
        self.way, self.teams = way, [SimpleNamespace(members=[], join=lambda member: True)]

    def timed(self: choose.Chooser, way: str, so_far: float) -> float:
        chosen.arrange(way)
        return costs[way]

    monkeypatch.setattr(Group, "arrange", arrange)
    monkeypatch.setattr(choose.Chooser, "_time", timed)
    post = Post(
        *(assigned(tmp_path, f"r{i}", f"seed={i}", "trainer.max_steps=500") for i in range(2))
    )
    chosen = Group(post, post, Settings(compile=left == 1000, cuda_graphs=False, measure=True))
    chosen.look()
    choose.Chooser(chosen).choose()
    assert chosen.way == best
    assert tried == list(order)
    for member in chosen.members:
        member.life.close()


def test_costs_weigh_steps_as_often_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = Costs(torch.device("cpu"))
    clock = iter([*range(0, 1000)])
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    seconds = {(False, True): [9.0, 1.0, 1.0, 1.0], (True, True): [50.0, 3.0]}
    for (penalize, update), values in seconds.items():
        for value in values:
            costs.end(-value, {"penalize": penalize, "update_generator": update}, 1)
    assert costs.steps == 6
    # Setting up is not counted.
    assert costs.mean() == pytest.approx((4 * 1.0 + 2 * 3.0) / 6)
    assert costs.usual() == (3, 1.0)
    assert next(clock) == 0


def test_a_group_that_is_measured_ends_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "TRYING", 0.0)
    members = [assigned(tmp_path, f"r{i}", f"seed={i}", "trainer.max_steps=450") for i in range(2)]
    post = Post(*members)
    train_group(post, post, Settings(compile=False, cuda_graphs=False, measure=True))
    assert any("one after the other" in note and "together" in note for note in post.notes)
    # Where it is best to train one after the other, who would only wait is given back.
    done = [member for member in members if member.name in post.over]
    assert all(back == ("", 1) for back in post.back.values())
    assert len(done) + len(post.back) == 2
    for member in done:
        steps = [record["step"] for record in read_records(member.run_dir)]
        assert steps[-1] == 450
        assert json.loads((member.run_dir / "result.json").read_text())["steps"] == 450


@pytest.mark.slow
def test_metrics_of_many_seeds_are_spread_alike(tmp_path: Path) -> None:
    """Rounding makes other runs of the same seeds in the end, of the same kind."""
    from scipy.stats import mannwhitneyu

    longer = ["trainer.max_steps=1500", "trainer.checkpoint_every=1500", "metrics.every=1500"]
    longer += ["logging.every=500", "logging.samples_every=1500", "optimizer.lr=1e-3"]
    members = [assigned(tmp_path, f"r{i}", f"seed={i}", *longer) for i in range(16)]
    post = Post(*members)
    train_group(post, post, ALWAYS)
    values: list[list[float]] = [[], []]
    for member in members:
        for kind, run_dir in enumerate((member.run_dir, alone(tmp_path, member))):
            values[kind].append(read_records(run_dir)[-1]["sliced_wasserstein"])
    assert values[0] != values[1]
    assert mannwhitneyu(*values).pvalue > 0.01
    medians = [sorted(found)[8] for found in values]
    assert medians[0] == pytest.approx(medians[1], rel=0.2)
