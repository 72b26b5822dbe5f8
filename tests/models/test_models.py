"""Networks of the lab and the papers layer by layer, labels, norms, attention and sizes."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.fx import symbolic_trace
from torch.nn import functional as F

from gan.build import build_networks
from gan.config.checks import as_config, checked, flatten
from gan.config.checks import plain as plain_values
from gan.config.compose import compose
from gan.errors import UserError
from gan.models import Discriminator, Generator, dcgan_pair, mlp_pair, r3gan_pair, sngan_pair
from gan.models.base import ConditionalBatchNorm, ResidualBlock, SelfAttention, find_doublings

Pair = tuple[Generator, Discriminator]
Shape = tuple[int, ...]

TINY: dict[str, tuple[Callable[..., Pair], dict[str, Any]]] = {
    "mlp": (mlp_pair, {"hidden_dim": 5, "hidden_layers": 3, "negative_slope": 0.2}),
    "dcgan": (dcgan_pair, {"channels": 2, "negative_slope": 0.2}),
    "sngan": (sngan_pair, {"channels": 4}),
    "pyramid": (sngan_pair, {"channels": 2, "pyramid": True}),
    "dcgan, attention": (dcgan_pair, {"channels": 2, "negative_slope": 0.2, "attention": 14}),
    "sngan, attention": (sngan_pair, {"channels": 4, "attention": 14}),
    "r3gan": (
        r3gan_pair,
        {
            "channels": 8,
            "cardinality": 4,
            "halve_above": 16,
            "blocks": 1,
            "negative_slope": 0.2,
        },
    ),
}
TINY["r3gan, labels embedded"] = (r3gan_pair, TINY["r3gan"][1] | {"embed_labels": True})
NORMED = [model for model in TINY if "r3gan" not in model]
"""The models that can have norms and spectral norm."""
SHAPES: list[tuple[str, Shape]] = [
    *(("mlp", shape) for shape in [(1, 28, 28), (3, 8, 16), (1, 1, 2), (2,)]),
    *(("dcgan", (c, side, side)) for c in (1, 3) for side in (16, 28, 32, 64, 128)),
    *(("sngan", (c, side, side)) for c in (1, 3) for side in (28, 32)),
    *(("pyramid", (3, side, side)) for side in (28, 32, 48, 64, 128)),
    *(("r3gan", (c, side, side)) for c, side in ((1, 28), (3, 28), (1, 32), (3, 64))),
    ("r3gan, labels embedded", (3, 32, 32)),
    *((model, (1, 28, 28)) for model in ("dcgan, attention", "sngan, attention")),
    *(("sngan, attention", shape) for shape in [(1, 28, 20), (3, 28, 56)]),
    *(
        (model, shape)
        for model in ("dcgan", "sngan", "pyramid", "r3gan")
        for shape in [(1, 28, 20), (3, 32, 64), (1, 40, 16)]
    ),
]
LATENT_DIM = 7
CLASSES = 3


def pair(
    model: str,
    shape: Shape = (1, 28, 28),
    *,
    classes: int = 0,
    pac: int = 1,
    norm: str = "none",
    spectral_norm: bool = False,
    seed: int = 0,
) -> Pair:
    """Make a tiny pair with the same norms in both networks.

    With conditional batch norm in the generator, the discriminator has none.
    """
    make, settings = TINY[model]
    if model in NORMED:
        settings = settings | {
            "generator_norm": norm,
            "discriminator_norm": "none" if norm == "conditional_batch" else norm,
            "generator_spectral_norm": spectral_norm,
            "discriminator_spectral_norm": spectral_norm,
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(image_shape=shape, classes=classes, pac=pac, latent_dim=LATENT_DIM, **settings)


def inputs(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return latents and labels."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, LATENT_DIM, generator=generator)
    return z, torch.arange(count) % CLASSES


def layers(network: nn.Module) -> list[str]:
    sequence = network.layers
    assert isinstance(sequence, nn.Sequential)
    return [str(layer) for layer in sequence]


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def matrices(network: nn.Module) -> list[Tensor]:
    """Return every weight as a matrix (outputs, everything else), as spectral norm takes it."""
    found = []
    for layer in network.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.ConvTranspose2d):
            weight = layer.weight.transpose(0, 1)
        if isinstance(weight, Tensor) and weight.ndim > 1:
            found.append(weight.detach().flatten(1))
    return found


def test_the_lab_experiment_has_the_labs_networks() -> None:
    generator, discriminator = build_networks(compose("experiment=lab"), (1, 28, 28), 10, 1)
    assert layers(generator) == [
        "Linear(in_features=100, out_features=256, bias=True)",
        "ReLU()",
        "Linear(in_features=256, out_features=256, bias=True)",
        "ReLU()",
        "Linear(in_features=256, out_features=784, bias=True)",
        "Tanh()",
        "Unflatten(dim=1, unflattened_size=(1, 28, 28))",
    ]
    assert layers(discriminator) == [
        "Flatten(start_dim=1, end_dim=-1)",
        "Linear(in_features=784, out_features=256, bias=True)",
        "LeakyReLU(negative_slope=0.1)",
        "Linear(in_features=256, out_features=256, bias=True)",
        "LeakyReLU(negative_slope=0.1)",
        "Linear(in_features=256, out_features=1, bias=True)",
    ]
    assert parameters(generator) == (100 * 256 + 256) + (256 * 256 + 256) + (256 * 784 + 784)
    assert parameters(discriminator) == (784 * 256 + 256) + (256 * 256 + 256) + (256 + 1)
    weights = [f"layers.{index}.{name}" for index in (0, 2, 4) for name in ("weight", "bias")]
    assert list(generator.state_dict()) == weights


def test_the_lab_experiment_has_the_labs_settings() -> None:
    cfg = compose("experiment=lab")
    assert cfg.data._target_ == "gan.data.mnist"
    assert cfg.optimizer._target_ == "torch.optim.Adam"
    assert (cfg.optimizer.lr, cfg.discriminator_optimizer.lr) == (2e-4, 2e-4)
    assert list(cfg.optimizer.betas) == [0.9, 0.999]
    assert cfg.loss._target_ == "gan.losses.non_saturating"
    assert cfg.penalty._target_ is None
    assert (cfg.trainer.batch_size, cfg.trainer.max_epochs, cfg.trainer.max_steps) == (
        128,
        30,
        None,
    )
    assert cfg.logging.every == 100


def test_dcgan_for_64_pixels_is_the_network_of_the_paper() -> None:
    generator, discriminator = build_networks(compose("model=dcgan"), (3, 64, 64), 10, 1)
    widths = [512, 256, 128, 64]
    convolutions = sum(16 * a * b for a, b in itertools.pairwise(widths))
    assert parameters(generator) == (
        (100 * 512 * 4 * 4) + convolutions + 2 * sum(widths) + (64 * 3 * 16 + 3)
    )
    assert parameters(discriminator) == (
        (3 * 64 * 16 + 64) + convolutions + 2 * sum(widths[:-1]) + (512 * 4 * 4 + 1)
    )

    def kinds(network: nn.Module, names: str) -> list[str]:
        sequence = network.layers
        assert isinstance(sequence, nn.Sequential)
        return [kind for kind in (type(layer).__name__ for layer in sequence) if kind in names]

    hidden = ["BatchNorm2d", "ReLU", "ConvTranspose2d"]
    assert kinds(generator, "BatchNorm2d ReLU ConvTranspose2d Tanh") == [*hidden * 4, "Tanh"]
    assert kinds(discriminator, "BatchNorm2d LeakyReLU Conv2d Linear") == [
        *["Conv2d", "LeakyReLU"],
        *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3,
        "Linear",
    ]
    for layer in [*generator.modules(), *discriminator.modules()]:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
    flat = torch.cat([matrix.flatten() for matrix in matrices(generator)])
    assert abs(flat.mean()) < 1e-4
    assert abs(flat.std() - 0.02) < 1e-4


def test_sngan_for_32_pixels_is_the_network_of_the_paper() -> None:
    generator, discriminator = build_networks(compose("model=sngan"), (3, 32, 32), 10, 1)
    up = 2 * 2 * 256 + 2 * (9 * 256**2 + 256) + (256**2 + 256)
    assert parameters(generator) == ((128 * 4096 + 4096) + 3 * up + 2 * 256 + (9 * 256 * 3 + 3))
    same = 2 * (9 * 128**2 + 128)
    images = (9 * 3 * 128 + 128) + (9 * 128**2 + 128) + (3 * 128 + 128)
    assert parameters(discriminator) == images + (same + 128**2 + 128) + 2 * same + (128 + 1)
    assert not any("parametrizations" in name for name in generator.state_dict())
    assert "layers.0.residual.0.parametrizations.weight.original" in discriminator.state_dict()


def test_sngan_computes_what_table_4_of_the_paper_says() -> None:
    """Compare with shortcuts in the paper's order: enlarge, then convolve, then pool."""
    generator, discriminator = pair("sngan", (3, 32, 32))
    z, _ = inputs(2)

    def conv(x: Tensor, layer: Any) -> Tensor:
        return F.conv2d(x, layer.weight, layer.bias, padding=layer.weight.shape[-1] // 2)

    def convolutions(block: Any) -> list[nn.Module]:
        return [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]

    steps: Any = generator.layers
    dense, _, up1, up2, up3, _, last, _ = steps
    h = (z @ dense.weight.T + dense.bias).view(2, 8, 4, 4)
    for block in (up1, up2, up3):
        first, second, shortcut = convolutions(block)
        residual = conv(conv(F.interpolate(h.relu(), scale_factor=2), first).relu(), second)
        h = residual + conv(F.interpolate(h, scale_factor=2), shortcut)
    images = conv(h.relu(), last).tanh()
    torch.testing.assert_close(generator(z), images)

    steps = discriminator.layers
    down1, down2, same1, same2, _, _, dense = steps
    first, second, shortcut = convolutions(down1)
    h = F.avg_pool2d(conv(conv(images, first).relu(), second) + conv(images, shortcut), 2)
    first, second, shortcut = convolutions(down2)
    h = F.avg_pool2d(conv(conv(h.relu(), first).relu(), second) + conv(h, shortcut), 2)
    for block in (same1, same2):
        first, second = convolutions(block)
        h = h + conv(conv(h.relu(), first).relu(), second)
    logits = h.relu().sum(dim=(2, 3)) @ dense.weight.T + dense.bias
    torch.testing.assert_close(discriminator(images), logits)


@pytest.mark.parametrize(
    ("model", "shape", "norm"),
    [
        (model, shape, norm)
        for model, shape in SHAPES
        for norm in ("none", "batch", "layer", "conditional_batch")
        if norm == "none" or model in NORMED
    ],
)
def test_samples_logits_and_gradients_have_the_right_shapes_and_ranges(
    model: str, shape: Shape, norm: str
) -> None:
    for classes, pac in ((0, 1), (0, 2), (CLASSES, 1)):
        if norm == "conditional_batch" and not classes:
            continue
        generator, discriminator = pair(model, shape, classes=classes, pac=pac, norm=norm)
        z, known = inputs(4)
        labels = known if classes else None
        samples = generator(z, labels)
        assert samples.shape == (4, *shape)
        loud = generator(1e4 * z, labels)
        assert loud.isfinite().all()
        assert loud.abs().max() <= 1 or shape == (2,) or "r3gan" in model
        packed = samples.reshape(4 // pac, pac * shape[0], *shape[1:])
        logits = discriminator(packed, labels)
        assert logits.shape == (4 // pac, 1)
        logits.square().sum().backward()
        for network in (generator, discriminator):
            for name, weight in network.named_parameters():
                assert weight.grad is not None, name
                assert weight.grad.isfinite().all(), name
            total = sum(w.grad.norm() for w in network.parameters() if w.grad is not None)
            assert total > 0


def test_points_have_no_bounds() -> None:
    generator, _ = pair("mlp", (2,))
    assert generator(100 * inputs(8)[0]).abs().max() > 1


@pytest.mark.parametrize("model", ["mlp", "dcgan", "sngan"])
@pytest.mark.parametrize(
    ("norm", "kinds"),
    [
        ("batch", (nn.BatchNorm1d, nn.BatchNorm2d)),
        ("layer", (nn.LayerNorm, nn.GroupNorm)),
    ],
)
def test_each_network_has_its_own_norm(
    model: str, norm: str, kinds: tuple[type[nn.Module], ...]
) -> None:
    def found(network: nn.Module) -> int:
        return sum(isinstance(layer, kinds) for layer in network.modules())

    make, settings = TINY[model]
    shared: dict[str, Any] = {
        "image_shape": (1, 28, 28),
        "classes": 0,
        "pac": 1,
        "latent_dim": LATENT_DIM,
        "generator_spectral_norm": False,
        "discriminator_spectral_norm": False,
    } | settings
    generator, discriminator = make(generator_norm=norm, discriminator_norm="none", **shared)
    assert (found(generator), found(discriminator)) == (
        {"mlp": 3, "dcgan": 2, "sngan": 5}[model],
        0,
    )
    generator, discriminator = make(generator_norm="none", discriminator_norm=norm, **shared)
    assert (found(generator), found(discriminator)) == (
        0,
        {"mlp": 3, "dcgan": 1, "sngan": 6}[model],
    )
    with pytest.raises(ValueError, match="norm=bach: must be one of none, batch, layer"):
        make(generator_norm="none", discriminator_norm="bach", **shared)
    with pytest.raises(ValueError, match="norm=conditional_batch: must be of a generator that ta"):
        make(generator_norm="none", discriminator_norm="conditional_batch", **shared)


@pytest.mark.parametrize("model", NORMED)
def test_layer_norm_sees_one_sample_alone(model: str) -> None:
    generator, discriminator = pair(model, norm="layer")
    z, _ = inputs(4)
    torch.testing.assert_close(generator(z)[:1], generator(z[:1]))
    torch.testing.assert_close(discriminator(generator(z))[:1], discriminator(generator(z[:1])))


@pytest.mark.parametrize("model", NORMED)
def test_spectral_norm_follows_every_weight(model: str) -> None:
    for network, plain in zip(
        pair(model, classes=CLASSES, spectral_norm=True), pair(model, classes=CLASSES), strict=True
    ):
        assert len(matrices(network)) == len(matrices(plain))
        # The random draws are the same with and without spectral norm.
        for name, weight in plain.named_parameters():
            normalized = name.endswith("weight")
            name = name.replace("weight", "parametrizations.weight.original")
            assert normalized == ("parametrizations" in name)
            assert torch.equal(network.get_parameter(name), weight)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(3).add_(torch.randn(weight.shape, generator=torch.Generator()))
        z, labels = inputs(2)
        x = z if isinstance(network, Generator) else torch.zeros(2, 1, 28, 28)
        with torch.no_grad():
            for _ in range(50):
                network(x, labels)
            network.eval()
            largest = [torch.linalg.matrix_norm(m, ord=2).item() for m in matrices(network)]
            assert largest == pytest.approx([1.0] * len(largest), rel=2e-2)
            before = matrices(network)
            network(x, labels)
            assert all(map(torch.equal, before, matrices(network)))


@pytest.mark.parametrize("model", [model for model in TINY if "embedded" not in model])
def test_the_generator_gets_labels_as_one_hot_vectors(model: str) -> None:
    generator, _ = pair(model, classes=CLASSES)
    z, labels = inputs(5)
    manual = generator.layers(torch.cat([z, torch.eye(CLASSES)[labels]], dim=1))
    assert torch.equal(generator(z, labels), manual)
    assert not torch.equal(generator(z, labels), generator(z, (labels + 1) % CLASSES))


@pytest.mark.parametrize("model", [model for model in TINY if "embedded" not in model])
def test_the_discriminator_projects_features_on_the_label(model: str) -> None:
    _, discriminator = pair(model, classes=CLASSES)
    x, labels = torch.randn(5, 1, 28, 28), inputs(5)[1]
    features: list[Tensor] = []
    last = discriminator.layers[-1]
    assert isinstance(last, nn.Linear)
    last.register_forward_hook(lambda layer, args, output: features.append(args[0]))
    logits = discriminator(x, labels)
    assert discriminator.embedding is not None
    # One weight vector for each class, and a bias that they share.
    weights = last.weight + discriminator.embedding.weight
    expected = torch.einsum("nf,nf->n", features[0], weights[labels])
    bias = torch.zeros(1) if last.bias is None else last.bias
    torch.testing.assert_close(logits, expected[:, None] + bias)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (None, "missing, but the network is conditional on 3 classes"),
        (torch.tensor([0, 1, 2, 3]), "must be int64 from 0 to 2"),
        (torch.tensor([0, 1, 2, -1]), "must be int64 from 0 to 2"),
        (torch.tensor([0]), "one for each input"),
        (torch.tensor([[0], [1], [2], [0]]), "one for each input"),
        (torch.tensor([0.0, 1.0, 2.0, 0.0]), "must be int64"),
    ],
)
@pytest.mark.parametrize("model", TINY)
def test_wrong_labels_are_refused(model: str, labels: Tensor | None, problem: str) -> None:
    generator, discriminator = pair(model, classes=CLASSES)
    with pytest.raises(ValueError, match=problem):
        generator(inputs(4)[0], labels)
    with pytest.raises(ValueError, match=problem):
        discriminator(torch.zeros(4, 1, 28, 28), labels)


def test_labels_for_an_unconditional_network_are_refused() -> None:
    generator, discriminator = pair("mlp")
    z, labels = inputs(4)
    with pytest.raises(ValueError, match="unconditional"):
        generator(z, labels)
    with pytest.raises(ValueError, match="unconditional"):
        discriminator(torch.zeros(4, 1, 28, 28), labels)


class _GAN(nn.Module):
    def __init__(self, generator: Generator, discriminator: Discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(self.generator(z, labels), labels)
        return logits


@pytest.mark.parametrize(
    ("model", "norm", "spectral_norm"),
    [
        ("r3gan", "none", False),
        ("r3gan, labels embedded", "none", False),
        *itertools.product(NORMED, ("none", "batch", "layer", "conditional_batch"), (False, True)),
    ],
)
def test_copies_loaded_states_and_traces_give_the_same_logits(
    model: str, norm: str, spectral_norm: bool
) -> None:
    def fresh(seed: int) -> _GAN:
        return _GAN(
            *pair(model, classes=CLASSES, norm=norm, spectral_norm=spectral_norm, seed=seed)
        )

    gan, other = fresh(0), fresh(1)
    z, labels = inputs(4)
    with torch.no_grad():
        gan(z, labels)  # running statistics and singular vectors move
        copied = copy.deepcopy(gan).eval()
        logits = copied(z, labels)
        assert not torch.equal(other.eval()(z, labels), logits)
        other.load_state_dict(gan.state_dict())
        assert torch.equal(other(z, labels), logits)
        # Training a copy must not change the original.
        before = copy.deepcopy(gan.state_dict())
        copied.train()(z, labels)
        for weight in copied.parameters():
            weight.zero_()
        assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
    # No branch depends on the values of a tensor.
    traced = symbolic_trace(gan.eval())
    torch.testing.assert_close(traced(z, labels), logits)


@pytest.mark.parametrize("classes", [0, CLASSES])
@pytest.mark.parametrize("model", TINY)
def test_networks_of_many_runs_work_under_vmap(model: str, classes: int) -> None:
    pairs = [pair(model, classes=classes, seed=seed) for seed in range(2)]
    z, known = inputs(8)
    z, labels = z.view(2, 4, -1), (known.view(2, 4),) if classes else ()
    samples = torch.stack([g(z[i], *(y[i] for y in labels)) for i, (g, _) in enumerate(pairs)])
    logits = torch.stack([d(samples[i], *(y[i] for y in labels)) for i, (_, d) in enumerate(pairs)])
    for which, x, expected in ((0, z, samples), (1, samples, logits)):
        members: list[nn.Module] = [p[which] for p in pairs]
        weights, buffers = stack_module_state(members)

        def call(w: Any, b: Any, *args: Tensor, network: nn.Module = members[0]) -> Any:
            return functional_call(network, (w, b), args)

        torch.testing.assert_close(vmap(call)(weights, buffers, x, *labels), expected)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (
            "dcgan",
            (1, 8, 8),
            "DCGAN: images of 8x8 pixels do not fit; the nearest that do are 16x16, 32x32; "
            "model=base takes any",
        ),
        (
            "dcgan",
            (1, 30, 29),
            "DCGAN: images of 30x29 pixels do not fit; the nearest that do are 28x28, 32x28;",
        ),
        (
            "dcgan",
            (3, 256, 256),
            "DCGAN: images of 256x256 pixels do not fit; the nearest that do are 224x256, 256x224;",
        ),
        ("dcgan", (1, 10, 90), "DCGAN: images of 10x90 pixels do not fit; the nearest that do are"),
        ("dcgan", (2,), "DCGAN: makes images, not samples of shape (2,)"),
        (
            "sngan",
            (3, 64, 64),
            "SNGAN: images of 64x64 pixels do not fit; the nearest that do are 56x64, 64x56; "
            "model=sngan_pyramid takes larger ones, and model=base any",
        ),
        ("pyramid", (3, 66, 64), "SNGAN: images of 66x64 pixels do not fit; the nearest that do a"),
        ("r3gan", (3, 33, 32), "R3GAN: images of 33x32 pixels do not fit; the nearest that do are"),
        ("sngan", (2,), "SNGAN: makes images, not samples of shape (2,)"),
    ],
)
def test_other_image_sizes_are_refused(model: str, shape: Shape, message: str) -> None:
    with pytest.raises(UserError) as raised:
        pair(model, shape)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "model",
    [
        "small",
        "dcgan_small model.attention=14",
        "sngan model.channels=4 model.generator_norm=conditional_batch",
        "sngan_pyramid model.channels=4",
        "r3gan_small",
    ],
)
def test_weights_depend_only_on_the_seed(model: str) -> None:
    cfg = compose(*f"model={model}".split(), "model.conditional=true")

    def weights(seed: int, *, before: int = 0) -> Tensor:
        torch.manual_seed(before)
        state = torch.get_rng_state()
        cfg.seed = seed
        both = build_networks(cfg, (1, 28, 28), 10, 1)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([w.flatten() for network in both for w in network.state_dict().values()])

    assert torch.equal(weights(3), weights(3, before=1))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("model", ["dcgan_small", "sngan model.channels=4"])
