"""Spaces of sweeps: what varies, which of it depends on a choice, and the points of a grid."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from gan.config.spaces import has_several_values, read_dimension, texts_of
from gan.errors import UserError, nearest

Point = Sequence[str]
"""All overrides of one point: its swept values, and those that are equal in all points."""
Chosen = dict[str, tuple[str, ...]]
"""The overrides that were chosen for dimensions, by their names."""
ABSENT = object()
"""The value of a key that no override sets. It is not null, which an override may set."""


@dataclass(frozen=True)
class Condition:
    """The choice on which a dimension depends."""

    text: str
    """As the user wrote it, such as "penalty=r1"."""
    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Dimension:
    """A key, or several that change together, and the values that they take."""

    name: str
    """The key or the name of a zip, with its condition where a key has several."""
    text: str
    """As the user wrote it."""
    keys: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The overrides of each value, by a label. There are none for an interval."""
    sweep: Override | None = None
    """Hydra's sweep over a single key; None for a zip, and for a value that does not vary."""
    condition: Condition | None = None
    is_swept: bool = True
    repeated: tuple[str, ...] = ()
    """Labels of values that were given again."""

    @property
    def interval(self) -> IntervalSweep | None:
        """The interval of numbers that it may take, if it is one."""
        value = self.sweep.value() if self.sweep else None
        return value if isinstance(value, IntervalSweep) else None

    @property
    def rising_range(self) -> RangeSweep | None:
        """The range of numbers that it may take, from the lowest on, if it is one."""
        value = self.sweep.value() if self.sweep else None
        if not isinstance(value, RangeSweep) or value.shuffle or value.step <= 0:
            return None
        return value

    def overrides(self, value: Any) -> tuple[str, ...]:
        """Return the overrides for a label, or for a number.

        Numbers are rounded to six digits, so that the name of a run shows its exact values.
        """
        if value in self.options:
            return self.options[value]
        return (f"{self.keys[0]}={f'{value:.6g}' if isinstance(value, float) else value}",)


