"""Plans of sweeps: the points of a grid, and the jobs of points, before any run starts."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gan.config.checks import (
    ABSENT_IF,
    checked_with_values,
    defines_result,
    flatten,
    identifies_run,
    is_under,
)
from gan.config.compose import asks_hydra
from gan.config.overrides import as_override
from gan.config.paths import (
    flat_with_absolute_paths,
    make_values_absolute,
    overrides_with_absolute_paths,
    places_of_data,
)
from gan.config.schema import GLOBAL_GROUPS
from gan.errors import UserError, nearest
from gan.run.initial import with_init_hash, with_init_overrides
from gan.run.trackers import make_trackers
from gan.sweep.composer import Composer, plain_config
from gan.sweep.space import Point
from gan.system.files import readable

JOB_NAME = r"[A-Za-z0-9_.,=+-]+"
"""A pattern that every name of a job matches, so that it is that of a folder anywhere."""
MAX_NAME_LENGTH = 120
"""Characters of a job's name. File systems allow 255 bytes; tables should be narrower."""
ONLY_NAME = "run"
"""The name of the one job of a sweep that varies nothing."""


@dataclass(frozen=True)
class Job:
    """One run as a sweep plans it."""

    name: str
    """The name of its directory below the sweep's."""
    identity: str
    overrides: list[str]
    config: dict[str, Any]
    """The resolved configuration that the run is given."""
    choices: dict[str, str] = field(default_factory=dict)
    """The chosen options of the config groups."""

    def flat(self) -> dict[str, Any]:
        """Return the configuration with dotted keys."""
        return flatten(self.config)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


@dataclass
class Plan:
    """The jobs of one command line."""

    jobs: list[Job]
    """Each job once."""
    points: list[list[str]]
    """The names of each point's jobs, one job for each seed."""
    swept: list[str]
    """The dotted keys that vary, in this command or an earlier one of the same sweep."""
    fixed: dict[str, str]
    """The overrides that all points share, by key."""


def make_plan(
    composer: Composer,
    points: Sequence[Point],
    *,
    swept: Iterable[str],
    seeds: int,
    known: Iterable[Job] = (),
    names: "JobNames | None" = None,
    start: int = 0,
) -> Plan:
    """Compose and check every job.

    Args:
        composer: reads the sweep's own copy of the YAML files.
        points: without `sweep.*`, which is about the sweep and not about its runs.
        swept: keys that vary even if they have one value in `points`.
        seeds: the number of seeds of each point, counted up from its own seed.
        known: the jobs that are already in the sweep. One that is asked for again keeps its name.
        names: the names of these jobs, if they are known. Those of the new jobs are added.
        start: the number of points before these; the value of `${hydra:job.num}` counts from it.

    Raises:
        UserError: the configuration of a point is wrong.
    """
    if not points:
        raise UserError("an empty sweep: a swept key has no values")
    texts = _override_texts(composer, points)
    varying = [key for key, values in texts.items() if len(values) > 1]
    swept = sorted({*swept, *varying, *(["seed"] if seeds > 1 else [])})
    for key in swept:
        if not defines_result(key):
            values = ", ".join(map(str.strip, texts.get(key, ())))
            # Free text is likely to have commas.
            quotes = f", as in \"{key}='{values}'\"" if key == "notes" else ""
            raise UserError(
                f"{key}: cannot be swept over, a run ends the same whatever its value; "
                f"set it once for all runs{quotes}"
            )
    if seeds > 1 and "seed" in varying:
        raise UserError(f"sweep.seeds={seeds}: the seed is swept as well; leave out one of them")
    refuse_unknown_keys(composer, points)
    names = JobNames(known, swept) if names is None else names
    jobs: dict[str, Job] = {}
    names_of_points: list[list[str]] = []
    for number, point in enumerate(points, start):
        own = [names.named(job) for job in _jobs_of_point(composer, point, swept, seeds, number)]
        for job in own:
            jobs.setdefault(job.name, job)
        names_of_points.append([job.name for job in own])
    fixed = {key: next(iter(values)) for key, values in texts.items() if key not in swept}
    return Plan(list(jobs.values()), names_of_points, swept, fixed)


class JobNames:
    """The names of the jobs of a sweep, each found again by what defines the result of its job.

    Args:
        jobs: the jobs that are already in the sweep.
        swept: the keys that vary.
    """

    def __init__(self, jobs: Iterable[Job], swept: Iterable[str]):
        self._swept = [*swept]
        self._by_identity = {_identity_in_sweep(job, self._swept): job.name for job in jobs}
        self._in_use = {*self._by_identity.values()}

    def named(self, job: Job) -> Job:
        """Return a job under its own name in the sweep, and know it from now on."""
        own = _identity_in_sweep(job, self._swept)
        if own not in self._by_identity:
            name = f"{job.name}-{own[:8]}" if job.name in self._in_use else job.name
            self._by_identity[own] = name
            self._in_use.add(name)
        return replace(job, name=self._by_identity[own])


