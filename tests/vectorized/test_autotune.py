"""Finding the fastest strategy for a cohort."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from cohorts import Parent, make_attempt, train_cohort

from gan.errors import NotSupported
from gan.run.attempt import Attempt
from gan.run.result import read_records
from gan.step import StepKind
from gan.vectorized import autotune
from gan.vectorized.autotune import Autotuner
from gan.vectorized.cohort import Cohort
from gan.vectorized.run_set import StepTimer
from gan.vectorized.strategy import SEQUENTIAL, STACKED, CohortSettings, Strategy

SEQUENTIAL_COMPILED = SEQUENTIAL._replace(compiled=True)
STACKED_COMPILED = STACKED._replace(compiled=True)


@pytest.mark.parametrize(
    ("seconds", "compile", "best", "order"),
    [
        ({SEQUENTIAL: 1.0, STACKED: 0.5}, False, STACKED, [SEQUENTIAL, STACKED]),
        # A strategy that is a little faster is not worth it.
        ({SEQUENTIAL: 1.0, STACKED: 0.97}, False, SEQUENTIAL, [SEQUENTIAL, STACKED, SEQUENTIAL]),
        # There are not enough steps left to compare.
        ({SEQUENTIAL: 0.01}, True, SEQUENTIAL, [SEQUENTIAL]),
        (
            {SEQUENTIAL: 1.0, STACKED: 1.5, SEQUENTIAL_COMPILED: 0.7},
            True,
            SEQUENTIAL_COMPILED,
            [SEQUENTIAL, STACKED, SEQUENTIAL_COMPILED],
        ),
        (
            {SEQUENTIAL: 1.0, STACKED: 0.5, STACKED_COMPILED: 0.49},
            True,
            STACKED,
            [SEQUENTIAL, STACKED, STACKED_COMPILED, STACKED],
        ),
    ],
)
def test_fastest_strategy_is_chosen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[Strategy, float],
    compile: bool,
    best: Strategy,
    order: Sequence[Strategy],
) -> None:
    """Strategies take as many seconds for a step as `seconds` says."""
    tried: list[Strategy] = []
    monkeypatch.setattr(autotune, "SECONDS_TO_COMPILE", 180.0)

    def arrange(self: Cohort, strategy: Strategy) -> None:
        tried.append(strategy)
        self.strategy = strategy
        self.run_sets = [SimpleNamespace(runs=[], join=lambda run: True)]

    def time(self: Autotuner, strategy: Strategy, best: float) -> float:
        cohort.arrange(strategy)
        return seconds[strategy]

    monkeypatch.setattr(Cohort, "arrange", arrange)
    monkeypatch.setattr(Autotuner, "_time", time)
    parent = Parent(
        *(make_attempt(tmp_path, f"r{i}", f"seed={i}", "trainer.max_steps=500") for i in range(2))
    )
    cohort = Cohort(parent, parent, CohortSettings(vectorize=True, compile=compile, measure=True))
    cohort.check_inbox()
    Autotuner(cohort).choose()
    assert cohort.strategy == best
    assert tried == list(order)
    for run in cohort.runs:
        run.close()


def test_mean_time_of_a_step_weighs_each_kind_by_how_often_it_occurs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.is_measuring = True
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    for penalize, values in {False: [9.0, 1.0, 1.0, 1.0], True: [50.0, 3.0]}.items():
        for value in values:
            timer.stop(-value, StepKind(penalize, update_generator=True), runs=1)
    assert timer.steps == 6
    # The first step of a kind sets things up, and is left out.
    assert timer.mean() == pytest.approx((4 * 1.0 + 2 * 3.0) / 6)
    assert timer.most_frequent() == (3, 1.0)


def test_cohort_that_compares_strategies_completes_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotune, "SECONDS_TO_COMPARE", 0.0)
    attempts = [
        make_attempt(tmp_path, f"r{i}", f"seed={i}", "trainer.max_steps=450") for i in range(2)
    ]
    parent = Parent(*attempts)
    train_cohort(parent, CohortSettings(vectorize=True, measure=True))
    assert any("one after the other" in note and "together" in note for note in parent.notes)
    # If runs are faster one after the other, those that would only wait are given back.
    assert all(returned == ("", 1) for returned in parent.returns.values())
    ended = [attempt for attempt in attempts if attempt.name in parent.endings]
    assert len(ended) + len(parent.returns) == 2
    assert ended
    assert set(parent.statuses.values()) == {"completed"}
    for attempt in ended:
        steps = [record["step"] for record in read_records(attempt.run_dir)]
        assert steps[-1] == 450
        assert json.loads((attempt.run_dir / "result.json").read_text())["steps"] == 450


class ReluctantCohort:
    """A cohort whose runs cannot be stacked any more."""

    key, runs, changes, tuned = "key", (1, 2), 0, STACKED
    run_sets: tuple[int, ...] = ()
    settings = CohortSettings(vectorize=True, compile=True, measure=True)

    def __init__(self) -> None:
        self.strategy, self.turns_left = SEQUENTIAL, 20
        self.arranged: list[Strategy] = []
        self.reporter = SimpleNamespace(note=lambda text: None)

    def check_inbox(self) -> bool:
        """Return whether there is time left."""
        self.turns_left -= 1
        return self.turns_left > 0

    def dissolve(self) -> None:
        """See Cohort."""

    def keep_strategy(self) -> None:
        """See Cohort."""

    def arrange(self, strategy: Strategy) -> None:
        """See Cohort."""
        self.strategy = strategy
        self.arranged.append(strategy)
        if strategy.is_stacked:
            raise NotSupported("these runs cannot be padded")
        self.run_sets = (1,)

    def take_turn(self) -> None:
        """See Cohort."""


@pytest.mark.parametrize("best", [STACKED, STACKED_COMPILED])
def test_strategy_that_does_not_fit_any_more_is_left(
    best: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort: Any = ReluctantCohort()
    tuner = Autotuner(cohort)
    tuner._best["key"] = best

    def compare() -> Strategy:
        cohort.arrange(SEQUENTIAL)
        return SEQUENTIAL

    monkeypatch.setattr(tuner, "_compare", compare)
    tuner.train()
    assert cohort.arranged == [STACKED, SEQUENTIAL]


def test_kind_of_runs_that_was_trained_before_is_trained_together_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    inbox = SimpleNamespace(new=[], stop_signals=dict)

    def new_attempts() -> list[Attempt]:
        given: list[Attempt] = inbox.new
        inbox.new = []
        return given

    inbox.new_attempts = new_attempts
    reporter = SimpleNamespace(
        started=lambda name: events.append(f"+{name}"),
        ended=lambda name, ending: events.append(f"-{name}"),
        progress=lambda *given: None,
        returned=lambda *given: pytest.fail("an attempt was given back"),
        note=lambda text: None,
    )
    settings = CohortSettings(vectorize=True, measure=False)
    cohort = Cohort(cast(Any, inbox), cast(Any, reporter), settings)
    tuner = Autotuner(cohort)
    compared: list[str] = []
    compare = tuner._compare
    kind = ""

    def note_and_compare() -> Strategy | None:
        compared.append(kind)
        return compare()

    monkeypatch.setattr(tuner, "_compare", note_and_compare)
    arranged: list[tuple[Strategy, int]] = []
    arrange = cohort.arrange

    def note_and_arrange(strategy: Strategy) -> None:
        arranged.append((strategy, len(cohort.runs)))
        arrange(strategy)

    monkeypatch.setattr(cohort, "arrange", note_and_arrange)
    for kind, n_critic in (("a", 1), ("b", 2), ("c", 1)):
        events.clear()
        words = (f"trainer.n_critic={n_critic}", "penalty.interval=1")
        inbox.new = [
            make_attempt(tmp_path, f"{kind}{seed}", f"seed={seed}", *words) for seed in range(3)
        ]
        tuner.train()
        assert set(compared) == {"a": {"a"}, "b": {"a", "b"}, "c": {"a", "b"}}[kind]
        assert sorted(events[:3]) == [f"+{kind}{seed}" for seed in range(3)], events
    # Runs that arrive one after the other, as those of a search, get into one stack as well.
    arranged.clear()
    kind_words = ("trainer.n_critic=1", "penalty.interval=1", "trainer.max_steps=150")
    later = [make_attempt(tmp_path, f"d{seed}", f"seed={seed}", *kind_words) for seed in range(3)]
    monkeypatch.setattr("gan.vectorized.cohort.PROGRESS_SECONDS", 0.02)
    take_turn = cohort.take_turn

    def take_turn_and_send() -> None:
        take_turn()
        inbox.new = [later.pop(0)] if later else []

    monkeypatch.setattr(cohort, "take_turn", take_turn_and_send)
    inbox.new = [later.pop(0)]
    tuner.train()
    assert not later
    assert [entry for entry in arranged if entry[1] > 1][:1] == [(STACKED, 2)], arranged
