"""A CUDA device without values: the shapes, types and devices of tensors on a GPU that is not there.

torch's FakeTensorMode follows them through every operation, and refuses to mix devices.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import gan.build
from gan.data import Data

CUDA = torch.device("cuda:0")
class Mode(FakeTensorMode):
    """FakeTensorMode that copies of tensors share."""

    def __deepcopy__(self, memo: object) -> "Mode":
        return self


class Generator(torch.Generator):
    """A random generator that says that it is on the GPU. Its numbers are never looked at."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        """Make a generator of the CPU, whatever the device."""
        return super().__new__(cls)

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:
        """The device that was asked for."""
        return self._device


class OneDevice(TorchDispatchMode):
    """Refuses operations that a CUDA graph cannot capture, or that wait for the device."""

    WAITS = ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "equal", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Check one operation's tensors, before and after it."""
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        assert name not in self.WAITS, f"{name} waits for the device"
        result = func(*args, **kwargs)
        for tensor in pytree.tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor):
                assert tensor.device == CUDA, f"{name} has a tensor on {tensor.device}"
        self.operations += 1
        return result


@cache
def _device() -> ctypes.CDLL:
    """Return the compiled device, which autograd needs on a torch that was built for CPUs."""
    if torch.cuda.is_available() or not shutil.which("g++"):
        pytest.skip("needs the C++ compiler g++, and a machine without a GPU")
    root = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "fake_cuda.so"
        command = ["g++", "-std=c++20", "-shared", "-fPIC", "-o", str(library)]
        command += [f"-I{root / 'include'}", str(Path(__file__).with_suffix(".cpp"))]
        command += [f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library))


@contextmanager
def fake_cuda() -> Iterator[Mode]:
    """Pretend within the block that this machine has one GPU with much memory."""
    load_data = gan.build.load_data
    mode = Mode(allow_non_fake_inputs=False)

    def load(cfg: Any) -> Data:
        with torch._C._DisableTorchDispatch():
            data = load_data(cfg, torch.device("cpu"))
        return as_fake(data, mode).to(CUDA)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**40, 2**40))
        patch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
        patch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
        patch.setattr(torch.cuda, "get_rng_state", lambda device=None: torch.empty(16))
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device=None: None)
        # Otherwise torch turns autocast off.
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(gan.build, "load_data", load)
        _device().swap_device()
        try:
            # Other threads of autograd are counted before there is a GPU.
            with torch.autograd.set_multithreading_enabled(False), mode:
                yield mode
        finally:
            _device().swap_device()


def as_fake(data: Any, mode: Mode) -> Any:
    """Return a data set whose tensors have no values."""
    tensors = {
        field.name: mode.from_tensor(value)
        for field in fields(data)
        if isinstance(value := getattr(data, field.name), Tensor)
    }
    return replace(data, **tensors)


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
    """Do what nn.Module._apply does, which refuses fake tensors that are referred to."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                with torch.no_grad():
                    moved = function(weight)
                part._parameters[name] = nn.Parameter(moved, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = function(buffer)
    return module
