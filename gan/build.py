"""Build the objects that a configuration names. Only this module instantiates them."""

import inspect
from typing import Any, NamedTuple

import torch
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from gan import ema
from gan.data import Data
from gan.errors import UserError
from gan.losses import Loss
from gan.penalties import Penalty
from gan.seeds import stream


class Parts(NamedTuple):
    """Everything that a training step works with, on one device."""

    device: torch.device
    data: Data
    generator: nn.Module
    discriminator: nn.Module
    averaged_generator: nn.Module | None
    """The generator with averaged weights, if `trainer.ema_half_life` asks for it."""
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    loss: Loss
    penalty: Penalty | None
    penalty_interval: int
    one_pass: bool
    """True if real and fake samples may be judged in one pass: there is no batch norm."""
    conditional: bool
    """True if the networks take labels."""
    latent_dim: int
    n_critic: int
    pac: int
    augment: tuple[str, ...]
    ema_half_life: float
    ema_ramp_up: float | None
    bf16: bool
    """True if the networks run in bfloat16 where that is safe. Weights stay float32."""


def build(cfg: DictConfig, data: Data | None = None) -> Parts:
    """Build everything that a run needs. The weights are drawn from `cfg.seed`.

    Args:
        data: the result of `load_data` for the same settings, where runs share it.

    Raises:
        UserError: the device is not there, the data cannot be loaded or hold less than a batch,
            or the model or the augmentation does not fit the data.
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
    generator, discriminator = (
        _place(network, device)
        for network in build_networks(cfg, data.shape, data.classes, cfg.trainer.pac)
    )
    penalty = plain_settings(cfg.penalty)
    penalty_interval = penalty.pop("interval")
    return Parts(
        device=device,
        data=data,
        generator=generator,
        discriminator=discriminator,
        averaged_generator=ema.start_average(generator) if cfg.trainer.ema_half_life else None,
        generator_optimizer=_build_optimizer(optimizer_settings(cfg, "generator"), generator),
        discriminator_optimizer=_build_optimizer(
            optimizer_settings(cfg, "discriminator"), discriminator
        ),
        loss=instantiate(plain_settings(cfg.loss)),
        penalty=instantiate(penalty) if penalty["_target_"] else None,
        penalty_interval=penalty_interval,
        one_pass=not any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()),
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
    """Load the data set on the run's device.

    Raises:
        UserError: the data cannot be loaded, or the device is not there.
    """
    # The target is called here and not by Hydra, which would wrap its errors in its own.
    data: Data = instantiate(plain_settings(cfg.data), _partial_=True)().to(find_device(cfg.device))
    return data


def build_networks(
    cfg: DictConfig, image_shape: tuple[int, ...], classes: int, pac: int
) -> tuple[nn.Module, nn.Module]:
    """Build the generator and the discriminator on the CPU.

    The global random state stays as it is.

    Args:
        image_shape: the shape of one sample.
        classes: the number of classes of the data, used if `cfg.model.conditional`.
        pac: the number of samples that the discriminator judges at once.

    Raises:
        UserError: the model cannot make samples of that shape.
    """
    settings = plain_settings(cfg.model)
    conditional = settings.pop("conditional")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(cfg.seed, "weights"))
        networks: tuple[nn.Module, nn.Module] = instantiate(settings, _partial_=True)(
            image_shape=image_shape, classes=classes if conditional else 0, pac=pac
        )
    return networks


def find_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UserError: this machine has no such device.
    """
    available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    available += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    wanted = {"auto": available[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in available:
        raise UserError(f"device={name}: not on this machine, which has {', '.join(available)}")
    return torch.device(wanted)


def optimizer_settings(cfg: DictConfig, role: str) -> dict[str, Any]:
    """Return the target and the settings of the "generator"'s or "discriminator"'s optimizer."""
    settings = plain_settings(cfg.optimizer)
    if role == "generator":
        return settings
    own = plain_settings(cfg.discriminator_optimizer)
    return own if own["_target_"] else settings | {"lr": own["lr"]}


def plain_settings(group: DictConfig) -> dict[str, Any]:
    """Return a config group as plain values, which an optimizer can keep in its state."""
    settings = OmegaConf.to_container(group, resolve=True)
    assert isinstance(settings, dict)
    return {str(name): value for name, value in settings.items()}


def torch_class(optimizer: Optimizer) -> type[Optimizer]:
    """Return the class of torch.optim that an optimizer was made from, or its own class."""
    return getattr(optimizer, "torch_class", type(optimizer))


def _place(network: nn.Module, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        # The tensor cores of a GPU want the channels of convolutions last.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device)


def _build_optimizer(settings: dict[str, Any], network: nn.Module) -> Optimizer:
    if "fused" in inspect.signature(get_method(settings["_target_"])).parameters:
        settings["fused"] = True
    # Lists stay plain, because an optimizer may keep them in its state, which is saved.
    make = instantiate(settings, _partial_=True, _convert_="all")
    return without_compiler(make.func)(network.parameters(), **make.keywords)


def without_compiler(optimizer: type[Optimizer]) -> type[Optimizer]:
    """Return the same optimizer class without torch's hooks for torch.compile.

    torch wraps the methods of its optimizers so that making one imports the compiler, which takes
    a second. Classes from elsewhere are returned as they are. `differentiable=True` has no effect.
    """
    if not optimizer.__module__.startswith("torch.optim."):
        return optimizer
    wrapped = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in wrapped}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods | {"torch_class": optimizer})
