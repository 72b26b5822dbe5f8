"""Dividing this machine among runs, so that they do not get in each other's way."""

import os
import subprocess
from dataclasses import dataclass

from joblib import cpu_count


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time."""

    threads: int
    gpu: str | None = None
    """What CUDA_VISIBLE_DEVICES is set to; None leaves it alone."""

    def environment(self) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        variables = dict.fromkeys(names, str(self.threads))
        return variables if self.gpu is None else variables | {"CUDA_VISIBLE_DEVICES": self.gpu}


def share(device: str, jobs: int, n_jobs: int | None, workers_per_gpu: int) -> int:
    """The threads of each run when `jobs` runs have this machine to themselves."""
    return max(1, _cores() // min(n_jobs or _capacity(device, 1, workers_per_gpu), jobs))


def slots(device: str, threads: int, n_jobs: int | None, workers_per_gpu: int) -> list[Slot]:
    """The places for runs of so many threads; `n_jobs` null makes as many as there is room for.

    Args:
        device: what the runs are configured for: auto, cpu, cuda, cuda:N or mps.
    """
    gpus = _gpus(device)
    count = n_jobs or _capacity(device, threads, workers_per_gpu)
    return [Slot(threads, gpus[i % len(gpus)] if gpus else None) for i in range(count)]


def _capacity(device: str, threads: int, workers_per_gpu: int) -> int:
    if gpus := _gpus(device):
        return len(gpus) * workers_per_gpu
    return 1 if device == "mps" else max(1, _cores() // threads)


def _cores() -> int:
    return int(cpu_count())


def _gpus(device: str) -> list[str]:
    """The names by which CUDA_VISIBLE_DEVICES knows the GPUs that runs may use."""
    if device in ("cpu", "mps"):
        return []
    found = _visible_gpus()
    _, _, index = device.partition(":")
    return found[int(index) : int(index) + 1] if index else found


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        # Importing torch to count them takes seconds and a CUDA context.
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()
