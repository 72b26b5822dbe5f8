"""Further processes on this machine, which train a run together with the process of its job."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from gan.distributed.processes import Launch, Processes, open_store, quiet_network, together
from gan.errors import UserError
from gan.system.invocation import module_command

SECONDS_TO_END = 10.0
"""Seconds that followers get to end by themselves."""


class Place(NamedTuple):
    """The share of a machine that a cluster gives to a run."""

    cpus: int
    gpus: float
    cpus_key: str
    """The key of the launcher that sets the cores."""
    gpus_key: str


def check_place(place: Place, processes: int, device: str) -> None:
    """Check that the processes of a run have the cores and the GPUs that they need.

    Raises:
        UserError: names the key to change.
    """
    if place.cpus < processes:
        raise UserError(
            f"hydra.launcher.{place.cpus_key}={place.cpus}: must be at least {processes}, a core "
            f"for each of the processes (hydra.launcher.processes={processes})"
        )
    wants_gpus = device.startswith("cuda") or (device == "auto" and place.gpus > 0)
    if processes > 1 and wants_gpus and place.gpus < processes:
        raise UserError(
            f"hydra.launcher.{place.gpus_key}={place.gpus:g}: must be at least {processes}, a GPU "
            f"for each of the processes (hydra.launcher.processes={processes})"
        )


@contextmanager
def with_followers(processes: int) -> Iterator[None]:
    """Let this process train runs together with others in the block, so many with itself.

    They end with the block, and with this process, whatever ends it.
    """
    if processes == 1:
        yield
        return
    quiet_network()
    from torch.distributed.distributed_c10d import PrefixStore

    launch = Launch(0, processes, 0, processes, "127.0.0.1", 0)
    store = open_store(launch, hosts=True)
    launch = launch._replace(port=store.port)  # type: ignore[attr-defined]
    followers = [
        _start(launch._replace(rank=rank, local_rank=rank)) for rank in range(1, processes)
    ]
    try:
        store_of_run = PrefixStore("gan/0", store)
        with together(Processes(launch, store_of_run, lambda: _all_live(followers))):
            yield
    finally:
        for follower in followers:
            _end(follower)


def _start(launch: Launch) -> "subprocess.Popen[bytes]":
    variables = {
        **launch.variables,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        # It finds the modules that this process finds.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    return subprocess.Popen(
        module_command("gan.distributed.follow"),
        stdin=subprocess.DEVNULL,
        env=os.environ | variables,
    )


def _all_live(processes: "Sequence[subprocess.Popen[bytes]]") -> bool:
    return all(process.poll() is None for process in processes)


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
