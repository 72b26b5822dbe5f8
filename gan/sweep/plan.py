"""Which runs a command line asks for: their configurations and names, before any of them starts."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gan.config.checks import check, defines_result, flatten
from gan.errors import UserError
from gan.sweep.composer import Composer, plain
from gan.sweep.naming import identity, job_name

GLOBAL = ("recipe", "experiment")
"""Config groups that set keys anywhere."""

Point = Sequence[str]
"""The overrides of one combination of swept values, those that are the same in all included."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    name: str
    """Of its directory below the sweep's."""
    identity: str
    overrides: list[str]
    config: dict[str, Any]
    """Resolved; what the run is given."""

    def flat(self) -> dict[str, Any]:
        return flatten(self.config)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Plan:
    """The jobs of one command line."""

    jobs: list[Job]
    """Each of them once."""
    points: list[list[str]]
    """For each point, the names of its jobs: one per seed."""
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
) -> Plan:
    """Compose and check every job.

    Args:
        composer: of the sweep's own copy of the YAML files.
        points: without `sweep.*`, which is about the sweep and not its runs.
        swept: keys that vary even if they have one value in `points`.
        seeds: repeat each point with so many, counted up from its own.
        known: the jobs already in the sweep; one that is asked for again keeps its name.

    Raises:
        UserError: the configuration of a point is wrong, or nothing is swept.
        HydraException, OmegaConfBaseException: an override fits no key, or not its type.
    """
    if not points:
        raise UserError("an empty sweep: a swept key has no values")
    texts = _texts(composer, points)
    varying = [key for key, values in texts.items() if len(values) > 1]
    swept = sorted({*swept, *varying, *(["seed"] if seeds > 1 else [])})
    if not swept:
        raise UserError(
            "nothing is swept: give a key several values, as in optimizer.lr=1e-4,2e-4, "
            "or leave out --multirun"
        )
    for key in swept:
        if not defines_result(key):
            raise UserError(
                f"{key}: cannot be swept over, a run ends the same whatever its value; "
                "set it once for all runs"
            )
    if seeds > 1 and "seed" in varying:
        raise UserError(f"sweep.seeds={seeds}: the seed is swept as well; leave out one of them")
    by_identity = {job.identity: job for job in known}
    taken = {job.name for job in by_identity.values()}
    jobs: dict[str, Job] = {}
    names: list[list[str]] = []
    for point in points:
        names.append([])
        for job in _repeated(composer, point, swept, seeds):
            name = by_identity[job.identity].name if job.identity in by_identity else job.name
            if job.identity not in by_identity and name in taken:
                name = f"{name}-{job.identity[:8]}"
            job = Job(name, job.identity, job.overrides, job.config)
            by_identity[job.identity] = job
            taken.add(name)
            jobs.setdefault(name, job)
            names[-1].append(name)
    fixed = {key: next(iter(values)) for key, values in texts.items() if key not in swept}
    return Plan(list(jobs.values()), names, swept, fixed)


def refuse_conflict(
    where: str, old: Sequence[Job], old_fixed: dict[str, str], new: Plan, swept: Sequence[str]
) -> None:
    """
    Raises:
        UserError: a key that neither command sweeps over has another value in each.
    """
    candidates = [
        key
        for key in {**old_fixed, **new.fixed}
        if key not in swept and old_fixed.get(key) != new.fixed.get(key)
    ]
    if not candidates:
        return
    before, after = _values(old), _values(new.jobs)
    for key in candidates:
        for name in {**before, **after}:
            concerned = name == key or name.startswith(f"{key}.") or key in GLOBAL
            if not concerned or not defines_result(name):
                continue
            if any(name == other or name.startswith(f"{other}.") for other in swept):
                continue
            ours, theirs = after.get(name, []), before.get(name, [])
            if not any(value in theirs for value in ours):
                raise UserError(
                    f"{key}={new.fixed.get(key, 'default')}: the sweep in {where} has "
                    f"{name}={_or(theirs)}, not {_or(ours)}; choose another hydra.sweep.dir, "
                    "or sweep over the key to have both"
                )


def _repeated(composer: Composer, point: Point, swept: Sequence[str], seeds: int) -> list[Job]:
    """The jobs of a point: one for each seed."""
    jobs = []
    texts = {composer.parse(text).key_or_group: text for text in point}
    for offset in range(seeds):
        cfg = composer.compose(point)
        overrides = list(point)
        if seeds > 1:
            cfg.seed += offset
            overrides = [text for text in point if text != texts.get("seed")]
            overrides.append(f"seed={cfg.seed}")
        check(cfg)
        config = plain(cfg)
        flat = flatten(config)
        # A config group is no key of its own: its choice stands in the override.
        chosen = {
            key: composer.parse(text).get_value_element_as_str() for key, text in texts.items()
        }
        values = {key: flat.get(key, chosen.get(key)) for key in swept}
        values = {key: value for key, value in values.items() if key in flat or key in chosen}
        jobs.append(Job(job_name(values), identity(flat), overrides, config))
    return jobs


def _texts(composer: Composer, points: Sequence[Point]) -> dict[str, set[str]]:
    """The values that each key is given in overrides, as written."""
    found: dict[str, set[str]] = {}
    for point in points:
        for text in point:
            override = composer.parse(text)
            value = override.get_value_element_as_str()
            found.setdefault(override.key_or_group, set()).add(value)
    return found


def _values(jobs: Sequence[Job]) -> dict[str, list[Any]]:
    """The values of each dotted key over all jobs."""
    found: dict[str, list[Any]] = {}
    for job in jobs:
        for key, value in job.flat().items():
            values = found.setdefault(key, [])
            if value not in values:
                values.append(value)
    return found


def _or(values: list[Any]) -> str:
    return " or ".join("null" if value is None else str(value) for value in values) or "no such key"
