"""Time launchers."""

import importlib.util
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.timing import Cost, print_costs


def time_sweeps(*, rounds: int, steps: int) -> None:
    """Print the costs of 16 short runs by each launcher, and of 1,000 runs of one step.

    The 1,000 runs are launched twice. The second time they are finished already.
    """
    launchers = ["basic", "local"]
    if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"):
        launchers.append("joblib")
    costs: dict[str, list[Cost]] = {}
    tiny = ["data=digits", "model.hidden_dim=16", "trainer.batch_size=16", "metrics.samples=100"]
    tiny += ["metrics.every=1000", "trainer.checkpoint_every=1000", "logging=quiet", "threads=1"]
    for _ in range(rounds):
        with TemporaryDirectory() as folder:
            for launcher in launchers:
                short = [*tiny, f"trainer.max_steps={steps}", "seed=range(16)"]
                cost = _sweep(Path(folder, launcher), *short, f"hydra/launcher={launcher}")
                costs.setdefault(f"16 runs, {launcher}", []).append(cost)
            for work in ("planned and run for one step", "found finished"):
                one = [*tiny, "trainer.max_steps=1", "seed=range(1000)"]
                cost = _sweep(Path(folder, "thousand"), *one)
                costs.setdefault(f"1,000 runs {work}", []).append(cost)
    print_costs(f"{steps} steps a run, {os.cpu_count()} cores", costs)


def _sweep(path: Path, *overrides: str) -> Cost:
    train = str(Path(__file__).parent.with_name("train.py"))
    command = [sys.executable, train, "--multirun", f"hydra.sweep.dir={path}", *overrides]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu
