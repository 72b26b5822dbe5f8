"""The graph of networks, as TensorBoard reads it."""

from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any

import pytest
import torch
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from torch import Tensor, nn
from torch.nn import functional as F

from gan.models import dcgan_pair, mlp_pair, r3gan_pair, sngan_pair
from gan.models.base import Discriminator, Generator
from gan.run.graph import record_graph

MODELS: dict[str, tuple[Callable[..., tuple[Generator, Discriminator]], dict[str, Any]]] = {
    "mlp": (mlp_pair, {"hidden_dim": 5, "hidden_layers": 2, "negative_slope": 0.2}),
    "dcgan": (dcgan_pair, {"channels": 2, "negative_slope": 0.2}),
    "sngan": (sngan_pair, {"channels": 4}),
    "pyramid, attention": (sngan_pair, {"channels": 2, "pyramid": True, "attention": 14}),
}


class Both(nn.Module):
    """D(G(z))."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module):
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(self.generator(z, *labels), *labels)
        return logits


class Tower(nn.Module):
    """Layers that use one activation, with weights of their own kind, and change tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.act = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.last = nn.Sequential(nn.Linear(4, 4))
        self.scale = nn.Parameter(torch.ones(4))
        self.shift = torch.zeros(4)  # no parameter, and no buffer

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = self.act(block(x))
        first, second = (x * self.scale + self.shift).chunk(2, dim=1)
        second[:, 0] = 0
        second.mul_(len(x))
        y: Tensor = self.last(torch.cat([first, second], dim=1))
        return y


def shape(node: NodeDef) -> list[list[int]]:
    """Return the shapes of a node's outputs."""
    shapes = node.attr["_output_shapes"].list.shape
    return [[dim.size for dim in one.dim] for one in shapes]


def assert_readable(nodes: list[NodeDef]) -> None:
    """Check that all inputs are there, and that TensorBoard draws no loop, in whatever box."""
    names = [node.name for node in nodes]
    assert len(names) == len(set(names))
    assert {source.partition(":")[0] for node in nodes for source in node.input} <= {*names}
    boxes = {
        "/".join(name.split("/")[:depth]) for name in names for depth in range(name.count("/"))
    }
    assert not boxes & {*names}
    for box in boxes:
        level = f"{box}/" if box else ""
        arrows: dict[str, set[str]] = {}
        for node in nodes:
            if node.name.startswith(level):
                inside = [n.removeprefix(level) for n in node.input if n.startswith(level)]
                one = node.name.removeprefix(level).partition("/")[0]
                sources = {name.partition("/")[0].partition(":")[0] for name in inside}
                arrows.setdefault(one, set()).update(sources - {one})
        list(TopologicalSorter(arrows).static_order())


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_graph_of_both_networks_and_all_their_weights(
    model: str, spectral_norm: bool, norm: str, classes: int
) -> None:
    make, settings = MODELS[model]
    pair = make(
        image_shape=(1, 28, 28),
        classes=classes,
        pac=1,
        latent_dim=7,
        generator_norm="conditional_batch" if classes and norm == "batch" else norm,
        discriminator_norm=norm,
        generator_spectral_norm=spectral_norm,
        discriminator_spectral_norm=spectral_norm,
        **settings,
    )
    assert_has_graph_of(*pair)


@pytest.mark.parametrize("classes", [0, 3])
def test_r3gan_has_a_graph_of_both_networks_and_all_their_weights(classes: int) -> None:
    settings: dict[str, Any] = {"channels": 4, "cardinality": 4, "halve_above": 14, "blocks": 2}
    settings |= {"negative_slope": 0.2}
    settings |= {"image_shape": (1, 28, 28), "classes": classes, "pac": 1, "latent_dim": 7}
    assert_has_graph_of(*r3gan_pair(**settings))


def assert_has_graph_of(generator: Generator, discriminator: Discriminator) -> None:
    """Check the graph of D(G(z)): its inputs, its boxes, its weights and its activations."""
    gan = Both(generator, discriminator).eval()
    classes = generator.classes
    inputs = {"z": torch.zeros(1, 7)}
    if classes:
        inputs["labels"] = torch.zeros(1, dtype=torch.int64)
    nodes = list(record_graph(gan, inputs).node)
    assert_readable(nodes)
    assert [node.name for node in nodes if node.op == "input"] == list(inputs)
    assert nodes[-1].op == "output"
    assert {node.name.partition("/")[0] for node in nodes if "/" in node.name} == {
        "generator",
        "discriminator",
    }
    # num_batches_tracked counts in training alone.
    held = (*gan.named_parameters(), *gan.named_buffers())
    weights = [tuple(tensor.shape) for name, tensor in held if not name.endswith("ked")]
    assert sorted(tuple(shape(n)[0]) for n in nodes if n.op == "weight") == sorted(weights)
    layers = [m for m in gan.modules() if isinstance(m, nn.ReLU | nn.LeakyReLU | nn.Tanh)]
    kinds = [node.op for node in nodes]
    assert sum(map(kinds.count, ("relu", "leaky_relu", "tanh"))) == len(layers)
    assert "constant" not in kinds


def test_a_module_that_is_called_again_gets_another_box() -> None:
    nodes = list(record_graph(nn.Sequential(Tower(), Tower()).eval(), {"x": torch.ones(2, 4)}).node)
    assert_readable(nodes)
    relus = [node.name for node in nodes if node.op == "relu"]
    assert relus == [
        f"{tower} Tower/{act}/1 ReLU/relu" for tower in (0, 1) for act in ("act", "act (2)")
    ]


def test_graph_follows_tensors_that_are_split_or_changed() -> None:
    nodes = {n.name: n for n in record_graph(Tower().eval(), {"x": torch.ones(2, 4)}).node}
    inputs = {name: list(node.input) for name, node in nodes.items()}
    assert inputs["mul"] == ["act (2)/1 ReLU/relu", "scale"]
    assert inputs["add"] == ["mul", "constant"]
    assert inputs["chunk"] == ["add"]
    assert shape(nodes["chunk"]) == [[2, 2], [2, 2]]
    assert inputs["setitem"] == ["chunk:1"]
    assert inputs["mul (2)"] == ["setitem"]
    assert inputs["cat"] == ["chunk", "mul (2)"]
    assert inputs["output"] == ["last/0 Linear/linear"]


def test_functions_that_no_module_wraps_have_the_name_that_people_write() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.interpolate(1 - (-x).T[None], scale_factor=2)

    nodes = record_graph(Plain(), {"x": torch.zeros(2, 3)}).node
    assert [node.op for node in nodes] == [
        *("input", "neg", "T", "getitem", "rsub", "interpolate", "output")
    ]
    assert shape(nodes[-2]) == [[1, 3, 4]]
