"""Build the objects that a configuration names. Only this module instantiates them."""

import copy
import inspect
import math
import os
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from gan import ema
from gan.arithmetic import new_loss_scale
from gan.augment import Ada, pack
from gan.config.checks import plain
from gan.config.curves import read_curves, steps_per_unit
from gan.config.schema import TARGET_GROUPS
from gan.config.signatures import Signature, import_target, read_signature
from gan.data import Data
from gan.data.base import check_data
from gan.distributed.processes import current_processes
from gan.errors import UserError, first_line, is_out_of_memory
from gan.losses import Loss, as_loss
from gan.penalties import Consistency, Penalty, as_penalty, require_scalar
from gan.schedules import Schedule, curve
from gan.seeds import derive_seed, seeded

THREADS_PER_CORE = 4
"""The number of threads of a core at most. The system refuses a process tens of thousands."""
_WRONG_PATH = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

Part = TypeVar("Part", Loss, Penalty)


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
    make_loss: Callable[..., Loss]
    """Makes the same loss anew, with the state that it has before the first step. Settings by name
    take the place of its own."""
    make_penalty: Callable[..., Penalty | None]
    penalty_interval: int
    one_pass: bool
    """True if real and fake samples may be judged in one pass: the discriminator says that it
    judges each sample alone, and it has no batch norm."""
    conditional: bool
    """True if the networks take labels."""
    latent_dim: int
    n_critic: int
    pac: int
    augment: tuple[str, ...]
    augment_p: float
    """The probability with which each augmentation changes each image, or the largest one."""
    ada: Ada | None
    """The aim of the probability, if `trainer.ada_target` adapts it."""
    consistency: Consistency | None
    flip: bool
    """True if each real image is mirrored with a probability of 1/2 when it is drawn."""
    ema_half_life: float
    ema_ramp_up: float | None
    autocast: torch.dtype | None
    """The type of numbers in which the networks run where that is safe, bfloat16 or float16; None
    for float32. Weights stay float32."""
    loss_scales: dict[str, Tensor]
    """The loss scale of each network, see `new_loss_scale`; empty without float16."""