def test_configuration_of_an_earlier_version_gives_the_same_networks(model: str) -> None:
    """Runs that were stored before a key came must resume, with the weights of their seed."""
    cfg = compose(*f"model={model}".split())
    stored = plain_values(cfg)
    stored["model"] = {
        key: value for key, value in stored["model"].items() if key not in ("attention", "pyramid")
    }
    earlier = as_config(stored)
    assert flatten(earlier) == flatten(cfg)
    for one, other in zip(
        *(build_networks(c, (1, 28, 28), 10, 1) for c in (cfg, checked(earlier))), strict=True
    ):
        states = one.state_dict(), other.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_number_of_classes_matters_only_to_conditional_models() -> None:
    plain, _ = build_networks(compose("model=small"), (1, 28, 28), 10, 1)
    conditional, judge = build_networks(
        compose("model=small", "model.conditional=true"), (2,), 10, 4
    )
    assert layers(plain)[0] == "Linear(in_features=100, out_features=128, bias=True)"
    assert layers(conditional)[0] == "Linear(in_features=110, out_features=128, bias=True)"
    assert layers(judge)[1] == "Linear(in_features=8, out_features=128, bias=True)"
    assert str(judge.embedding) == "Embedding(10, 128)"


def paths(network: nn.Module) -> list[Any]:
    """Return the residual paths of a network's blocks."""
    return [layer.residual for layer in network.modules() if isinstance(layer, ResidualBlock)]


