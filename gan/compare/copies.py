"""Find runs that repeat another one: one configuration and seed give one value, not two."""

from collections.abc import Sequence
from typing import Any

from gan.compare.read import StoredRun
from gan.sweep.plan import identity

CIRCUMSTANCES = ("device", "threads", "matmul", "platform", "versions", "git")
"""Entries of result.json that may change a result and are no part of a run's identity."""


def find_copies(runs: Sequence[StoredRun]) -> tuple[dict[int, int], list[str]]:
    """Return the numbers of runs that repeat another one, with the number of that one, and lines
    for people.

    Runs have one identity if they agree in every key that defines the result, the seed included,
    in their data and in the code of outside packages. A finished run counts rather than an
    unfinished one, then the one with more steps, then the first one; the others are its copies. A
    run whose configuration is not known is no copy.
    """
    identities = [identity(run.config) if run.config else run.path for run in runs]
    # A run has the hashes in its result alone, and a copy of it may have no result yet.
    named = list(zip(identities, runs, strict=True))
    known: dict[str, dict[str, str]] = {}
    for name, run in named:
        known[name] = known.get(name, {}) | run.contents
    groups: dict[tuple[str, Any], list[int]] = {}
    for number, (name, run) in enumerate(named):
        contents = known[name] | run.contents
        groups.setdefault((name, tuple(sorted(contents.items()))), []).append(number)
    copies: dict[int, int] = {}
    for group in groups.values():
        best = min(group, key=lambda number: (not runs[number].finished, -runs[number].steps))
        copies |= {number: best for number in group if number != best}
    lines = []
    if copies:
        first = runs[min(copies)].path
        lines.append(
            f"{len(copies)} of {len(runs)} runs, such as {first}, repeat the configuration, seed, "
            "data and code of another one and are left out of statistics"
        )
    others = [(n, best) for n, best in copies.items() if _has_other_result(runs[n], runs[best])]
    if others:
        run, best_run = (runs[number] for number in others[0])
        lines.append(
            f"{len(others)} of these had another result, such as {run.path} "
            f"({_circumstances(run, best_run)}) beside {best_run.path} "
            f"({_circumstances(best_run, run)})"
        )
    return copies, lines


def _has_other_result(copy: StoredRun, run: StoredRun) -> bool:
    results = [(one.result.get("status"), one.final) for one in (copy, run)]
    return copy.finished and results[0] != results[1]


def _circumstances(run: StoredRun, other: StoredRun) -> str:
    """Return what was different when a run was made, in words."""
    texts = []
    for name in CIRCUMSTANCES:
        mine, theirs = run.result.get(name), other.result.get(name)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            texts += [f"{key} {value}" for key, value in mine.items() if theirs.get(key) != value]
        elif mine != theirs:
            texts.append(f"{name} {mine}")
    return ", ".join(texts) or "made in the same way"
