"""A GPU that is not there: tensors have a shape, a type and a device, but no values.

torch's FakeTensorMode follows them through every operation, and refuses to mix devices.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gan.metrics import lenet

CUDA = torch.device("cuda:0")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "is_nonzero")
"""Operations that wait for the device: their result is a number, or has as many values as another
result says."""


class Recorder(TorchDispatchMode):
    """Notes the operations on tensors, and which of them a captured step must not contain."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[str] = []
        self.waiting: set[str] = set()
        """Those that make the program wait until the GPU has computed something."""
        self.mixed: set[str] = set()
        """Those that are given tensors of several devices."""
        self.off_the_gpu: set[str] = set()
        """Those that are given or make a tensor that is not on the GPU."""
        self._constants: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note one operation."""
        name = func._schema.name.removeprefix("aten::")
        result = func(*args, **kwargs or {})
        given, made = self._tensors(args, kwargs), self._tensors(result)
        if name == "_to_copy" and not given:
            # vmap makes a tensor of a number in the code. It is a constant of the graph.
            self._constants += made
            made = []
        devices = {tensor.device for tensor in given}
        is_mask = name == "index" and any(t.dtype in (torch.bool, torch.uint8) for t in given[1:])
        if CUDA in devices and (name in WAITS or is_mask or {t.device for t in made} - {CUDA}):
            self.waiting.add(name)
        if len(devices) > 1:
            self.mixed.add(name)
        if (devices | {tensor.device for tensor in made}) - {CUDA}:
            self.off_the_gpu.add(name)
        self.operations.append(name)
        return result

    def _tensors(self, *trees: Any) -> list[Tensor]:
        leaves = (leaf for leaf in pytree.tree_leaves(trees) if isinstance(leaf, Tensor))
        return [t for t in leaves if not any(t is constant for constant in self._constants)]


class Graphs:
    """The parts of torch.cuda that capture a CUDA graph. They note what happens, in `events`."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.captured = Recorder()
        """The operations of all captures."""
        self.current = "default stream"

    def plug_in(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the parts of torch.cuda."""
        for name in ("CUDAGraph", "Stream", "current_stream", "stream", "graph"):
            patch.setattr(torch.cuda, name, getattr(self, name))

    def CUDAGraph(self) -> Any:
        return SimpleNamespace(replay=lambda: self.events.append("replay"))

    def Stream(self, device: torch.device) -> Any:
        return SimpleNamespace(name=f"own stream of {device}", wait_stream=lambda other: None)

    def current_stream(self, device: torch.device) -> Any:
        return self.Stream(device)

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.current = self.current, stream.name
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.events.append(("capture", self.current, stream.name, capture_error_mode))
        with self.captured:
            yield


class _Answers(TorchDispatchMode):
    """Gives the answer 1 where a program asks for a value, and says that all values fit."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer, or compute as ever."""
        name = func._schema.name.removeprefix("aten::")
        if name == "_local_scalar_dense":
            return 1.0 if args[0].dtype.is_floating_point else args[0].dtype is torch.bool or 1
        if name == "equal":
            return True
        if name == "bincount":
            return args[0].new_empty((kwargs or {}).get("minlength", 1))
        if name == "index" and args[1][0].dtype is torch.bool:
            return args[0].clone()
        return func(*args, **kwargs or {})


def answers() -> AbstractContextManager[Any]:
    """Answer within the block where a program asks for values."""
    return _Answers()  # type: ignore[no-untyped-call]


class Mode(FakeTensorMode):
    """FakeTensorMode that copies of tensors share."""

    def __deepcopy__(self, memo: object) -> "Mode":
        return self

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute shapes, also of the one operation for which torch has no way to do so."""
        if func is torch.ops.aten._fused_sgd_.default:
            return None
        return super().dispatch(func, types, args, kwargs or {})


class Generator(torch.Generator):
    """A random generator that says that it is on the GPU. Nobody looks at its numbers."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        """Make a generator of the CPU, whatever the device."""
        return super().__new__(cls)

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The device that was asked for."""
        return self._device


@contextmanager
def fake_cuda() -> Iterator[Mode]:
    """Pretend within the block that this machine has one GPU with much memory."""
    mode = Mode(allow_non_fake_inputs=False)
    from_numpy = torch.from_numpy

    def classifier(name: str) -> lenet.LeNet:
        network = lenet.LeNet().eval().requires_grad_(False)
        network.facts = {"name": f"lenet/{name}"}
        return network

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**40, 2**40))
        patch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
        patch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
        patch.setattr(torch.cuda, "get_rng_state", lambda device=None: torch.empty(16))
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device=None: None)
        # Otherwise torch turns autocast off.
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        patch.setattr(torch, "Generator", Generator)
        for name in ("rand", "randn", "randint", "randperm"):
            patch.setattr(torch, name, partial(_draw, getattr(torch, name)))
        patch.setattr(torch, "from_numpy", lambda array: mode.from_tensor(from_numpy(array)))
        patch.setattr(Tensor, "numpy", _numpy)
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(lenet, "load", cache(classifier))
        _device().swap_device()
        try:
            # The other threads of autograd were counted before there was a GPU.
            with torch.autograd.set_multithreading_enabled(False), mode:
                yield mode
        finally:
            _device().swap_device()


def without_values(data: Any, mode: Mode) -> Any:
    """Return a data set of this package whose tensors have no values, on the CPU."""
    members = {field.name: getattr(data, field.name) for field in fields(data)}
    return replace(data, **pytree.tree_map_only(Tensor, mode.from_tensor, members))


def _draw(function: Callable[..., Tensor], *shape: Any, **options: Any) -> Tensor:
    """Draw random numbers, on the device of the generator only."""
    if generator := options.get("generator"):
        device = torch.device(options.get("device") or "cpu")
        assert generator.device == device, f"a generator on {generator.device}, but for {device}"
    return function(*shape, **options)


def _numpy(tensor: Tensor) -> np.ndarray:
    assert tensor.device.type == "cpu", f"numpy cannot read a tensor on {tensor.device}"
    return np.ones(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
    """Do what nn.Module._apply does, which refuses fake tensors that something refers to."""
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
