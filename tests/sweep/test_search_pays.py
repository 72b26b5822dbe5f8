"""A comparison of pruning by ASHA with random search, which takes minutes."""

import statistics
import sys
from pathlib import Path

import pytest
from sweep_commands import SCRIPTS, execute
from test_search import results, trials

TRIALS, REPEATS = 60, 5
RUN = (
    "model.hidden_dim=64",
    "trainer.max_steps=400",
    "trainer.batch_size=64",
    "trainer.checkpoint_every=400",
    "penalty.interval=4",
    "metrics.every=25",
    "metrics.samples=500",
    "logging=quiet",
    "threads=1",
)
SPACE = (
    "optimizer.lr=tag(log, interval(1e-5, 1e-2))",
    "optimizer.betas.0=interval(0, 0.9)",
    "penalty.gamma=tag(log, interval(0.1, 100))",
)


def history(path: Path, *overrides: str) -> list[tuple[int, float]]:
    """Return the steps and the value of each trial, in the order in which they ended.

    A trial that was pruned, or diverged, has the worst possible value.
    """
    train = [sys.executable, str(SCRIPTS / "train.py"), "--multirun", *RUN, *SPACE, *overrides]
    sweep = [f"hydra.sweep.dir={path}", f"hydra.sweeper.n_trials={TRIALS}"]
    code, _, err = execute([*train, *sweep], timeout=1200)
    assert code == 0, err
    ends = results(path)
    found = []
    for trial in sorted(trials(path), key=lambda trial: trial.datetime_complete):
        (name,) = trial.user_attrs["jobs"]
        completed = ends[name]["status"] == "completed"
        value = ends[name]["objective"] if completed else float("inf")
        found.append((ends[name]["steps"], value))
    return found


@pytest.mark.slow
def test_asha_needs_half_the_steps_of_random_search(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    shares = []
    for repeat in range(REPEATS):
        seed = f"seed={repeat}"
        random = history(
            tmp_path / f"random-{repeat}",
            "hydra/sweeper=optuna",
            "hydra.sweeper.sampler=random",
            seed,
        )
        pruned = history(
            tmp_path / f"asha-{repeat}",
            "hydra/sweeper=optuna",
            "hydra.sweeper.pruner=asha",
            "hydra.sweeper.min_steps=75",
            seed,
        )
        assert len(random) == len(pruned) == TRIALS
        best = min(value for _, value in random)
        total = sum(steps for steps, _ in random)
        spent, reached = 0, float("inf")
        for steps, value in pruned:
            spent += steps
            if value <= best:
                reached = spent
                break
        whole = sum(steps for steps, _ in pruned)
        shares.append(reached / total)
        print(
            f"repeat {repeat}: random best {best:.4f} in {total} steps; ASHA best "
            f"{min(value for _, value in pruned):.4f} in {whole}, as good after {reached}"
        )
    print("share of random search's steps:", [round(share, 3) for share in shares])
    assert statistics.median(shares) <= 0.5