class Space:
    """The dimensions of a sweep, those that do not vary included.

    Args:
        dimensions: in the order in which they were given.

    Raises:
        UserError: a condition names what is never chosen, or conditions depend on each other.
    """

    def __init__(self, dimensions: Iterable[Dimension]):
        self._given = list(dimensions)
        for one in self._given:
            if one.condition:
                self._check_condition(one, one.condition)
        self._ordered = self._after_their_conditions()
        self.swept = [one for one in self._ordered if one.is_swept]
        self.keys = sorted({key.lstrip("+") for one in self.swept for key in one.keys})
        self.fixed = [text for one in self._given if not one.is_swept for text in one.options[""]]
        """The overrides that all points share."""

    def labels(self) -> Iterator[dict[str, str]]:
        """Yield every combination: the labels of the swept dimensions by name.

        The last dimension varies fastest.

        Raises:
            UserError: a dimension is an interval.
        """
        for one in self.swept:
            if one.interval:
                key = one.keys[0]
                raise UserError(
                    f"{one.text}: a grid needs values, such as {key}=1,2 or {key}=range(1,4)"
                )

        def extend(place: int, chosen: Chosen, labels: dict[str, str]) -> Iterator[dict[str, str]]:
            if place == len(self._ordered):
                yield labels
                return
            one = self._ordered[place]
            if not _applies(one, chosen):
                yield from extend(place + 1, chosen, labels)
                return
            for label in (*one.options, *one.repeated):
                overrides = one.options[label]
                own = {one.name: label} if one.is_swept else {}
                yield from extend(place + 1, chosen | {one.name: overrides}, labels | own)

        yield from extend(0, {}, {})

    def points(self) -> Iterator[Point]:
        """Yield every combination. The last dimension varies fastest.

        Raises:
            UserError: a dimension is an interval, or a key has two values at once.
        """
        for labels in self.labels():
            yield self.point(labels.__getitem__)

    def point(self, choose: Callable[[str], Any]) -> Point:
        """Return the overrides of a point.

        Args:
            choose: returns the value of the swept dimension of a name: a label, or a number of an
                interval. It is called for those dimensions whose condition holds, after those that
                they depend on.

        Raises:
            UserError: a key has two values at once.
        """
        chosen: Chosen = {}
        for one in self._ordered:
            if _applies(one, chosen):
                chosen[one.name] = one.overrides(choose(one.name) if one.is_swept else "")
        keys: dict[str, Dimension] = {}
        for one in self._given:
            for text in chosen.get(one.name, ()):
                other = keys.setdefault(key := _key(text), one)
                if other is not one:
                    raise UserError(f"{key}: set twice, by {other.text} and by {one.text}")
        return [text for one in self._given for text in chosen.get(one.name, ())]

    def swept_point(self, values: Mapping[str, Any]) -> Point:
        """Return the overrides of the swept dimensions in a point.

        Args:
            values: the values of the dimensions by name, without those whose condition fails.
        """
        return [
            text
            for one in self.swept
            if one.name in values
            for text in one.overrides(values[one.name])
        ]

    def corners(self) -> list[Point]:
        """Return points in which each value of a choice occurs, and both ends of each interval."""
        wanted = [(one, value) for one in self.swept for value in _ends(one)]
        if any(one.condition for one in self.swept):
            return [self._point_with(one, value) for one, value in wanted]
        # A few points show all values of dimensions that do not depend on each other.
        ends = {one.name: _ends(one) for one in self.swept}
        corners = [
            {name: own[min(i, len(own) - 1)] for name, own in ends.items()}
            for i in range(max(map(len, ends.values()), default=0))
        ]
        return [self.point(corner.__getitem__) for corner in corners]

    def _point_with(self, wanted: Dimension, value: Any) -> Point:
        """Return a point in which a dimension has a value, and others what its condition needs."""
        needed = {one.name: _ends(one)[0] for one in self.swept} | {wanted.name: value}
        condition = wanted.condition
        while condition:
            giver, label = self._giver(condition)
            needed[giver.name] = label
            condition = giver.condition
        return self.point(needed.__getitem__)

    def _giver(self, condition: Condition) -> tuple[Dimension, str]:
        """Return the dimension that may fulfil a condition, and the label that does."""
        for one in self._with_key(condition.key):
            for label, overrides in one.options.items():
                if _value(overrides, condition.key) in condition.values:
                    return one, label
        raise AssertionError(condition.text)

    def _with_key(self, key: str) -> list[Dimension]:
        return [one for one in self._given if key in [own.lstrip("+~") for own in one.keys]]

    def _check_condition(self, one: Dimension, condition: Condition) -> None:
        key = condition.key
        givers = self._with_key(key)
        if not givers:
            raise UserError(
                f"{one.text}: {key} is neither swept over nor given; add it, as in "
                f"{condition.text},OTHER"
            )
        if interval := next((giver for giver in givers if giver.interval), None):
            raise UserError(f"{one.text}: {key} needs values and not an interval: {interval.text}")
        values = [_value(texts, key) for giver in givers for texts in giver.options.values()]
        for value in condition.values:
            if value not in values:
                names = list(dict.fromkeys(_text(known) for known in values if known is not ABSENT))
                hint = nearest(_text(value), names)
                raise UserError(
                    f"{one.text}: {key} is never {_text(value)}, it is {' or '.join(names)}{hint}"
                )

    def _after_their_conditions(self) -> list[Dimension]:
        """Return the dimensions in their order, each after those that it depends on."""
        ordered: list[Dimension] = []
        left = list(self._given)
        while left:
            waiting = [
                one
                for one in left
                if one.condition
                and any(giver in left for giver in self._with_key(one.condition.key))
            ]
            if len(waiting) == len(left):
                raise UserError(f"{left[0].text}: its condition depends on itself")
            # Only the first dimensions that wait for nothing, so that the order stays.
            taken = next(one for one in left if one not in waiting)
            ordered.append(taken)
            left.remove(taken)
        return ordered