def sizes_of(model: str, side: int, classes: int = 10) -> tuple[int, int]:
    """Return how many parameters both networks for colour images have, without drawing any."""
    with torch.device("meta"):
        generator, discriminator = build_networks(
            compose(*f"model={model}".split()), (3, side, side), classes, 1
        )
    return parameters(generator), parameters(discriminator)


def pairs(widths: list[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(widths))


@pytest.mark.parametrize(
    ("side", "first", "up_widths", "down_widths", "last_width"),
    [
        # Table 5, for STL-10.
        (48, 6, [512, 256, 128, 64], [64, 128, 256, 512], 1024),
        # The same widths from the first map of table 6, since 64 = 4 * 16.
        (64, 4, [1024, 512, 256, 128, 64], [64, 128, 256, 512], 1024),
        # Table 6, for ImageNet.
        (128, 4, [1024, 1024, 512, 256, 128, 64], [64, 128, 256, 512, 1024], 1024),
    ],
)
def test_sngan_pyramid_is_the_network_of_the_tables(
    side: int, first: int, up_widths: list[int], down_widths: list[int], last_width: int
) -> None:
    """Count as the tables say: a block is two 3x3 convolutions and a 1x1 shortcut, with biases.

    A generator's block has the norms of its input and its inner map, of two weights a channel.
    The last block of table 6 keeps the width, so its shortcut has no weights.
    """
    generator, discriminator = sizes_of("sngan_pyramid", side)

    def conv(kernel: int, a: int, b: int) -> int:
        return kernel**2 * a * b + b

    ups = sum(
        2 * a + 2 * b + conv(3, a, b) + conv(3, b, b) + conv(1, a, b) for a, b in pairs(up_widths)
    )
    dense = (128 + 1) * first**2 * up_widths[0]
    assert generator == dense + ups + 2 * 64 + conv(3, 64, 3)
    images = conv(3, 3, 64) + conv(3, 64, 64) + conv(1, 3, 64)
    downs = sum(conv(3, a, a) + conv(3, a, b) + conv(1, a, b) for a, b in pairs(down_widths))
    a, b = down_widths[-1], last_width
    same = conv(3, a, a) + conv(3, a, b) + (conv(1, a, b) if a != b else 0)
    assert discriminator == images + downs + same + (last_width + 1)


def test_conditional_batch_norm_and_projection_are_those_of_the_paper() -> None:
    """Count the ImageNet networks of arXiv:1802.05637 from those of table 6 of arXiv:1802.05957.

    Each norm in a block has two weights for a channel and class in place of two for a channel. The
    latent has no label beside it. The discriminator has a vector of 1,024 for each class.
    """
    classes, norm = 1000, "model.generator_norm=conditional_batch"
    plain = sizes_of("sngan_pyramid", 128)
    conditional = sizes_of(f"sngan_pyramid model.conditional=true {norm}", 128, classes)
    normed = [1024, 1024, 1024, 512, 512, 256, 256, 128, 128, 64]
    assert conditional[0] - plain[0] == 2 * (classes - 1) * sum(normed)
    assert conditional[1] - plain[1] == 1024 * classes


@pytest.mark.parametrize("model", NORMED)
def test_conditional_batch_norm_is_batch_norm_with_weights_of_the_class(model: str) -> None:
    """Compare with a batch norm for each class, on a batch of that class alone."""
    generator, _ = pair(model, classes=CLASSES, norm="conditional_batch")
    norms = [layer for layer in generator.modules() if isinstance(layer, ConditionalBatchNorm)]
    noise = torch.Generator().manual_seed(2)
    for norm in norms:
        assert torch.equal(norm.scales, torch.ones_like(norm.scales))
        assert not norm.shifts.any()
        for weight in (norm.scales, norm.shifts):
            weight.data = torch.randn(weight.shape, generator=noise)
    z, _ = inputs(6)
    seen: list[tuple[ConditionalBatchNorm, Tensor, Tensor]] = []
    for norm in norms:
        norm.register_forward_hook(lambda layer, args, out: seen.append((layer, args[0], out)))
    for label in range(CLASSES):
        seen.clear()
        generator(z, torch.full((6,), label))
        assert len(seen) == len(norms) > 0
        for norm, x, out in seen:
            scale, shift = norm.scales[label], norm.shifts[label]
            expected = F.batch_norm(x, None, None, scale, shift, training=True)
            torch.testing.assert_close(out, expected)
    # A sample follows its own label, and the others of the batch only by their statistics.
    generator.eval()
    labels = torch.arange(6) % CLASSES
    apart = torch.cat([generator(z[i : i + 1], labels[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(generator(z, labels), apart)
    assert not torch.allclose(generator(z, labels), generator(z, (labels + 1) % CLASSES))


def test_conditional_batch_norm_needs_labels() -> None:
    with pytest.raises(UserError) as raised:
        compose("model.generator_norm=conditional_batch")
    assert str(raised.value) == (
        "model.generator_norm=conditional_batch: needs model.conditional=true"
    )
    with pytest.raises(UserError, match=r"discriminator_norm=conditional_batch: must be one"):
        compose("model.discriminator_norm=conditional_batch")


def test_self_attention_computes_what_the_paper_says() -> None:
    """Compare with equations 1 to 3 of arXiv:1805.08318, place by place."""
    torch.manual_seed(0)
    layer = SelfAttention(16).double()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    assert parameters(layer) == 4 * 16 * (16 // 8) + 1
    assert torch.equal(layer(x), x)
    layer.gate.data.fill_(0.7)
    f, g, h, v = (
        one.weight[:, :, 0, 0] for one in (layer.query, layer.key, layer.value, layer.output)
    )
    for sample, found in zip(x, layer(x), strict=True):
        places = sample.flatten(1).T
        for place, (one, result) in enumerate(zip(places, found.flatten(1).T, strict=True)):
            scores = torch.stack([(g @ other) @ (f @ one) for other in places])
            attended = sum(
                share * (h @ other) for share, other in zip(scores.softmax(0), places, strict=True)
            )
            torch.testing.assert_close(result, 0.7 * (v @ attended) + one, msg=str(place))


@pytest.mark.parametrize(
    ("model", "side", "height", "widths"),
    [
        # The paper's place: the 32x32 map of 128x128 images.
        ("sngan_pyramid model.channels=8", 128, 32, (32, 16)),
        ("dcgan model.channels=16", 128, 32, (32, 32)),
        ("dcgan model.channels=16", 28, 7, (32, 32)),
        ("dcgan model.channels=16", 28, 14, (16, 16)),
        ("sngan model.channels=8", 32, 8, (16, 8)),
        ("sngan model.channels=8", 32, 16, (16, 8)),
    ],
)
def test_self_attention_follows_the_map_of_this_height_in_both_networks(
    model: str, side: int, height: int, widths: tuple[int, int]
) -> None:
    plain = build_networks(compose(*f"model={model}".split()), (1, side, side), 10, 1)
    both = build_networks(
        compose(*f"model={model} model.attention={height}".split()), (1, side, side), 10, 1
    )
    seen: list[torch.Size] = []
    for network, before, width in zip(both, plain, widths, strict=True):
        layers = [layer for layer in network.modules() if isinstance(layer, SelfAttention)]
        assert len(layers) == 1
        layers[0].register_forward_hook(lambda layer, args, out: seen.append(args[0].shape))
        assert parameters(network) - parameters(before) == 4 * width * max(1, width // 8) + 1
    latent_dim = both[0].latent_dim
    assert isinstance(latent_dim, int)
    both[1](both[0](torch.zeros(2, latent_dim)))
    assert seen == [torch.Size([2, width, height, height]) for width in widths]


@pytest.mark.parametrize(
    ("model", "allowed"),
    [("dcgan", "7, 14"), ("sngan", "14"), ("sngan_pyramid", "14")],
)
def test_other_heights_of_attention_are_refused(model: str, allowed: str) -> None:
    cfg = compose(f"model={model}", "model.attention=28")
    with pytest.raises(UserError) as raised:
        build_networks(cfg, (1, 28, 28), 10, 1)
    name = model.partition("_")[0].upper()
    assert str(raised.value) == (
        f"model.attention=28: {name} has no map of this height in both networks; allowed are null, "
        f"{allowed}"
    )


@pytest.mark.parametrize(
    ("side", "widths", "groups"),
    [(32, [768] * 4, [96] * 4), (64, [768] * 4 + [384], [96] * 4 + [48])],
)
def test_r3gan_is_the_network_of_the_paper(side: int, widths: list[int], groups: list[int]) -> None:
    """Count as arXiv:2501.05441 says, of two blocks for each of the maps from 4x4 on.

    A block of width w has 1x1 convolutions w to 2w and back, and between them a 3x3 one with 2w /
    groups inputs for each output. The first two have biases. Stages of other widths are joined by
    a 1x1 convolution. The first and the last layer have 4x4 numbers for each channel, and are
    linear in 64 latents and to one logit.
    """
    with torch.device("meta"):
        networks = build_networks(compose("model=r3gan"), (3, side, side), 10, 1)
    generator, discriminator = networks
    blocks = sum(
        2 * (2 * (2 * w * w) + 9 * (2 * w) * (2 * w // g) + 2 * (2 * w))
        for w, g in zip(widths, groups, strict=True)
    )
    joints = sum(a * b for a, b in pairs(widths) if a != b)
    shared = blocks + joints + 3 * widths[-1] + 16 * widths[0]
    assert parameters(generator) == shared + 64 * widths[0]
    assert parameters(discriminator) == shared + widths[0]
    kinds = {type(layer).__name__ for layer in [*generator.modules(), *discriminator.modules()]}
    assert not {kind for kind in kinds if "Norm" in kind or "Tanh" in kind}
    assert [path[2].groups for path in paths(generator)] == [g for g in groups for _ in range(2)]


def test_conditional_r3gan_is_the_network_of_the_paper() -> None:
    """Count the parts that come with labels, as the authors' networks for CIFAR-10 have them.

    The generator has a vector of 64 numbers for each of ten classes beside the latent. The
    discriminator has a linear layer from 768 to 768 in place of that to the logit, and a vector of
    768 numbers for each class.
    """

    def count(*overrides: str) -> list[int]:
        with torch.device("meta"):
            networks = build_networks(compose("model=r3gan", *overrides), (3, 32, 32), 10, 1)
        return [parameters(network) for network in networks]

    generator, discriminator = count()
    assert count("model.conditional=true") == [
        generator + 10 * 64 + 64 * 768,
        discriminator - 768 + 768 * 768 + 10 * 768,
    ]
    assert count("model.conditional=true", "model.embed_labels=false") == [
        generator + 10 * 768,
        discriminator + 10 * 768,
    ]


def test_embedded_labels_of_r3gan_are_all_that_tells_classes_apart() -> None:
    generator, discriminator = pair("r3gan, labels embedded", classes=CLASSES)
    assert generator.embedding is not None
    assert discriminator.embedding is not None
    z, labels = inputs(4)
    first = cast(Any, generator.layers[0])
    with torch.no_grad():
        given = torch.cat([z, generator.embedding.weight[labels]], dim=1)
        expected = generator.layers[1:](first.maps * first.linear(given)[:, :, None, None])
        images = generator(z, labels)
        torch.testing.assert_close(images, expected)
        features = discriminator(images, labels, features=True)
        assert features.shape == (4, discriminator.embedding.embedding_dim)
        vectors = discriminator.embedding.weight[labels]
        logits = (features * vectors).sum(dim=1, keepdim=True)
        torch.testing.assert_close(discriminator(images, labels), logits)
        # The logit has no other part: without the vectors it is zero.
        discriminator.embedding.weight.zero_()
        assert not discriminator(images, labels).any()


def test_embedded_labels_of_r3gan_start_with_the_authors_variance() -> None:
    generator, discriminator = build_networks(
        compose("model=r3gan_small", "model.conditional=true"), (1, 28, 28), 1000, 1
    )
    assert isinstance(generator.embedding, nn.Embedding)
    assert isinstance(discriminator.embedding, nn.Embedding)
    spread = generator.embedding.weight.std().item()
    assert spread == pytest.approx(1000**-0.5, rel=0.05)
    spread = discriminator.embedding.weight.std().item()
    assert spread == pytest.approx((1000 * 64) ** -0.5, rel=0.05)


def test_r3gan_starts_as_fixup_says() -> None:
    """The last convolution of each block is zero, and L blocks of 3 layers share the variance.

    The others are drawn with the gain of the LeakyReLU times L^(-1/4), L^(-1/(2m-2)) for m layers
    (arXiv:1901.09321), where L is 4 stages times 2 blocks.
    """
    torch.manual_seed(0)
    generator, discriminator = r3gan_pair(
        image_shape=(3, 32, 32),
        classes=CLASSES,
        pac=1,
        latent_dim=64,
        channels=64,
        cardinality=4,
        halve_above=32,
        blocks=2,
        negative_slope=0.2,
    )
    gain = math.sqrt(2 / (1 + 0.2**2)) * 8 ** (-1 / 4)
    for network in (generator, discriminator):
        assert len(paths(network)) == 8
        for path in paths(network):
            first, _, grouped, _, last = path
            assert not last.weight.any()
            assert last.bias is None
            for layer, fan_in in ((first, 64), (grouped, 9 * 128 // 4)):
                assert not layer.bias.any()
                assert layer.weight.std().item() == pytest.approx(gain / fan_in**0.5, rel=0.05)
    z = torch.randn(6, 64)
    labels = torch.arange(6) % CLASSES
    images = generator(z, labels)
    # Blocks change nothing yet, so the output is two linear layers: no map is larger than it began.
    begin, *_, end = cast(list[Any], generator.layers)
    one_hot = F.one_hot(labels, CLASSES).float()
    h = begin.maps * begin.linear(torch.cat([z, one_hot], dim=1))[:, :, None, None]
    for _ in range(3):
        between_zeros = torch.zeros(*h.shape[:2], 2 * h.shape[2], 2 * h.shape[3])
        between_zeros[:, :, ::2, ::2] = h
        h = 4 * filtered(F.pad(between_zeros, (2, 1, 2, 1)))
    expected = torch.einsum("oc,nchw->nohw", end.weight[:, :, 0, 0], h)
    torch.testing.assert_close(images, expected)
    begin, *_, last_maps, end = cast(list[Any], discriminator.layers)
    h = torch.einsum("oc,nchw->nohw", begin.weight[:, :, 0, 0], images)
    for _ in range(3):
        h = filtered(F.pad(h, (1, 1, 1, 1)))[:, :, ::2, ::2]
    h = F.conv2d(h, last_maps.maps[:, None], groups=64)
    assert discriminator.embedding is not None
    weights = end.weight + discriminator.embedding.weight[labels]
    logits = discriminator(images, labels)
    torch.testing.assert_close(logits, (h[:, :, 0, 0] * weights).sum(1, keepdim=True))


def filtered(maps: Tensor) -> Tensor:
    """Return maps (n, c, h, w) after the filter 1, 3, 3, 1 along both sides, without padding."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for kernel in (row.view(1, 1, 4, 1), row.view(1, 1, 1, 4)):
        each = F.conv2d(maps.flatten(0, 1)[:, None], kernel)
        maps = each.unflatten(0, maps.shape[:2]).squeeze(2)
    return maps


def test_r3gan_blocks_add_their_bottleneck_to_the_map() -> None:
    _, discriminator = pair("r3gan")
    block = next(layer for layer in discriminator.modules() if isinstance(layer, ResidualBlock))
    first, _, grouped, _, last = cast(list[Any], block.residual)
    for weight in block.parameters():
        torch.nn.init.normal_(weight)
    x = torch.randn(2, 4, 5, 5)  # at 28x28, half of the channels of the smallest map
    h = F.leaky_relu(F.conv2d(x, first.weight, first.bias), 0.2)
    # Two groups of four channels each, which do not see each other.
    halves = zip(h.chunk(2, 1), grouped.weight.chunk(2), grouped.bias.chunk(2), strict=True)
    h = torch.cat([F.conv2d(part, w, b, padding=1) for part, w, b in halves], dim=1)
    expected = x + F.conv2d(F.leaky_relu(h, 0.2), last.weight)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("shape", "overrides", "message"),
    [
        (
            (1, 28, 28),
            "model.cardinality=5 model.halve_above=28",
            "model.cardinality=5: must divide 2 * model.channels=128",
        ),
        (
            (3, 64, 64),
            "model.cardinality=4",
            "model.cardinality=4: must divide 2 * model.channels=128; model.channels=64 and "
            "model.cardinality=4 must both be divisible by 8",
        ),
    ],
)
def test_groups_that_do_not_divide_the_channels_are_refused(
    shape: Shape, overrides: str, message: str
) -> None:
    with pytest.raises(UserError) as raised:
        build_networks(compose("model=r3gan_small", *overrides.split()), shape, 10, 1)
    assert str(raised.value) == message


def test_every_size_that_a_model_names_as_nearest_can_be_had() -> None:
    refused = 0
    for height, width in itertools.product(range(8, 80, 3), repeat=2):
        try:
            find_doublings("model", (1, height, width), 3)
        except UserError as error:
            refused += 1
            named = str(error).partition("do are ")[2].partition(";")[0].split(", ")
            assert len(named) == 2
            for size in named:
                h, w = map(int, size.split("x"))
                first, second, doublings = find_doublings("model", (1, h, w), 3)
                assert (first * 2**doublings, second * 2**doublings) == (h, w)
    assert refused > 100