def refuse_unknown_keys(composer: Composer, points: Sequence[Point]) -> None:
    """Refuse a key that the options of some points do not have, before any other check.

    Raises:
        UserError: names the key and the options without it, or the nearest key if no option has it.
    """
    texts: dict[str, dict[tuple[str, ...], str]] = {}
    for point in points:
        options = composer.options(point)
        for text in composer.values(point):
            texts.setdefault(composer.parse(text).key_or_group, {}).setdefault(options, text)
    for key, by_options in texts.items():
        has = {options: composer.has_key(options, key) for options in by_options}
        without = _different([options for options in has if not has[options]], has)
        if all(has.values()):
            continue
        text = next(text for options, text in by_options.items() if not has[options])
        if any(has.values()):
            owners = _different([options for options in has if has[options]], has)
            given = [one for point in points for one in point if one.startswith(f"{key}=")]
            values = ",".join(one.partition("=")[2] for one in dict.fromkeys(given))
            raise UserError(
                f"{text}: {' and '.join(without)} {'has' if len(without) == 1 else 'have'} no key "
                f"{key}, and {owners[0]} has it; leave out one of both, or write "
                f"'{key}=when({_one_condition(owners)}, {values})'"
            )
        group, _, name = key.rpartition(".")
        known = [one.rpartition(".") for options in has for one in composer.keys(options)]
        siblings = {leaf: None for above, _, leaf in known if above == group}
        if hint := nearest(name, siblings, f"{group}." if group else ""):
            raise UserError(f"{text}: unknown key '{key}'{hint}")


def _one_condition(choices: Sequence[str]) -> str:
    """Return a condition that holds for choices such as "penalty=r1" and "penalty=r2"."""
    # A choice of several groups is told by its first one.
    pairs = [choice.split()[0].partition("=") for choice in choices]
    group = pairs[0][0]
    options = list(dict.fromkeys(option for name, _, option in pairs if name == group))
    return f"{group}={options[0] if len(options) == 1 else '[' + ','.join(options) + ']'}"


def _different(
    several: Sequence[tuple[str, ...]], everything: Iterable[tuple[str, ...]]
) -> list[str]:
    """Return the options that points chose, without those that all points chose."""
    common = set.intersection(*map(set, everything))
    return [" ".join(text for text in options if text not in common) for options in several]


def refuse_conflict(
    where: str, old: Sequence[Job], old_fixed: dict[str, str], new: Plan, swept: Sequence[str]
) -> None:
    """Refuse to mix jobs in one sweep that differ in a key that no command sweeps over.

    Raises:
        UserError: names the key and its values.
    """
    candidates = [
        key
        for key in {**old_fixed, **new.fixed}
        if key not in swept and old_fixed.get(key) != new.fixed.get(key)
    ]
    if not candidates:
        return
    before, after = _values_by_key(old), _values_by_key(new.jobs)
    # Data in another place may be the same data.
    places = {key for job in new.jobs for key in places_of_data(job.flat())}
    for key in candidates:
        for name in {**before, **after}:
            is_set_by_key = name == key or name.startswith(f"{key}.")
            is_set_by_key |= key in (*GLOBAL_GROUPS, "protocol")
            if not is_set_by_key or not defines_result(name) or name in places:
                continue
            if any(name == other or name.startswith(f"{other}.") for other in swept):
                continue
            ours, theirs = after.get(name, []), before.get(name, [])
            if not any(value in theirs for value in ours):
                raise UserError(
                    f"{key}={new.fixed.get(key, 'default')}: the sweep in {where} has "
                    f"{name}={_join(theirs)}, not {_join(ours)}; choose another hydra.sweep.dir, "
                    "or sweep over the key to have both"
                )


def identity(flat: Mapping[str, Any]) -> str:
    """Return a hash of the (dotted) configuration keys that define a run's result.

    The places of data are left out; what counts is their content.
    """
    places = places_of_data(flat)
    defining = {
        key: value for key, value in flat.items() if identifies_run(key) and key not in places
    }
    return _digest(json.dumps(defining, sort_keys=True))


def _identity_in_sweep(job: Job, swept: Iterable[str]) -> str:
    """Return the identity of a job among those of its sweep.

    Where a sweep is over data sets in different places, the place tells them apart.
    """
    # The job may stem from an earlier version, which kept paths as they were written.
    flat = flat_with_absolute_paths(job.flat())
    own, places = identity(flat), places_of_data(flat)
    if {*GLOBAL_GROUPS} & {*swept} or any(is_under(key, swept) for key in places):
        return _digest(json.dumps([own, places], sort_keys=True))
    return own


