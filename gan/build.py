"""From a configuration to the objects it names: the only place that instantiates."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan.data import ImageData
from gan.errors import UserError
from gan.losses import Loss
from gan.seeds import stream

Penalty = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
"""Of (discriminator, real images, fake images), a scalar."""


class Parts(NamedTuple):
    """What a training step works with, all on one device."""

    device: torch.device
    data: ImageData
    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    joint: bool
    """Whether one pass over real and fake images together is the same as two passes."""
    loss: Loss
    penalty: Penalty | None
    penalty_interval: int


def build(cfg: DictConfig) -> Parts:
    """Everything a run needs; the weights are drawn from `cfg.seed`.

    Raises:
        UserError: the device is not there, the data cannot be had, or the data set is smaller
            than a batch or than the images to compare with.
    """
    device = find_device(cfg.device)
    data = ImageData(*(tensor.to(device) for tensor in instantiate(_settings(cfg.data))))
    for name, count in [("trainer.batch_size", cfg.trainer.batch_size)] + (
        [("metrics.samples", cfg.metrics.samples)] if cfg.metrics.names else []
    ):
        if count > len(data.images):
            size = len(data.images)
            raise UserError(f"{name}={count}: must be at most {size}, the size of the data set")
    generator, discriminator = networks(cfg, tuple(data.images.shape[1:]))
    generator, discriminator = generator.to(device), discriminator.to(device)
    penalty = _settings(cfg.penalty)
    penalty_interval = penalty.pop("interval")
    return Parts(
        device=device,
        data=data,
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=_optimizer(cfg, generator, cfg.optimizer.lr),
        discriminator_optimizer=_optimizer(cfg, discriminator, cfg.optimizer.discriminator_lr),
        joint=not any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()),
        loss=instantiate(_settings(cfg.loss)),
        penalty=instantiate(penalty, _partial_=True) if penalty["_target_"] else None,
        penalty_interval=penalty_interval,
    )


def networks(cfg: DictConfig, image_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator on the CPU; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(cfg.seed, "weights"))
        pair: tuple[nn.Module, nn.Module] = instantiate(_settings(cfg.model), _partial_=True)(
            image_shape=image_shape
        )
    return pair


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UserError: this machine has no such device.
    """
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    found += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    wanted = {"auto": found[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in found:
        raise UserError(f"device={name}: not on this machine, which has {', '.join(found)}")
    return torch.device(wanted)


def _optimizer(cfg: DictConfig, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    settings = _settings(cfg.optimizer) | {"lr": lr}
    del settings["discriminator_lr"]
    if "fused" in inspect.signature(get_method(cfg.optimizer._target_)).parameters:
        settings["fused"] = True
    optimizer: torch.optim.Optimizer = instantiate(settings, _partial_=True)(network.parameters())
    return optimizer


def _settings(group: DictConfig) -> dict[str, Any]:
    """Plain values: an optimizer keeps them in its state, which is saved."""
    settings = OmegaConf.to_container(group, resolve=True)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}
