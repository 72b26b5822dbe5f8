"""Seeds of independent random numbers, derived from the seed of a run. Imports torch late."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: object) -> int:
    """Return a 63-bit seed that depends on every argument, so that no two purposes share numbers.

    Args:
        seed: the seed of the run, or 0 for choices that are the same in all runs.
        names: the purpose of the numbers. A name must not contain a slash.
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class RandomStates(NamedTuple):
    """The states of the global random numbers, which a network, a loss or a metric may draw."""

    torch: "torch.Tensor"
    cuda: "torch.Tensor | None"
    """The state of one CUDA device, if there is one."""
    numpy: dict[str, Any]
    python: tuple[Any, ...]


def random_states(device: "torch.device | None" = None) -> RandomStates:
    """Return the states of torch, of NumPy and of `random`.

    Args:
        device: its state is returned as well if it is a CUDA device.
    """
    import numpy as np
    import torch

    return RandomStates(
        torch.get_rng_state(),
        torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None,
        dict(np.random.get_state(legacy=False)),
        random.getstate(),
    )


def plain_numpy_state(states: RandomStates) -> dict[str, Any]:
    """Return the state of NumPy's random numbers as plain values, for a checkpoint."""
    inner = states.numpy["state"]
    return {**states.numpy, "state": {**inner, "key": inner["key"].tolist()}}


def set_global_states(numpy: dict[str, Any], python: tuple[Any, ...]) -> None:
    """Set the states of NumPy, in the form of `plain_numpy_state`, and of `random`."""
    import numpy as np

    key = np.array(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})
    random.setstate(python)


def set_random_states(states: RandomStates, device: "torch.device | None" = None) -> None:
    """Set the states to what `random_states` returned for the same device."""
    import numpy as np
    import torch

    torch.set_rng_state(states.torch)
    if states.cuda is not None:
        assert device is not None
        torch.cuda.set_rng_state(states.cuda, device)
    np.random.set_state(states.numpy)
    random.setstate(states.python)


def seed_all(seed: int, device: "torch.device | None" = None) -> None:
    """Seed the global random numbers of torch, of NumPy and of `random`.

    Args:
        device: the CPU leaves out those of other devices, which take half a millisecond.
    """
    import numpy as np
    import torch

    is_on_cpu = device is not None and device.type == "cpu"
    (torch.default_generator.manual_seed if is_on_cpu else torch.manual_seed)(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def seeded(seed: int, device: "torch.device | None" = None) -> Iterator[None]:
    """Draw from random states of its own within the block, on the CPU and on the device."""
    before = random_states(device)
    try:
        seed_all(seed, device)
        yield
    finally:
        set_random_states(before, device)
