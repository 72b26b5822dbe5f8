"""The worker program: it trains each run exactly as the run is trained alone."""

import signal
import time
from pathlib import Path

import pytest
from cohorts import log_messages, make_attempt, train_alone
from runs import content

from gan.launchers.base import Ended, Progress
from gan.launchers.local import LocalLauncher
from gan.launchers.slots import Slot
from gan.run.attempt import Attempt, Ending
from gan.run.checkpoint import checkpoint_paths

TESTS = Path(__file__).parent.parent


def train_by_one_worker(folder: Path, attempts: list[Attempt]) -> dict[str, Ending]:
    """Let one worker process train runs one after the other, and return how they ended."""
    launcher, log = LocalLauncher(), folder / "workers.log"
    launcher.use([Slot(1)], log)
    endings: dict[str, Ending] = {}
    deadline = time.monotonic() + 600
    try:
        for attempt in attempts:
            launcher.submit(attempt)
        while len(endings) < len(attempts):
            assert time.monotonic() < deadline, log.read_text()
            event = launcher.wait(1.0)
            if isinstance(event, Ended):
                endings[event.name] = event.ending
    finally:
        launcher.close()
    return endings


def test_runs_of_a_worker_are_bit_for_bit_the_same_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    eager = make_attempt(tmp_path, "eager", "trainer.ema_half_life=100")
    # A run that is compatible with the one before it shares its data.
    similar = make_attempt(tmp_path, "similar", "trainer.ema_half_life=50", "seed=2")
    # Dropout draws from the global random state.
    dropout = make_attempt(tmp_path, "dropout", "seed=1")
    dropout.config["model"]["_target_"] = "dropout.mlp_with_dropout"
    compiled = make_attempt(tmp_path, "compiled", "trainer.compile=true", "penalty.interval=1")
    attempts = [eager, similar, dropout, compiled]
    endings = train_by_one_worker(tmp_path, attempts)
    for attempt in attempts:
        assert endings[attempt.name].status == "completed", endings[attempt.name].reason
        alone = train_alone(attempt)
        assert content(attempt.run_dir) == content(alone), attempt.name
        # A run writes its own lines to its log, and no others.
        assert log_messages(attempt.run_dir) == log_messages(alone)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_worker_that_is_told_to_stop_saves_a_checkpoint_of_its_run(
    tmp_path: Path, number: signal.Signals
) -> None:
    attempt = make_attempt(
        tmp_path,
        "long",
        "trainer.max_steps=1000000",
        "trainer.checkpoint_every=1000000",
        "logging.samples_every=1000000",
        "metrics.every=1000000",
    )
    launcher, log = LocalLauncher(), tmp_path / "workers.log"
    launcher.use([Slot(1)], log)
    try:
        launcher.submit(attempt)
        event = None
        while not isinstance(event, Ended):
            event = launcher.wait(1.0)
            if isinstance(event, Progress):
                launcher._workers[0].process.send_signal(number)
    finally:
        launcher.close()
    assert event.ending.status == "interrupted"
    assert len(checkpoint_paths(attempt.run_dir)) == 1
