"""Several processes that train one run together, each on its rows of every batch.

Rank 0 is the program that the user sees: it alone reads the command line, writes files and prints.
The others, the followers, wait for what it sends: first the configuration, to build the same parts,
and then the state from which all take the same steps. Importing this module loads no torch.
"""

import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from signal import Signals
from typing import TYPE_CHECKING, Any, NamedTuple

from gan.errors import ProcessLost, StartFailed, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

TIMEOUT = timedelta(hours=24)
"""The time that a process waits for the others, who may wait for rank 0 to measure metrics. The
death of a process is noticed at once."""

START_TIMEOUT = timedelta(minutes=10)
"""The time in which all processes must have started."""

LOOK_TIMEOUT = timedelta(seconds=2)
"""The time between two looks whether a process that should start has died."""

LEAVE_TIMEOUT = timedelta(seconds=20)
"""The time in which followers hear that they may end. One that was killed does not."""

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torchrun tells a process which of how many it is."""


class Launch(NamedTuple):
    """The place of a process among those that were started together."""

    rank: int
    """The number of the process among all, from 0."""
    size: int
    """The number of all processes."""
    local_rank: int
    """The number among those of this machine, which is that of the GPU it takes."""
    local_size: int
    host: str
    """The address of the store, through which the processes find each other."""
    port: int

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that tell a process of its place."""
        return dict(zip(VARIABLES, map(str, self), strict=True))


def torchrun_launch() -> Launch | None:
    """Return the place of this process among several that torchrun started; None if it is alone."""
    try:
        rank, size, local_rank, local_size, host, port = (os.environ[name] for name in VARIABLES)
        found = Launch(int(rank), int(size), int(local_rank), int(local_size), host, int(port))
    except (KeyError, ValueError):
        return None
    return found if found.size > 1 else None


class TrainingEnded(Exception):
    """Rank 0 makes no further step."""


class OutOfStep(UserError):
    """The weights of the processes have become different."""

    exit_code = 1


