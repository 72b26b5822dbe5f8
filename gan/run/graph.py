"""The graph of networks for TensorBoard, recorded while they are called."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.versions_pb2 import VersionDef
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.overrides import TorchFunctionMode

Path = tuple[str, ...]
"""The boxes around a node in TensorBoard, from the outermost to the innermost."""


def record_graph(network: nn.Module, inputs: Mapping[str, Tensor]) -> GraphDef:
    """Call a network, and return a graph of all functions of torch that it called.

    TensorBoard draws a box around the nodes of each module. A module that is called twice gets two
    boxes, as the arrows through one box would be a loop.

    Args:
        network: gets hooks and may change its buffers, so give a copy of it.
        inputs: its arguments, by the names of their nodes.
    """
    recorder = _Recorder(network)
    for name, tensor in inputs.items():
        recorder.add(name, "input", [], tensor)
    with torch.no_grad(), recorder:
        outputs = network(*inputs.values())
    recorder.add("output", "output", outputs, None)
    # TensorBoard reads graphs of this version of TensorFlow's format.
    return GraphDef(node=recorder.nodes, versions=VersionDef(producer=22))


class _Recorder(TorchFunctionMode):
    """Makes a node of each function of torch that is called in the block."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.nodes: list[NodeDef] = []
        self._sources: dict[Tensor, str] = {}  # the outputs of nodes, as inputs are written
        self._names = Counter[str]()
        self._weights = {
            tensor: name.rpartition(".")[2]
            for named in (network.named_parameters(), network.named_buffers())
            for name, tensor in named
        }
        self._boxes: list[tuple[Path, str]] = [((), "")]  # of the modules that are being called
        for module, path in _paths(network).items():
            module.register_forward_pre_hook(self._entering(path))
            module.register_forward_hook(self._leave, always_call=True)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and add its node if it returns tensors, or sets values of one."""
        result = function(*args, **(kwargs or {}))
        name = function.__name__
        if name == "__get__":  # of an attribute, such as Tensor.T
            name = function.__self__.__name__
        name = name.strip("_")
        changed = args[0] if name == "setitem" else result
        if made := list(_tensors(changed)):
            self.add(self._boxes[-1][1] + name, name, [args, kwargs], made)
        return result

    def add(self, name: str, kind: str, inputs: Any, outputs: Any) -> None:
        """Add a node, and nodes for those of its inputs that no node made, such as weights."""
        for tensor in _tensors(inputs):
            if tensor not in self._sources:
                known = tensor in self._weights
                label = self._weights.get(tensor, "constant")
                box = self._boxes[-1][1]
                self.add(f"{box}{label}", "weight" if known else "constant", [], tensor)
        made = list(_tensors(outputs))
        shapes = [TensorShapeProto(dim=[{"size": n} for n in tensor.shape]) for tensor in made]
        node = NodeDef(
            name=self._unused(name),
            op=kind,
            input=[self._sources[tensor] for tensor in _tensors(inputs)],
            attr={"_output_shapes": AttrValue(list=AttrValue.ListValue(shape=shapes))},
        )
        self.nodes.append(node)
        for index, tensor in enumerate(made):
            self._sources[tensor] = f"{node.name}:{index}" if index else node.name

    def _entering(self, path: Path) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, args: Any) -> None:
            caller, box = self._boxes[-1]
            is_part = path[: len(caller)] == caller
            inside = path[len(caller) :] if is_part else path[-1:]
            if inside:
                # Modules in between that are not called, such as a ModuleList, have no box.
                box = self._unused(box + ".".join(inside)) + "/"
            self._boxes.append((path, box))

        return enter

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._boxes.pop()

    def _unused(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name} ({self._names[name]})"


def _paths(network: nn.Module, path: Path = ()) -> dict[nn.Module, Path]:
    """Return the box of each module of a network.

    TensorBoard cuts names of more than ten or twelve letters. So the kind of a module is named only
    where its own name is a number, and after it.
    """
    paths = {network: path}
    children = dict(network.named_children())
    lists = [child for child in children.values() if isinstance(child, nn.Sequential)]
    for name, child in children.items():
        kind = type_before_parametrizations(child).__name__
        label = f"{name} {kind}" if name.isdigit() else name
        # The only list of layers in a network needs no box, and one click opens the network.
        is_all = path and lists == [child] and not isinstance(network, nn.Sequential)
        paths |= _paths(child, path if is_all else (*path, label))
    return paths


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
