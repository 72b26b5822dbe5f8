"""The division of this machine into slots, so that runs do not get in each other's way."""

import itertools
import os
import subprocess
from dataclasses import dataclass

from gan.system.startup import core_count


@dataclass(frozen=True)
class Slot:
    """A place for one worker."""

    threads: int
    gpu: str | None = None
    """The value of CUDA_VISIBLE_DEVICES. None leaves the variable alone."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a worker in this slot."""
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        variables = dict.fromkeys(names, str(self.threads))
        return variables if self.gpu is None else variables | {"CUDA_VISIBLE_DEVICES": self.gpu}


def threads_per_run(device: str, runs: int, n_jobs: int | None, workers_per_gpu: int) -> int:
    """Return the threads of each of `runs` runs that have this machine to themselves."""
    at_a_time = min(n_jobs or _capacity(device, 1, workers_per_gpu), runs)
    return max(1, core_count() // at_a_time)


def make_slots(device: str, threads: int, n_jobs: int | None, workers_per_gpu: int) -> list[Slot]:
    """Return the slots for runs of so many threads.

    Args:
        device: the device that runs are configured for: auto, cpu, cuda, cuda:N or mps.
        n_jobs: the number of slots; None makes as many as there is room for.
    """
    gpus = _gpus(device)
    count = n_jobs or _capacity(device, threads, workers_per_gpu)
    return [Slot(threads, gpus[i % len(gpus)] if gpus else None) for i in range(count)]


def _capacity(device: str, threads: int, workers_per_gpu: int) -> int:
    if gpus := _gpus(device):
        return len(gpus) * workers_per_gpu
    return 1 if device == "mps" else max(1, core_count() // threads)


def _gpus(device: str) -> list[str]:
    """Return the names by which CUDA_VISIBLE_DEVICES knows the GPUs that runs may use."""
    if device in ("cpu", "mps"):
        return []
    gpus = _visible_gpus()
    _, _, index = device.partition(":")
    return gpus[int(index) : int(index) + 1] if index else gpus


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA looks no further than at the first name that is none.
        names = (name.strip() for name in visible.split(","))
        return list(itertools.takewhile(lambda name: name not in ("", "-1"), names))
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        # Counting them by torch would take seconds and a CUDA context.
        listed = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()