def job_name(values: Mapping[str, Any]) -> str:
    """Return the name of a job by its values of the swept (dotted) keys.

    Such as `hidden_dim=256,lr=0.0002,seed=1`. The name does not depend on the order of the keys.
    """
    # The seed comes last, so that the runs of one point stand together in a sorted list.
    keys = sorted(values, key=lambda key: (key == "seed", key))
    short = short_names(keys)
    full = ",".join(f"{short[key]}={_value_text(values[key])}" for key in keys) or ONLY_NAME
    safe = "".join(c if re.fullmatch(JOB_NAME, c) else "_" for c in full)
    if safe == full and len(safe) <= MAX_NAME_LENGTH:
        return safe
    return f"{safe[: MAX_NAME_LENGTH - 9]}-{_digest(full)[:8]}"


def point_name(names: list[str]) -> str:
    """Return what the names of one point's jobs, which differ in their seeds, have in common."""
    common, seed, _ = names[0].rpartition("seed=")
    # A long name is cut, and ends in a hash that tells points apart.
    return common.rstrip(",") or ("all" if seed else names[0])


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return the shortest ending of each dotted key that no other key has."""
    keys = list(keys)

    def ending(key: str) -> str:
        parts = key.split(".")
        for count in range(1, len(parts)):
            short = ".".join(parts[-count:])
            # An index means nothing without the name of its list.
            if not short[0].isdigit() and not any(
                other != key and f".{other}".endswith(f".{short}") for other in keys
            ):
                return short
        return key

    return {key: ending(key) for key in keys}


def _jobs_of_point(
    composer: Composer, point: Point, swept: Sequence[str], seeds: int, number: int
) -> list[Job]:
    """Return the jobs of a point, one for each seed.

    Args:
        number: the place of the point among all points.
    """
    jobs = []
    texts = {composer.parse(text).key_or_group: text for text in point}
    for offset in range(seeds):
        cfg = composer.compose(point, number * seeds + offset)
        overrides = list(point)
        if seeds > 1:
            cfg.seed += offset
            overrides = [text for text in point if text != texts.get("seed")]
            overrides.append(f"seed={cfg.seed}")
        cfg, config = checked_with_values(cfg)
        config.pop("sweep", None)
        if (completed := with_init_hash(cfg)) is not cfg:
            cfg, config = completed, plain_config(completed)
        make_values_absolute(config)
        make_trackers(config["logging"].get("trackers", {}))
        flat = flatten(config)
        overrides = with_init_overrides(overrides_with_absolute_paths(overrides, flat), cfg)
        # Another launcher composes again, and would count its jobs in another way.
        overrides = [
            f"{key}={as_override(flat[key])}" if asks_hydra(text) and key in flat else text
            for text in overrides
            for key in [composer.parse(text).key_or_group]
        ]
        # A config group is no key of the configuration. Its choice stands in the override only.
        choices = {
            key: composer.parse(text).get_value_element_as_str() for key, text in texts.items()
        }
        # A value that a configuration leaves out is there too, where the point sets it.
        all_values = {key: value for key, value in ABSENT_IF.items() if key in texts} | flat
        values = {
            key: all_values.get(key, choices.get(key))
            for key in swept
            if key in all_values or key in choices
        }
        options = composer.choices(point)
        for key in ("trainer.init_from", *places_of_data(flat)):
            if isinstance(place := values.get(key), str):
                values[key] = Path(place).name
        jobs.append(Job(job_name(values), identity(flat), overrides, config, options))
    return jobs


def _override_texts(composer: Composer, points: Sequence[Point]) -> dict[str, list[str]]:
    """Return the different values that each key has in overrides, as they are written."""
    texts: dict[str, dict[str, None]] = {}
    for point in points:
        for text in point:
            override = composer.parse(text)
            value = override.get_value_element_as_str()
            texts.setdefault(override.key_or_group, {})[value] = None
    return {key: [*values] for key, values in texts.items()}


def _values_by_key(jobs: Sequence[Job]) -> dict[str, list[Any]]:
    """Return the values of each dotted key over all jobs, each once."""
    by_key: dict[str, list[Any]] = {}
    for job in jobs:
        for key, value in (ABSENT_IF | job.flat()).items():
            values = by_key.setdefault(key, [])
            if value not in values:
                values.append(value)
    return by_key


def _join(values: list[Any]) -> str:
    return " or ".join("null" if value is None else str(value) for value in values) or "no such key"


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return "_".join(map(_value_text, value))
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _digest(text: str) -> str:
    return hashlib.sha256(readable(text).encode()).hexdigest()[:16]