class Processes:
    """The processes that train a run, as one of them sees them.

    Args:
        store: holds what they tell each other.
        others_live: returns False once a process that this one has started is dead.
    """

    def __init__(
        self, launch: Launch, store: "Store", others_live: Callable[[], bool] = lambda: True
    ):
        self._others_live = others_live
        self.rank, self.size = launch.rank, launch.size
        self.local_rank, self.local_size = launch.local_rank, launch.local_size
        self.signal: Signals | None = None
        """The stop signal that all processes know of, and act on after this step."""
        self._store = store
        self._messages = 0
        self._is_connected = self._is_broken = False
        self._notice: Tensor | None = None
        self._pending: Any = None

    @property
    def is_usable(self) -> bool:
        """Return whether every process was there when it was last needed."""
        return self._is_connected and not self._is_broken

    def check(self, *, batch_size: int, pac: int, device: str) -> None:
        """Check that a run can be divided among the processes.

        Raises:
            UserError: it cannot.
        """
        if batch_size % (self.size * pac):
            packs = f" in packs of {pac} (trainer.pac)" if pac > 1 else ""
            raise UserError(
                f"trainer.batch_size={batch_size}: {self.size} processes cannot share it equally"
                f"{packs}; it must be a multiple of {self.size * pac}"
            )
        if device == "mps" or device.startswith("cuda:"):
            raise UserError(
                f"device={device}: is one device, and there are {self.size} processes; with "
                "device=cuda, each takes a GPU of its own"
            )

    def device_name(self, name: str, gpus: int) -> str:
        """Return the device of this process, if the run's is `name` and this machine has `gpus`.

        Raises:
            UserError: there are fewer GPUs than processes.
        """
        if name not in ("auto", "cuda") or (name == "auto" and not gpus):
            return "cpu" if name == "auto" else name
        if gpus < self.local_size:
            raise UserError(
                f"device={name}: each of {self.local_size} processes needs a GPU of its own, and "
                f"there are {gpus}; start fewer processes, or set device=cpu"
            )
        return f"cuda:{self.local_rank}"

    def send(self, kind: str, *content: Any) -> None:
        """Send a message from rank 0 to all followers."""
        self._store.set(f"message/{self._messages}", pickle.dumps((kind, content)).hex())
        self._messages += 1

    def receive(self) -> tuple[str, tuple[Any, ...]]:
        """Wait for the next message of rank 0."""
        with self._noticing_loss():
            message = self._store.get(f"message/{self._messages}")
        kind, content = pickle.loads(bytes.fromhex(message.decode()))
        self._messages += 1
        if kind == "end":
            self._store.set(f"left/{self.rank}", "")
        return kind, content

    def check_in(self) -> None:
        """Tell rank 0 that this process is there."""
        self._store.set(f"here/{self.rank}", "")

    def _wait_for(self, word: str, timeout: timedelta) -> None:
        self._store.wait([f"{word}/{rank}" for rank in range(1, self.size)], timeout)

    def _wait_for_start(self) -> None:
        """Wait until all followers are there.

        Raises:
            StartFailed: one of them has died, or is not there in time.
        """
        deadline = time.monotonic() + START_TIMEOUT.total_seconds()
        while True:
            try:
                self._wait_for("here", LOOK_TIMEOUT)
                return
            except RuntimeError as error:
                if not self._others_live():
                    reason = "has died before it had started"
                elif time.monotonic() > deadline:
                    minutes = START_TIMEOUT.total_seconds() / 60
                    reason = f"has not started within {minutes:g} minutes"
                else:
                    continue
                self._is_broken = True
                raise StartFailed(f"one of {self.size} processes {reason}") from error

    def connect(self, device: "torch.device") -> None:
        """Connect with the others, who all call this, to exchange tensors."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        if self._is_connected:
            return
        if self.rank == 0:
            self._wait_for_start()
        on_cuda = device.type == "cuda"
        if on_cuda:
            torch.cuda.set_device(device)
        dist.init_process_group(
            # What is on the CPU finds out at once that a process has died.
            "cpu:gloo,cuda:nccl" if on_cuda else "gloo",
            store=PrefixStore("group", self._store),
            rank=self.rank,
            world_size=self.size,
            timeout=TIMEOUT,
        )
        self._is_connected = True

    def leave(self) -> None:
        """Tell the followers, on rank 0, that there is nothing left to do, and disconnect."""
        import torch.distributed as dist

        if self.rank == 0:
            with suppress(RuntimeError):
                self.send("end")
                if not self._is_broken:
                    # This process may host the store, in which they read it.
                    self._wait_for("left", LEAVE_TIMEOUT)
        # A GPU that waits for a dead process would keep this one waiting.
        if self._is_connected and not (self._is_broken and dist.get_backend() != "gloo"):
            dist.destroy_process_group()
        self._is_connected = False

    def abandon(self) -> None:
        """Let the others notice that this process makes no further step."""
        self._is_broken = True

    def announce(
        self, signal: Signals | None = None, *, end: bool = False, checksum: int = 0
    ) -> None:
        """Tell the others, without waiting for them, that this process begins a step.

        Args:
            signal: the stop signal that arrived here, if any.
            end: rank 0 makes no further step.
            checksum: a number that must be the same on all processes.
        """
        import torch
        import torch.distributed as dist

        self._notice = torch.tensor([end, signal or 0, checksum, -checksum], dtype=torch.int64)
        with self._noticing_loss():
            self._pending = dist.all_reduce(self._notice, dist.ReduceOp.MAX, async_op=True)

    def agree(self) -> None:
        """Wait for what all processes announced, unless that was done.

        Raises:
            TrainingEnded: rank 0 makes no further step.
            OutOfStep: a checksum differs.
            ProcessLost: a process has died.
        """
        if self._pending is None:
            return
        with self._noticing_loss():
            self._pending.wait()
        self._pending = None
        assert self._notice is not None
        end, signal, most, least = self._notice.tolist()
        if end:
            raise TrainingEnded
        if most != -least:
            self._is_broken = True
            raise OutOfStep(
                "the weights of the processes have become different, so the run cannot go on from "
                "here; continue it with one process"
            )
        self.signal = Signals(signal) if signal else None

    def sum(self, tensor: "Tensor") -> "Tensor":
        """Add up a tensor over all processes, in place."""
        import torch.distributed as dist

        self.agree()
        with self._noticing_loss():
            dist.all_reduce(tensor)
        return tensor

    def average(self, tensors: "Sequence[Tensor | None]") -> "list[Tensor | None]":
        """Return the mean over all processes of each tensor, by one exchange for all of them."""
        import torch

        given = [tensor for tensor in tensors if tensor is not None]
        if not given:
            return list(tensors)
        total = self.sum(torch.cat([tensor.reshape(-1) for tensor in given])).div_(self.size)
        means = iter(total.split([tensor.numel() for tensor in given]))
        return [
            None if tensor is None else next(means).view(tensor.shape).to(tensor.dtype)
            for tensor in tensors
        ]

    def collect(self, tensor: "Tensor") -> "Tensor":
        """Return the tensors of all processes (size, ...). No gradient passes through."""
        import torch.distributed as dist

        self.agree()
        collected = tensor.new_empty((self.size, *tensor.shape))
        with self._noticing_loss():
            dist.all_gather(list(collected.unbind()), tensor.detach().contiguous())
        return collected

    def broadcast(self, tensor: "Tensor") -> "Tensor":
        """Give a tensor of rank 0 to all, in place."""
        import torch.distributed as dist

        with self._noticing_loss():
            dist.broadcast(tensor, 0)
        return tensor

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._is_broken = True
            raise ProcessLost(
                f"process {self.rank} of {self.size}: another one has ended", exit_code=1
            ) from error


_current: Processes | None = None


def current_processes() -> Processes | None:
    """Return the processes that train a run together with this one; None if it is alone."""
    return _current


def refused_sweep(given: str, size: int) -> str:
    """Return why several processes do not train a sweep.

    Args:
        given: the words that ask for one.
    """
    return (
        f"{given}: {size} processes train one run, and not a sweep; start it without torchrun "
        "(hydra.launcher.processes gives each run of slurm and ray several processes)"
    )


def open_store(launch: Launch, *, hosts: bool) -> "Store":
    """Return the store through which the processes find each other.

    Args:
        hosts: this process is to host it. Port 0 then takes a free one.
    """
    import torch.distributed as dist

    store: Store = dist.TCPStore(  # type: ignore[attr-defined]
        launch.host, launch.port, None, is_master=hosts, timeout=TIMEOUT, wait_for_workers=False
    )
    return store


def quiet_network() -> None:
    """Let torch not print where in its code it noticed the death of a process.

    Call this before torch is imported.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def join(launch: Launch) -> Processes:
    """Return the processes that torchrun started together with this one."""
    from torch.distributed.distributed_c10d import PrefixStore

    agent_hosts = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = open_store(launch, hosts=launch.rank == 0 and not agent_hosts)
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return Processes(launch, PrefixStore(f"gan/{restarts}", store))


@contextmanager
def together(processes: Processes) -> Iterator[None]:
    """Train a run with the others in the block. The followers end when rank 0 leaves it."""
    global _current
    _current = processes
    try:
        yield
    finally:
        _current = None
        processes.leave()