def of_runs(overrides: Sequence[str]) -> list[str]:
    """Return overrides without those of the group `sweep`, which is about no single run."""
    return [text for text in overrides if not _is_of_sweep(text)]


def refuse_several_settings(overrides: Sequence[str]) -> None:
    """Refuse several values for a key of the group `sweep`.

    Raises:
        UserError: names the key.
    """
    for text in filter(_is_of_sweep, overrides):
        if has_several_values(text):
            raise UserError(f"{text}: takes one value, since it is about the whole sweep")


def _is_of_sweep(text: str) -> bool:
    return text.lstrip("+").startswith(("sweep.", "sweep="))


def read_space(
    loader: ConfigLoader, arguments: Sequence[str], params: Mapping[str, object]
) -> Space:
    """Return the space of a command line.

    A key that is given twice counts where it was given last, except with different conditions.

    Args:
        arguments: the overrides of the command line. They replace those of `params`. Those of the
            group `sweep` are left out.
        params: further dimensions by key or name, such as `{"optimizer.lr": "1e-4,2e-4"}`. A list
            has one text for each condition.

    Raises:
        UserError: an override cannot be read, has no values, or has values that do not fit.
    """
    parser = OverridesParser.create(config_loader=loader)
    refuse_several_settings(arguments)
    dimensions: list[Dimension] = []
    in_file = texts_of(params)
    for place, text in enumerate([*in_file, *of_runs(arguments)]):
        try:
            new = _read(parser, text)
        except (HydraException, ValueError) as error:
            raise UserError(f"{text}: cannot be read ({str(error).splitlines()[0]})") from None
        beside = in_file if place < len(in_file) else arguments
        for old in [old for old in dimensions if _replaces(new, old)]:
            if old.text in beside and bool(old.condition) != bool(new.condition):
                raise UserError(
                    f"{old.text} {text}: set {new.name} with a condition and without; give one "
                    "when(...) for each choice"
                )
            dimensions.remove(old)
        dimensions.append(new)
    names = [one.name for one in dimensions]
    return Space(
        replace(one, name=f"{one.name} when {one.condition.text}")
        if one.condition and names.count(one.name) > 1
        else one
        for one in dimensions
    )


def _read(parser: OverridesParser, text: str) -> Dimension:
    written = read_dimension(text)
    if written is None:
        (override,) = parser.parse_overrides([text])
        key = override.get_key_element()
        if override.is_sweep_override():
            return _of_key(text, key, override)
        assert override.input_line is not None
        return Dimension(key, text, (key,), {"": (override.input_line,)}, is_swept=False)
    condition = _read_condition(written.condition) if written.condition else None
    parts = parser.parse_overrides(list(written.parts))
    if not written.is_zip:
        (override,) = parts
        return _of_key(text, override.get_key_element(), override, condition)
    keys = tuple(part.get_key_element() for part in parts)
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise UserError(f"{text}: has {twice[0]} twice")
    columns = []
    for key, part in zip(keys, parts, strict=True):
        if part.is_sweep_override() and not part.is_discrete_sweep():
            raise UserError(f"{text}: {part.input_line} is an interval, and a zip needs values")
        columns.append([tuple(_leaves(key, value)) for value in _values(part)])
    lengths = {key: len(column) for key, column in zip(keys, columns, strict=True)}
    if len({*lengths.values()}) > 1:
        counts = ", ".join(f"{key} has {count}" for key, count in lengths.items())
        raise UserError(f"{text}: needs as many values of each key: {counts}")
    rows = [sum(row, ()) for row in zip(*columns, strict=True)]
    if not rows:
        raise UserError(f"{text}: has no values")
    all_keys = tuple(dict.fromkeys(key.partition("=")[0] for row in rows for key in row))
    labels = [" ".join(row) for row in rows]
    return Dimension(
        written.name,
        text,
        all_keys,
        dict(zip(labels, rows, strict=True)),
        condition=condition,
        repeated=_repeated(labels),
    )


