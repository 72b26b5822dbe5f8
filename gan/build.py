"""From a configuration to the objects it names: the only place that instantiates."""

import inspect
from typing import Any, NamedTuple

import torch
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan import ema
from gan.data import Data
from gan.errors import UserError
from gan.losses import Loss
from gan.optimizers import eager
from gan.penalties import Penalty
from gan.seeds import stream


class Parts(NamedTuple):
    """What a training step works with, all on one device."""

    device: torch.device
    data: Data
    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module | None
    """The generator with averaged weights, where they are asked for."""
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    loss: Loss
    penalty: Penalty | None
    penalty_interval: int
    joint: bool
    """Whether one pass over real and fake samples together is the same as two passes."""
    conditional: bool
    """Whether the networks take labels."""
    latent_dim: int
    n_critic: int
    pac: int
    augment: tuple[str, ...]
    ema_half_life: float
    ema_ramp_up: float | None
    bf16: bool
    """Whether the networks run in bfloat16 where that is safe; weights stay float32."""


def build(cfg: DictConfig, data: Data | None = None) -> Parts:
    """Everything a run needs; the weights are drawn from `cfg.seed`.

    Args:
        data: what `load_data` gave for the same settings, where runs share it.

    Raises:
        UserError: the device is not there, the data cannot be had or are fewer than a batch, or
            the model or the augmentation does not fit them.
    """
    device = find_device(cfg.device)
    if cfg.trainer.cuda_graphs and device.type != "cuda":
        raise UserError(f"trainer.cuda_graphs=true: needs a CUDA device, not {device}")
    data = data or load_data(cfg)
    if cfg.trainer.batch_size > data.size:
        raise UserError(
            f"trainer.batch_size={cfg.trainer.batch_size}: must be at most {data.size}, "
            "the size of the data set"
        )
    if cfg.trainer.augment and len(data.shape) != 3:
        raise UserError(f"trainer.augment={list(cfg.trainer.augment)}: must be [] but for images")
    pair = networks(cfg, data.shape, data.classes, cfg.trainer.pac)
    generator, discriminator = (_placed(network, device) for network in pair)
    penalty = plain_settings(cfg.penalty)
    penalty_interval = penalty.pop("interval")
    return Parts(
        device=device,
        data=data,
        generator=generator,
        discriminator=discriminator,
        average=ema.averaged(generator) if cfg.trainer.ema_half_life else None,
        generator_optimizer=_optimizer(optimizer_settings(cfg, "generator"), generator),
        discriminator_optimizer=_optimizer(optimizer_settings(cfg, "discriminator"), discriminator),
        loss=instantiate(plain_settings(cfg.loss)),
        penalty=instantiate(penalty) if penalty["_target_"] else None,
        penalty_interval=penalty_interval,
        joint=not any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()),
        conditional=cfg.model.conditional,
        latent_dim=cfg.model.latent_dim,
        n_critic=cfg.trainer.n_critic,
        pac=cfg.trainer.pac,
        augment=tuple(cfg.trainer.augment),
        ema_half_life=cfg.trainer.ema_half_life or 0.0,
        ema_ramp_up=cfg.trainer.ema_ramp_up,
        bf16=cfg.trainer.precision == "bf16",
    )


def load_data(cfg: DictConfig) -> Data:
    """The data set, on the run's device.

    Raises:
        UserError: the data cannot be had, or the device is not there.
    """
    # Called by us: what Hydra calls raises Hydra's errors.
    data: Data = instantiate(plain_settings(cfg.data), _partial_=True)().to(find_device(cfg.device))
    return data


def networks(
    cfg: DictConfig, image_shape: tuple[int, ...], classes: int, pac: int
) -> tuple[nn.Module, nn.Module]:
    """The generator and the discriminator on the CPU; the global random state is left alone.

    Args:
        image_shape: of one sample.
        classes: of the data; they count where `cfg.model.conditional`.
        pac: samples that the discriminator sees at once.

    Raises:
        UserError: the model cannot make samples of that shape.
    """
    settings = plain_settings(cfg.model)
    conditional = settings.pop("conditional")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(cfg.seed, "weights"))
        pair: tuple[nn.Module, nn.Module] = instantiate(settings, _partial_=True)(
            image_shape=image_shape, classes=classes if conditional else 0, pac=pac
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


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on its device. Convolutions on a GPU's tensor cores want channels last."""
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device)


def optimizer_settings(cfg: DictConfig, role: str) -> dict[str, Any]:
    """The target and the settings of the "generator"'s or "discriminator"'s optimizer."""
    if role == "generator":
        return plain_settings(cfg.optimizer)
    settings = plain_settings(cfg.discriminator_optimizer)
    return (
        settings if settings["_target_"] else plain_settings(cfg.optimizer) | {"lr": settings["lr"]}
    )


def _optimizer(settings: dict[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    if "fused" in inspect.signature(get_method(settings["_target_"])).parameters:
        settings["fused"] = True
    make = instantiate(settings, _partial_=True)
    return eager(make.func)(network.parameters(), **make.keywords)


def plain_settings(group: DictConfig) -> dict[str, Any]:
    """Plain values: an optimizer keeps them in its state, which is saved."""
    settings = OmegaConf.to_container(group, resolve=True)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}
