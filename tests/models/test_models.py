"""Networks of the lab and the papers layer by layer, labels, norms, spectral norm and sizes."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.fx import symbolic_trace
from torch.nn import functional as F

from gan.build import build_networks
from gan.config.compose import compose
from gan.errors import UserError
from gan.models import Discriminator, Generator, dcgan_pair, mlp_pair, sngan_pair

Pair = tuple[Generator, Discriminator]
Shape = tuple[int, ...]

TINY: dict[str, tuple[Callable[..., Pair], dict[str, Any]]] = {
    "mlp": (mlp_pair, {"hidden_dim": 5, "hidden_layers": 3, "negative_slope": 0.2}),
    "dcgan": (dcgan_pair, {"channels": 2, "negative_slope": 0.2}),
    "sngan": (sngan_pair, {"channels": 4}),
}
SHAPES: list[tuple[str, Shape]] = [
    *(("mlp", shape) for shape in [(1, 28, 28), (3, 8, 16), (1, 1, 2), (2,)]),
    *(("dcgan", (c, side, side)) for c in (1, 3) for side in (16, 28, 32, 64, 128)),
    *(("sngan", (c, side, side)) for c in (1, 3) for side in (28, 32)),
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
    """Make a tiny pair with the same norms in both networks."""
    make, settings = TINY[model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(
            image_shape=shape,
            classes=classes,
            pac=pac,
            latent_dim=LATENT_DIM,
            generator_norm=norm,
            discriminator_norm=norm,
            generator_spectral_norm=spectral_norm,
            discriminator_spectral_norm=spectral_norm,
            **settings,
        )


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


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize(("model", "shape"), SHAPES)
def test_samples_logits_and_gradients_have_the_right_shapes_and_ranges(
    model: str, shape: Shape, norm: str
) -> None:
    for classes, pac in ((0, 1), (0, 2), (CLASSES, 1)):
        generator, discriminator = pair(model, shape, classes=classes, pac=pac, norm=norm)
        z, known = inputs(4)
        labels = known if classes else None
        samples = generator(z, labels)
        assert samples.shape == (4, *shape)
        loud = generator(1e4 * z, labels)
        assert loud.isfinite().all()
        assert loud.abs().max() <= 1 or shape == (2,)
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


@pytest.mark.parametrize("model", TINY)
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


@pytest.mark.parametrize("model", TINY)
def test_layer_norm_sees_one_sample_alone(model: str) -> None:
    generator, discriminator = pair(model, norm="layer")
    z, _ = inputs(4)
    torch.testing.assert_close(generator(z)[:1], generator(z[:1]))
    torch.testing.assert_close(discriminator(generator(z))[:1], discriminator(generator(z[:1])))


@pytest.mark.parametrize("model", TINY)
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


@pytest.mark.parametrize("model", TINY)
def test_the_generator_gets_labels_as_one_hot_vectors(model: str) -> None:
    generator, _ = pair(model, classes=CLASSES)
    z, labels = inputs(5)
    manual = generator.layers(torch.cat([z, torch.eye(CLASSES)[labels]], dim=1))
    assert torch.equal(generator(z, labels), manual)
    assert not torch.equal(generator(z, labels), generator(z, (labels + 1) % CLASSES))


@pytest.mark.parametrize("model", TINY)
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
    expected = torch.einsum("nf,nf->n", features[0], weights[labels]) + last.bias
    torch.testing.assert_close(logits, expected[:, None])


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


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("model", TINY)
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
        ("dcgan", (1, 8, 8), "DCGAN: images of 8x8 pixels do not fit; allowed are 16x16, 28x28"),
        ("dcgan", (1, 32, 28), "DCGAN: images of 32x28 pixels"),
        ("dcgan", (3, 256, 256), "DCGAN: images of 256x256 pixels"),
        ("dcgan", (1, 48, 48), "DCGAN: images of 48x48 pixels"),
        ("dcgan", (2,), "DCGAN: makes images, not samples of shape (2,)"),
        (
            "sngan",
            (3, 64, 64),
            "SNGAN: images of 64x64 pixels do not fit; allowed are 28x28, 32x32",
        ),
        ("sngan", (2,), "SNGAN: makes images, not samples of shape (2,)"),
    ],
)
def test_other_image_sizes_are_refused(model: str, shape: Shape, message: str) -> None:
    with pytest.raises(UserError) as raised:
        pair(model, shape)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("model", ["small", "dcgan_small", "sngan model.channels=4"])
def test_weights_depend_only_on_the_seed(model: str) -> None:
    def weights(seed: int, *, before: int = 0) -> Tensor:
        torch.manual_seed(before)
        state = torch.get_rng_state()
        cfg = compose(*f"model={model}".split(), f"seed={seed}", "model.conditional=true")
        both = build_networks(cfg, (1, 28, 28), 10, 1)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([w.flatten() for network in both for w in network.state_dict().values()])

    assert torch.equal(weights(3), weights(3, before=1))
    assert not torch.equal(weights(3), weights(4))


def test_the_number_of_classes_matters_only_to_conditional_models() -> None:
    plain, _ = build_networks(compose("model=small"), (1, 28, 28), 10, 1)
    conditional, judge = build_networks(
        compose("model=small", "model.conditional=true"), (2,), 10, 4
    )
    assert layers(plain)[0] == "Linear(in_features=100, out_features=128, bias=True)"
    assert layers(conditional)[0] == "Linear(in_features=110, out_features=128, bias=True)"
    assert layers(judge)[1] == "Linear(in_features=8, out_features=128, bias=True)"
    assert str(judge.embedding) == "Embedding(10, 128)"
