"""Curves of numbers that change while a run trains.

Below the group `schedule`, the configuration is mirrored: `schedule.penalty.gamma` is the curve of
`penalty.gamma`. This module imports no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.schema import CURVE_GROUPS, CurveKeys, Trainer, settings_of
from gan.config.values import broken_limit, explain_value, shown
from gan.errors import UserError, nearest

SCHEDULED_OF_TRAINER = ("ema_half_life", "augment_p")
"""Keys of the group `trainer` that may change while a run trains."""

BETAS = ("beta1", "beta2")
"""Names of the two numbers of the key `betas` of an optimizer."""


class Curve(NamedTuple):
    """The values of a number while a run trains. Before the first and after the last place, it
    stays as it is there."""

    values: tuple[float, ...]
    at: tuple[float, ...]
    """The place of each value, ascending, in `unit`."""
    unit: str
    """share (of the run's length), steps or images."""
    shape: str
    """The way from one value to the next: linear, cosine (half a wave) or step (at once)."""


class _Number(NamedTuple):
    """A number of the configuration that may have a curve."""

    key: str
    """The key that sets it, such as "optimizer.betas"."""
    value: float | None
    limits: Mapping[str, Any]


def completed(schedule: dict[str, Any]) -> dict[str, Any]:
    """Return the group `schedule` as plain values, with all keys of each curve.

    Raises:
        UserError: a curve has a key that curves do not have, or lacks one.
    """
    return schedule | {
        group: {name: _completed(f"schedule.{group}.{name}", curve) for name, curve in node.items()}
        for group, node in schedule.items()
        if group in CURVE_GROUPS and isinstance(node, dict)
    }


def read_curves(cfg: DictConfig) -> dict[str, Curve]:
    """Return the curves of a configuration by the number that each one changes.

    Returns:
        Curves by names such as "penalty.gamma" and "optimizer.beta2".

    Raises:
        UserError: a curve is of no number of this configuration, leaves the number's range, or its
            places do not ascend.
    """
    found = {}
    for group, name, curve in _curves(cfg):
        key = f"schedule.{group}.{name}"
        found[f"{group}.{name}"] = _read_curve(key, curve, _find_number(cfg, group, name))
    for name in ("optimizer.lr", "discriminator_optimizer.lr"):
        if name in found and cfg.schedule._target_:
            raise UserError(
                f"schedule.{name}: schedule._target_={cfg.schedule._target_} changes the learning "
                "rates, too; set one of them to null"
            )
    return found


def steps_per_unit(cfg: DictConfig, total_steps: int) -> dict[str, float]:
    """Return the number of steps in each unit that the places of a curve may have."""
    return {"share": total_steps, "steps": 1, "images": 1 / cfg.trainer.batch_size}


def unreached_curves(cfg: DictConfig, total_steps: int) -> list[str]:
    """Return a warning for each curve that goes on after the end of a run, one line each."""
    steps = steps_per_unit(cfg, total_steps)
    lasts = {key: curve.at[-1] * steps[curve.unit] for key, curve in read_curves(cfg).items()}
    return [
        f"schedule.{key}: goes on until step {last:,.0f}, and the run ends at step {total_steps:,}"
        for key, last in lasts.items()
        if last >= total_steps + 1
    ]


def _curves(cfg: DictConfig) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the group and the name of each number that has a curve, and the curve."""
    schedule = cfg.schedule
    # To ask a node of OmegaConf for a key that is not there takes long.
    for group in (group for group in schedule if group in CURVE_GROUPS):
        node = schedule[group]
        if not isinstance(node, DictConfig):
            continue
        try:
            curves: Any = OmegaConf.to_container(node, resolve=True)
        except OmegaConfBaseException as error:
            raise UserError(f"schedule.{group}: {str(error).splitlines()[0]}") from error
        yield from ((group, name, curve) for name, curve in curves.items() if curve is not None)


def _completed(key: str, curve: Any) -> dict[str, Any] | None:
    if curve is None:
        return None
    if not isinstance(curve, dict):
        example = "{values: [null, 0.1]}"
        raise UserError(f"{key}={shown(curve)}: must be a curve, such as {example}, or null")
    names = [field.name for field in fields(CurveKeys)]
    for name in curve:
        if name not in names:
            hint = nearest(str(name), names, f"{key}.") or f"; a curve has {', '.join(names)}"
            raise UserError(f"{key}.{name}: unknown key{hint}")
    if "values" not in curve:
        raise UserError(f"{key}.values: must be set, as in {key}.values=[null,0.1]")
    try:
        typed = OmegaConf.merge(OmegaConf.structured(CurveKeys), curve)
    except OmegaConfBaseException as error:
        name = (error.full_key or "").partition("[")[0].partition(".")[0]
        raise UserError(f"{key}.{name}={shown(curve.get(name))}: {explain_value(error)}") from error
    plain: Any = OmegaConf.to_container(typed, resolve=False)
    return dict(plain)


def _find_number(cfg: DictConfig, group: str, name: str) -> _Number:
    """Return the number of a group that a curve changes.

    Raises:
        UserError: the group has no such number.
    """
    numbers = _numbers(cfg, group)
    if name not in numbers:
        has = f"has {', '.join(numbers)}" if numbers else "has no numbers that can change"
        hint = nearest(name, numbers, f"schedule.{group}.") or f"; {group} {has}"
        raise UserError(f"schedule.{group}.{name}: no number of {group}{hint}")
    return numbers[name]


def _numbers(cfg: DictConfig, group: str) -> dict[str, _Number]:
    """Return the numbers of a group that may change while a run trains."""
    node = cfg[group]
    if group == "trainer":
        limits = {field.name: dict(field.metadata) for field in fields(Trainer)}
        names = [name for name in SCHEDULED_OF_TRAINER if name in node]
        return {name: _Number(f"{group}.{name}", node[name], limits[name]) for name in names}
    found = {}
    for name, setting in settings_of(group, node._target_).items():
        if name == "betas" and name in node and len(node.betas) == len(BETAS):
            for beta, value in zip(BETAS, node.betas, strict=True):
                found[beta] = _Number(f"{group}.betas", value, setting.limits)
        elif setting.type in (float, float | None) and name in node:
            found[name] = _Number(f"{group}.{name}", node[name], setting.limits)
    return found


def _read_curve(key: str, curve: dict[str, Any], number: _Number) -> Curve:
    """Check a curve, and put the number's own value in the place of null."""
    given, places, unit, shape = (curve[name] for name in ("values", "at", "unit", "shape"))
    _check_choices(key, curve)
    if number.value is None:
        raise UserError(f"{key}: {number.key}=null is no number that can change")
    if not given:
        raise UserError(f"{key}.values=[]: must hold a value")
    values = tuple(float(number.value if value is None else value) for value in given)
    # A rate may end at zero, although no run begins with it.
    limits = {"min" if name == "above" else name: limit for name, limit in number.limits.items()}
    for value in values:
        if problem := broken_limit(value, limits):
            raise UserError(f"{key}.values={shown(given)}: must {problem}, as {number.key}")
    if number.key.endswith(".momentum") and 0.0 in values:
        # An optimizer without momentum keeps nothing that a later momentum could continue.
        raise UserError(
            f"{key}.values={shown(given)}: must be above 0 everywhere"
            + (f"; set {number.key} above 0, too" if number.value == 0 else "")
        )
    if float(number.value) not in values:
        raise UserError(
            f"{key}.values={shown(given)}: must hold {shown(number.value)}, which {number.key} is, "
            "or null in its place"
        )
    if places is None:
        last = max(len(values) - 1, 1)
        places, unit = [index / last for index in range(len(values))], "share"
        if curve["unit"] != "share":
            raise UserError(f"{key}.unit={curve['unit']}: needs {key}.at, the place of each value")
    if len(places) != len(values):
        raise UserError(
            f"{key}.at={shown(places)}: must hold {len(values)} places, one for each value"
        )
    for place in places:
        if problem := broken_limit(place, {"min": 0} | ({"max": 1} if unit == "share" else {})):
            raise UserError(f"{key}.at={shown(places)}: must {problem}")
    if any(later <= earlier for earlier, later in pairwise(places)):
        raise UserError(f"{key}.at={shown(places)}: each place must be after the one before it")
    return Curve(values, tuple(map(float, places)), unit, shape)


def _check_choices(key: str, curve: dict[str, Any]) -> None:
    for field in fields(CurveKeys):
        if "choices" in field.metadata and (
            problem := broken_limit(curve[field.name], field.metadata)
        ):
            raise UserError(f"{key}.{field.name}={shown(curve[field.name])}: must {problem}")