def _of_key(
    text: str, key: str, override: Override, condition: Condition | None = None
) -> Dimension:
    """Return the dimension of one key."""
    _check_tags(text, override)
    if override.is_sweep_override() and not override.is_discrete_sweep():
        return Dimension(key, text, (key,), sweep=override, condition=condition)
    options = _options(override)
    if not options:
        raise UserError(f"{text}: has no values")
    keys = tuple(dict.fromkeys(one.partition("=")[0] for row in options.values() for one in row))
    sweep = override if override.is_sweep_override() else None
    return Dimension(
        key,
        text,
        keys or (key,),
        options,
        sweep=sweep,
        condition=condition,
        repeated=_repeated([_text(value) for value in _values(override)]),
    )


def _check_tags(text: str, override: Override) -> None:
    """Refuse tags that would do nothing.

    Raises:
        UserError: a tag is not "log", or it is not at an interval.
    """
    value = override.value()
    tags = sorted(getattr(value, "tags", ()))
    if other := next((tag for tag in tags if tag != "log"), None):
        hint = nearest(other, ["log"]) or "; there is log alone"
        raise UserError(f"{text}: unknown tag '{other}'{hint}")
    if tags and not isinstance(value, IntervalSweep):
        raise UserError(f"{text}: the tag log is for an interval, as in tag(log, interval(1, 9))")


def _repeated(labels: Sequence[str]) -> tuple[str, ...]:
    """Return those labels that occur before, as often as they do."""
    seen: set[str] = set()
    # `add` returns None.
    return tuple(label for label in labels if label in seen or seen.add(label))  # type: ignore[func-returns-value]


def _options(override: Override) -> dict[str, tuple[str, ...]]:
    """Return the overrides of each value of a sweep by the value's text.

    A value such as `{lr:1e-4,betas:[0,0.9]}` becomes an override for each of its keys, so that runs
    are named by these.
    """
    key = override.get_key_element()
    return {_text(value): tuple(_leaves(key, value)) for value in _values(override)}


def _values(override: Override) -> Iterable[Any]:
    """Return the values of a sweep, or the one value."""
    return override.sweep_iterator() if override.is_discrete_sweep() else [override._value]


def _leaves(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value and not key.startswith(("+", "~")):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    else:
        yield f"{key}={_text(value)}"


def _text(value: Any) -> str:
    return str(Override._get_value_element_as_str(value))


def _read_condition(text: str) -> Condition:
    value = _value((text,), key := text.partition("=")[0])
    return Condition(text, key, tuple(value) if isinstance(value, list) else (value,))


def _replaces(new: Dimension, old: Dimension) -> bool:
    if new.name != old.name:
        # A zip that comes after a plain value of one of its keys.
        return not (old.is_swept or new.condition) and {*old.keys} <= {*new.keys}
    return not (new.condition and old.condition) or new.condition == old.condition


def _applies(one: Dimension, chosen: Chosen) -> bool:
    if one.condition is None:
        return True
    texts = [text for overrides in chosen.values() for text in overrides]
    return _value(texts, one.condition.key) in one.condition.values


def _value(overrides: Iterable[str], key: str) -> Any:
    """Return the value that overrides give a key; ABSENT if they do not."""
    for text in overrides:
        if _key(text) == key:
            return _parsed_value(text)
    return ABSENT


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+~")


@cache
def _parsed_value(text: str) -> Any:
    return OverridesParser.create().parse_override(text).value()


def _ends(one: Dimension) -> list[Any]:
    """Return the labels of all values of a choice, or both ends of numbers."""
    if interval := one.interval:
        low, high = interval.start, interval.end
        assert low is not None
        assert high is not None
        if isinstance(low, int) and isinstance(high, int):
            return [low, high]
        # Slightly below the end, which may itself be out of range, such as a beta of 1.
        return [low, high - 1e-6 * (high - low)]
    labels = list(one.options)
    return [labels[0], labels[-1]] if one.rising_range else labels
