"""The networks: the lab's architecture to the layer, and images of other shapes."""

import pytest
import torch
from torch import nn

from gan.build import networks
from gan.compose import compose
from gan.models import mlp_pair


def layers(network: nn.Module) -> list[str]:
    sequence = network.layers
    assert isinstance(sequence, nn.Sequential)
    return [str(layer) for layer in sequence]


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_the_labs_networks() -> None:
    generator, discriminator = networks(compose("experiment=lab"), (1, 28, 28))
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


def test_the_lab_is_the_labs_recipe() -> None:
    cfg = compose("experiment=lab")
    assert cfg.data._target_ == "gan.data.mnist"
    assert cfg.optimizer._target_ == "torch.optim.Adam"
    assert (cfg.optimizer.lr, cfg.optimizer.discriminator_lr) == (2e-4, 2e-4)
    assert list(cfg.optimizer.betas) == [0.9, 0.999]
    assert cfg.loss._target_ == "gan.losses.non_saturating"
    assert cfg.penalty._target_ is None
    assert (cfg.trainer.batch_size, cfg.trainer.max_epochs, cfg.trainer.max_steps) == (
        128,
        30,
        None,
    )
    assert cfg.logging.every == 100


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 16), (1, 1, 2)])
def test_shapes_and_ranges(shape: tuple[int, int, int]) -> None:
    generator, discriminator = mlp_pair(
        image_shape=shape, latent_dim=7, hidden_dim=5, hidden_layers=3, negative_slope=0.2
    )
    images = generator(100 * torch.randn(4, 7))
    assert images.shape == (4, *shape)
    assert images.abs().max() <= 1
    logits = discriminator(images)
    assert logits.shape == (4, 1)
    assert sum(isinstance(layer, nn.Linear) for layer in discriminator.modules()) == 4


def test_weights_come_from_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed + 100)
        before = torch.get_rng_state()
        pair = networks(compose("model=small", "seed=3"), (1, 28, 28))
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([w.flatten() for network in pair for w in network.parameters()])

    assert torch.equal(weights(0), weights(1))
    other = networks(compose("model=small", "seed=4"), (1, 28, 28))
    flat = torch.cat([w.flatten() for network in other for w in network.parameters()])
    assert not torch.equal(weights(0), flat)
