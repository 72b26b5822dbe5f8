"""The vectorized launcher from a command line to finished runs."""

import json
from pathlib import Path

from sweep_commands import compose_sweep, execute, resume_command, sweep_command

from gan.launchers.base import find_launcher
from gan.sweep.sweep import launcher_settings


def test_as_many_runs_go_on_at_a_time_as_the_cohorts_hold() -> None:
    def counts(*overrides: str) -> tuple[int | None, int | None]:
        master, _ = compose_sweep(
            "hydra/launcher=vectorized", "hydra.launcher.n_jobs=3", *overrides
        )
        launcher = find_launcher(launcher_settings(master))
        assert launcher is not None
        return launcher.max_running("cpu", 1), launcher.max_running_in_search("cpu", 1)

    assert counts("hydra.launcher.max_group=5") == (15, 15)
    assert counts() == (192, 24)


def test_runs_of_a_cohort_are_completed_and_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    code, out, err = execute(
        sweep_command(
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
    results = [json.loads(file.read_text()) for file in path.glob("*/result.json")]
    assert len(results) == 4
    assert {result["status"] for result in results} == {"completed"}
    assert len({result["objective"] for result in results}) == 4
    code, out, err = execute(resume_command(path))
    assert code == 0, err
    assert "to run" not in out