def build(cfg: DictConfig, data: Data | None = None) -> Parts:
    """Build everything that a run needs. The weights are drawn from `cfg.seed`.

    Args:
        data: the result of `load_data` for the same settings, where runs share it.

    Raises:
        UserError: the device is not there, the data cannot be loaded or hold less than a batch,
            or the model or the augmentation does not fit the data.
    """
    device, trainer = find_device(cfg.device), cfg.trainer
    most = THREADS_PER_CORE * (os.cpu_count() or 1)
    if cfg.threads and cfg.threads > most:
        raise UserError(
            f"threads={cfg.threads}: must be at most {most} on this machine, which has "
            f"{os.cpu_count()} cores"
        )
    if trainer.cuda_graphs and device.type != "cuda":
        raise UserError(f"trainer.cuda_graphs=true: needs a CUDA device, not {device}")
    if trainer.precision == "fp16" and device.type != "cuda":
        raise UserError(
            f"trainer.precision=fp16: needs a CUDA device, not {device}; bf16 needs none"
        )
    data = data or load_data(cfg)
    if trainer.batch_size > data.size:
        raise UserError(
            f"trainer.batch_size={trainer.batch_size}: must be at most {data.size}, "
            "the size of the data set"
        )
    for name in ("augment", "consistency"):
        if trainer.get(name) and len(data.shape) != 3:
            raise UserError(
                f"trainer.{name}={list(trainer[name])}: works on images alone; leave it [] for "
                "these data"
            )
    if trainer.get("flip") and len(data.shape) != 3:
        raise UserError("trainer.flip=true: works on images alone; leave it false for these data")
    # Runs of earlier versions lack some of the keys.
    target = trainer.get("ada_target")
    generator, discriminator = (
        _place(network, device)
        for network in build_networks(cfg, data.shape, data.classes, trainer.pac)
    )
    logit_shape = check_shapes(cfg, (generator, discriminator), data, device)
    make_loss, make_penalty = partial(build_loss, cfg, device), partial(build_penalty, cfg, device)
    penalty = make_penalty()
    if penalty and penalty.uses_features and not offers_features(discriminator):
        raise UserError(
            f"penalty._target_={cfg.penalty._target_}: needs the discriminator's features, but the "
            f"forward of the one from model._target_={cfg.model._target_} takes no `features`"
        )
    shape = (trainer.batch_size // trainer.pac, *logit_shape)
    _try_loss(f"loss._target_={cfg.loss._target_}", make_loss(), shape, device)
    loss = make_loss()
    states = {"loss": loss.state, "penalty": penalty and penalty.state}
    for key in read_curves(cfg):
        group = key.partition(".")[0]
        if states.get(group):
            raise UserError(
                f"schedule.{key}: {group}._target_={cfg[group]._target_} keeps a state from step "
                "to step, and a number that changes would make it anew; leave it constant"
            )
    return Parts(
        device=device,
        data=data,
        generator=generator,
        discriminator=discriminator,
        averaged_generator=ema.start_average(generator) if trainer.ema_half_life else None,
        generator_optimizer=_build_optimizer(cfg, "generator", generator),
        discriminator_optimizer=_build_optimizer(cfg, "discriminator", discriminator),
        loss=loss,
        penalty=penalty,
        make_loss=make_loss,
        make_penalty=make_penalty,
        penalty_interval=cfg.penalty.interval,
        one_pass=getattr(discriminator, "judges_each_sample_alone", False)
        and not any(isinstance(layer, _BatchNorm) for layer in discriminator.modules()),
        conditional=cfg.model.conditional,
        latent_dim=cfg.model.latent_dim,
        n_critic=trainer.n_critic,
        pac=trainer.pac,
        augment=tuple(trainer.augment),
        augment_p=trainer.get("augment_p", 1.0),
        ada=None if target is None else Ada(target, trainer.ada_images),
        consistency=Consistency(
            tuple(trainer.consistency), (trainer.consistency_real, trainer.consistency_fake)
        )
        if trainer.get("consistency")
        else None,
        flip=trainer.get("flip", False),
        ema_half_life=trainer.ema_half_life or 0.0,
        ema_ramp_up=trainer.ema_ramp_up,
        autocast={"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.precision),
        loss_scales={
            role: new_loss_scale(device)
            for role in ("generator", "discriminator")
            if trainer.precision == "fp16"
        },
    )


def load_data(cfg: DictConfig, device: torch.device | None = None) -> Data:
    """Load the data set on a device, the run's own if None.

    Raises:
        UserError: the data cannot be loaded or are no data set, or the device is not there.
    """
    device = device or find_device(cfg.device)
    data: Data = call_target("data", plain(cfg.data))
    try:
        check_data(data)
    except UserError as error:
        raise UserError(f"data._target_={cfg.data._target_}: {error}") from error
    return data.to(device)


def call_target(group: str, settings: dict[str, Any], **given: Any) -> Any:
    """Call the function that an option of a config group names, and return what it makes.

    Args:
        settings: the option as plain values, which an optimizer may keep in its state.
        given: further arguments, left out where the function does not take them.

    Raises:
        UserError: the function cannot be imported, or does not accept its arguments.
    """
    target, own = settings["_target_"], TARGET_GROUPS[group].own
    signature = read_signature(target)
    # A key that the program reads itself may be a parameter as well.
    left_out = {"_target_", *own} - signature.settings.keys()
    arguments = {n: v for n, v in settings.items() if n not in left_out}
    arguments |= {n: _as_paths(v) for n, v in arguments.items() if _takes_paths(signature, n)}
    arguments |= {n: v for n, v in given.items() if n in signature.settings or signature.takes_any}
    function = find_target(group, target)
    try:
        return function(**arguments)
    except (UserError, RuntimeError, MemoryError):
        # Another attempt may succeed, or the whole traceback tells more.
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, _WRONG_PATH):
            raise
        place = _place_of(error, function)
        raise UserError(f"{group}._target_={target}: {first_line(error)}{place}") from error


def _try_loss(where: str, loss: Loss, shape: tuple[int, ...], device: torch.device) -> None:
    """Check that a loss can be computed and differentiated.

    Args:
        loss: is not used any more, as it may remember these logits.
        shape: the shape of a batch of logits.

    Raises:
        UserError: it cannot be called with logits, or its value does not depend on them.
    """
    functions = {"discriminator": loss.discriminator, "generator": loss.generator}
    with seeded(derive_seed(0, "logits"), device):
        real, fake = (torch.randn(shape, device=device, requires_grad=True) for _ in range(2))
        for role, function in functions.items():
            try:
                value = require_scalar(function(real, fake), "loss")
            except UserError:
                raise
            except Exception as error:
                raise UserError(
                    f"{where}: its {role} cannot be called with logits {shape} of real and of "
                    f"fake samples ({first_line(error)})"
                ) from error
            if not value.requires_grad:
                raise UserError(f"{where}: the value of its {role} does not depend on the logits")


def _takes_paths(signature: Signature, name: str) -> bool:
    return name in signature.settings and "path" in signature.settings[name].limits


def _as_paths(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_paths(item) for item in value]
    return Path(value) if isinstance(value, str) and "://" not in value else value


def _place_of(error: Exception, function: Callable[..., Any]) -> str:
    """Return the file of a function and the line in it that led to an error, in brackets."""
    try:
        file = inspect.getsourcefile(function)
    except (TypeError, OSError):
        # It is built in, or stands in a cell of a notebook.
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f" ({file}, line {lines[-1]})" if lines else ""


def find_target(group: str, target: str) -> Callable[..., Any]:
    """Return the function that an option of a config group names.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        found: Callable[..., Any] = import_target(target)
    except UserError as error:
        raise UserError(f"{group}._target_={target}: {error}") from error
    return found


def build_loss(cfg: DictConfig, device: torch.device, **changed: float) -> Loss:
    """Build the loss. One that is a module is moved to the device; what it draws is seeded.

    Args:
        changed: settings that take the place of those of `cfg`.

    Raises:
        UserError: the target returns something that is no loss.
    """
    return _build_part(cfg, "loss", as_loss, device, changed)


def build_penalty(cfg: DictConfig, device: torch.device, **changed: float) -> Penalty | None:
    """Build the penalty, if there is one, in the same way as the loss.

    Raises:
        UserError: the target returns something that is no penalty.
    """
    if not cfg.penalty._target_:
        return None
    return _build_part(cfg, "penalty", as_penalty, device, changed)


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
    with seeded(derive_seed(cfg.seed, "weights")):
        networks: tuple[nn.Module, nn.Module] = call_target(
            "model",
            plain(cfg.model),
            image_shape=image_shape,
            classes=classes if cfg.model.conditional else 0,
            pac=pac,
        )
    if not (
        isinstance(networks, tuple | list)
        and len(networks) == 2
        and all(isinstance(network, nn.Module) for network in networks)
    ):
        raise UserError(
            f"model._target_={cfg.model._target_}: must return two networks, a generator and a "
            f"discriminator, not {type(networks).__name__}"
        )
    return networks


def check_shapes(
    cfg: DictConfig, networks: tuple[nn.Module, nn.Module], data: Data, device: torch.device
) -> tuple[int, ...]:
    """Check that networks make samples of the data's shape and logits of such samples.

    The networks and the random state stay as they are.

    Returns:
        The shape of the logits of one sample: (1,), or (1, height, width) for patches.

    Raises:
        UserError: a network cannot be called, or returns another shape.
    """
    pac, where = cfg.trainer.pac, f"model._target_={cfg.model._target_}"
    generator, discriminator = (_copied(where, network).eval() for network in networks)
    z = torch.zeros(2 * pac, cfg.model.latent_dim, device=device)
    labels = torch.zeros(len(z), dtype=torch.int64, device=device)
    given = (labels,) if cfg.model.conditional else ()
    with torch.no_grad(), seeded(derive_seed(cfg.seed, "shapes"), device):
        samples = _call(where, "generator", generator, z, *given)
        if samples.shape != (len(z), *data.shape):
            raise UserError(
                f"{where}: its generator returns samples {tuple(samples.shape[1:])}, and those of "
                f"the data are {data.shape}"
            )
        logits = _call(where, "discriminator", discriminator, pack(samples, pac), *given)
        one = tuple(labels[:pac] for labels in given)
        few = f"trainer.batch_size={cfg.trainer.batch_size}: is too few for {where}"
        # A batch norm cannot train on one row.
        if cfg.trainer.batch_size == 1:
            _call(few, "generator", generator.train(), z[:1], *one)
        if cfg.trainer.batch_size == pac:
            _call(few, "discriminator", discriminator.train(), pack(samples[:pac], pac), *one)
    # A discriminator of patches returns a map of logits.
    if logits.shape[:2] != (2, 1) or logits.dim() not in (2, 4):
        raise UserError(
            f"{where}: its discriminator must return logits (batch, 1), or (batch, 1, height, "
            f"width) of patches, not {tuple(logits.shape)} for a batch of 2"
        )
    return tuple(logits.shape[1:])


def _copied(where: str, network: nn.Module) -> nn.Module:
    """Return a copy of a network.

    Raises:
        UserError: it cannot be copied, or has weights whose shape is not known yet.
    """
    if any(isinstance(weight, UninitializedParameter) for weight in network.parameters()):
        raise UserError(
            f"{where}: has lazy layers; give them their sizes, or call the networks once before "
            "they are returned"
        )
    try:
        return copy.deepcopy(network)
    except Exception as error:
        raise UserError(
            f"{where}: its networks cannot be copied ({first_line(error)}); in place of "
            "torch.nn.utils.weight_norm take torch.nn.utils.parametrizations.weight_norm"
        ) from error


def _call(where: str, role: str, network: nn.Module, *given: Tensor) -> Tensor:
    try:
        output = network(*given)
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{where}: its {role} cannot be called ({first_line(error)})") from error
    if not isinstance(output, Tensor):
        raise UserError(f"{where}: its {role} returns {type(output).__name__}, not a tensor")
    return output


def build_schedules(cfg: DictConfig, total_steps: int) -> dict[str, Schedule]:
    """Return the numbers that change while a run trains, each as a function of the step.

    Their names are those of `gan.functional.tensors.hyperparameters`, such as "penalty/gamma" and
    "generator_optimizer/beta2", and "trainer/KEY" for a key of the trainer.

    Args:
        total_steps: the step at which training ends.
    """
    found: dict[str, Schedule] = {}
    if cfg.schedule._target_ is not None:
        factor: Schedule = call_target("schedule", plain(cfg.schedule), total_steps=total_steps)
        _check_factor(f"schedule._target_={cfg.schedule._target_}", factor, total_steps)
        for role in ("generator", "discriminator"):
            lr = optimizer_settings(cfg, role)["lr"]
            found[f"{role}_optimizer/lr"] = partial(_multiplied, lr, factor)
    # In the order of the groups, so that a curve of the discriminator's own comes last.
    for key, read in read_curves(cfg).items():
        group, _, number = key.partition(".")
        steps = steps_per_unit(cfg, total_steps)[read.unit]
        schedule = partial(_at_step, curve(read.values, read.at, read.shape), steps)
        if group != "optimizer":
            found[f"{group}/{number}"] = schedule
            continue
        found[f"generator_optimizer/{number}"] = schedule
        own = cfg.discriminator_optimizer
        if own._target_:
            continue
        if number == "lr":
            # Both rates change in the same proportion.
            schedule = partial(_multiplied, own.lr / cfg.optimizer.lr, schedule)
        found[f"discriminator_optimizer/{number}"] = schedule
    return found


def _check_factor(where: str, factor: Any, total_steps: int) -> None:
    """Check that a schedule is a function of the step, at the first step and at the last one.

    Raises:
        UserError: it cannot be called, or returns something else than a number from 0 on.
    """
    for step in dict.fromkeys((0, max(total_steps - 1, 0))):
        try:
            value = factor(step)
        except Exception as error:
            raise UserError(
                f"{where}: must return a function of the step; at {step}, {first_line(error)}"
            ) from error
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value >= 0):
            raise UserError(
                f"{where}: must give a number that is at least 0 for a step, and gives "
                f"{value!r} for {step}"
            )


def _multiplied(number: float, factor: Schedule, step: int) -> float:
    return number * factor(step)


def _at_step(value: Callable[[float], float], steps_per_unit: float, step: int) -> float:
    return value(step / steps_per_unit)


def offers_features(network: nn.Module) -> bool:
    """Return whether a discriminator returns its features if `features=True` is passed to it."""
    return "features" in inspect.signature(network.forward).parameters


def find_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Of several processes, each takes a GPU of its own.

    Raises:
        UserError: this machine has no such device.
    """
    available = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    available += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    wanted = {"auto": available[0], "cuda": "cuda:0"}.get(name, name)
    if processes := current_processes():
        wanted = processes.device_name(name, torch.cuda.device_count())
    if wanted not in available:
        hint, visible = "", os.environ.get("CUDA_VISIBLE_DEVICES")
        if wanted.startswith("cuda") and not torch.backends.cuda.is_built():
            hint = "; this torch was built without CUDA"
        elif wanted.startswith("cuda") and visible is not None:
            hint = f"; CUDA_VISIBLE_DEVICES={visible} hides others"
        there = ", ".join(available)
        raise UserError(f"device={name}: not on this machine, which has {there}{hint}")
    return torch.device(wanted)


def optimizer_settings(cfg: DictConfig, role: str) -> dict[str, Any]:
    """Return the target and the settings of the "generator"'s or "discriminator"'s optimizer."""
    settings = plain(cfg.optimizer)
    if role == "generator":
        return settings
    own = plain(cfg.discriminator_optimizer)
    return own if own["_target_"] else settings | {"lr": own["lr"]}


def trained_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of a network that training changes, by name: all but frozen ones."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def torch_class(optimizer: Optimizer) -> type[Optimizer]:
    """Return the class of torch.optim that an optimizer was made from, or its own class."""
    return getattr(optimizer, "torch_class", type(optimizer))


def _place(network: nn.Module, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        # The tensor cores of a GPU want the channels of convolutions last.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(device)


def _build_optimizer(cfg: DictConfig, role: str, network: nn.Module) -> Optimizer:
    settings = optimizer_settings(cfg, role)
    target = settings.pop("_target_")
    if "fused" in read_signature(target).settings:
        settings["fused"] = True
    own = role == "discriminator" and cfg.discriminator_optimizer._target_
    group = "discriminator_optimizer" if own else "optimizer"
    make = without_compiler(find_target(group, target))
    try:
        _try_step(partial(make, **settings))
        optimizer: Optimizer = make(trained_weights(network).values(), **settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{group}._target_={target}: cannot train these networks ({first_line(error)})"
        ) from error
    return optimizer


def _build_part(
    cfg: DictConfig,
    group: str,
    convert: Callable[[Any], Part],
    device: torch.device,
    changed: Mapping[str, float],
) -> Part:
    with seeded(derive_seed(cfg.seed, group), device):
        made = call_target(group, plain(cfg[group]) | dict(changed))
    try:
        part = convert(made)
    except TypeError as error:
        raise UserError(f"{group}._target_={cfg[group]._target_}: {error}") from error
    if isinstance(part.state, nn.Module):
        part.state.to(device)
    return part


def _try_step(make: Callable[..., Any]) -> None:
    """Make a step of a small weight, which fails for optimizers that need more than gradients.

    Some need a closure, others sparse gradients.
    """
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    make([weight]).step()


def without_compiler(optimizer: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same optimizer class without torch's hooks for torch.compile.

    torch wraps the methods of its optimizers so that making one imports the compiler, which takes
    a second. Classes from elsewhere are returned as they are. `differentiable=True` has no effect.
    """
    if not isinstance(optimizer, type) or not optimizer.__module__.startswith("torch.optim."):
        return optimizer
    wrapped = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in wrapped}
    methods["step"] = torch.no_grad()(methods["step"])
    return type(optimizer.__name__, (optimizer,), methods | {"torch_class": optimizer})
