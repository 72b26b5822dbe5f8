"""From a run back to a command line, or an experiment file, that gives it again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan.compare.frame import Table
from gan.compare.read import Run
from gan.config.checks import defines_result, flatten
from gan.config.compose import CONF_DIR, compose, compose_unchecked
from gan.config.schema import SCHEMAS
from gan.errors import UserError
from gan.files import replacing
from gan.run.result import environment

NOTHING = object()

_VALUES = ("null", "true", "false", "inf", "nan")
"""What Hydra does not read as text, in any case of its letters."""


def best_run(table: Table, metric: str) -> Run:
    """The first completed run of a table that is sorted by the metric.

    Raises:
        UserError: none of them has it.
    """
    frame = table.frame
    found = frame[(frame["status"] == "completed") & table.column(metric).notna()]
    if found.empty:
        raise UserError(f"no run is completed and has {metric}: {len(frame)} runs looked at")
    return table.runs[int(found.index[0])]


def command(run: Run) -> tuple[list[str], list[str]]:
    """The words of a command line that repeats a run, and remarks on what may be different.

    They are those that the run began with, and more where conf/ has changed since.
    """
    remarks = differences(run)
    overrides = list(run.overrides)
    try:
        now = flatten(compose_unchecked(overrides))
    except Exception as error:
        if not run.config:
            raise UserError(f"{run.path}: its configuration cannot be read") from error
        remarks.append("what it began with is not understood any more; written anew")
        choices, values = diff(run)
        overrides = [*(f"{g}={o}" for g, o in choices.items()), *_overrides(values)]
        now = flatten(compose_unchecked(overrides))
    for key, (then, today) in changed(run.config, now):
        if then is NOTHING:
            remarks.append(f"{key}={_value(today)} was not there then")
        elif today is NOTHING:
            remarks.append(f"{key}={_value(then)} is not there any more")
        else:
            remarks.append(f"{key} was {_value(then)}, and conf/ gives {_value(today)}")
            overrides += _overrides({key: then})
    # Rounding depends on it.
    threads = run.config.get("threads")
    if threads and not any(text.startswith("threads=") for text in overrides):
        overrides.append(f"threads={threads}")
    return ["python", "scripts/train.py", *overrides], remarks


def export(run: Run, path: Path) -> list[str]:
    """Write the experiment `path` that composes to the configuration of a run, as a difference
    from the default one.

    Returns:
        Remarks on what may be different all the same.

    Raises:
        UserError: `path` cannot be one, or no experiment gives this run any more.
    """
    folder = CONF_DIR / "experiment"
    if path.suffix != ".yaml" or path.resolve().parent != folder.resolve():
        raise UserError(f"export={path}: must be {folder}/NAME.yaml, where experiments are found")
    if not re.fullmatch(r"[\w-]+", path.stem):
        raise UserError(f"export={path}: its name may have letters, digits, - and _ alone")
    if path.exists():
        raise UserError(f"export={path}: is there already")
    choices, values = diff(run)
    defaults = [f"override /{group}: {option}" for group, option in choices.items()]
    content: dict[str, Any] = {"defaults": defaults} if defaults else {}
    nested = OmegaConf.create({"name": path.stem})
    for key, value in values.items():
        OmegaConf.update(nested, key, value, force_add=True)
    threads = run.config.get("threads")
    line = f"python scripts/train.py experiment={path.stem}"
    line += f" threads={threads}" if threads else ""
    name = "".join(c if c.isprintable() else "?" for c in Path(run.path).name)
    text = f"# @package _global_\n# The run {name}: {line}\n"
    if content:
        text += "defaults:\n" + "".join(f"  - {entry}\n" for entry in defaults) + "\n"
    text += OmegaConf.to_yaml(nested)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise UserError(f"export={path}: cannot be written ({error.strerror})") from error
    try:
        left = list(changed(run.config, flatten(compose(f"experiment={path.stem}"))))
        if left:
            key, (then, today) = left[0]
            raise UserError(
                f"{run.path}: cannot be exported, {key} was {_value(then)} and would be "
                f"{_value(today)}"
            )
    except BaseException:
        path.unlink()
        raise
    return differences(run)


def differences(run: Run) -> list[str]:
    """How the code and libraries that a run was made with differ from those here, a line each."""
    here = environment()
    found = []
    then, now = run.result.get("git"), here["git"]
    if isinstance(then, dict) and isinstance(now, dict):
        if then.get("commit") != now["commit"]:
            found.append(
                f"it was made at commit {str(then.get('commit'))[:10]}, this is "
                f"{now['commit'][:10]}"
            )
        found += ["it was made with changes that were not committed"] if then.get("dirty") else []
    versions = run.result.get("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        if (today := here["versions"].get(name)) != version:
            found.append(f"it was made with {name} {version}, this is {today or 'without it'}")
    return found


def diff(run: Run) -> tuple[dict[str, str], dict[str, Any]]:
    """The options of config groups, and the values of (dotted) keys beyond them, that turn the
    default configuration into that of a run."""
    target = run.config
    given = dict(text.split("=", 1) for text in run.overrides if "=" in text)
    choices: dict[str, str] = {}
    cfg = compose_unchecked([])
    for group in SCHEMAS:
        wrong = [(key, pair) for key, pair in changed(target, flatten(cfg)) if _in(group, key)]
        # For one value of another option, setting the value is as short.
        if not wrong or (len(wrong) == 1 and NOTHING not in wrong[0][1] and group not in given):
            continue
        options = [path.stem for path in sorted((CONF_DIR / group).glob("*.yaml"))]
        # The command line is right unless it is another version's, or names an experiment.
        guesses = [given[group]] if given.get(group) in options else options
        for option in guesses:
            tried = choices | {group: option}
            try:
                candidate = compose_unchecked([f"{g}={o}" for g, o in tried.items()])
                distance = _distance(target, flatten(candidate))
            except Exception:
                # An option that does not go with the others is not the run's.
                continue
            if distance < _distance(target, flatten(cfg)):
                choices, cfg = tried, candidate
    return choices, _values(cfg, target)


def changed(then: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """The (dotted) keys that define a result and differ, with both values; NOTHING where a
    configuration has no such key."""
    for key in now | then:
        values = then.get(key, NOTHING), now.get(key, NOTHING)
        if defines_result(key) and values[0] != values[1]:
            yield key, values


def _values(cfg: DictConfig, target: dict[str, Any]) -> dict[str, Any]:
    """What remains to be set, a key at a time: others may follow from it by interpolation."""
    found: dict[str, Any] = {}
    while True:
        left = [
            (key, then)
            for key, (then, today) in changed(target, flatten(cfg))
            if then is not NOTHING and today is not NOTHING and key not in found
        ]
        if not left:
            return found
        key, value = left[0]
        found[key] = value
        OmegaConf.update(cfg, key, value, merge=False)


def _in(group: str, key: str) -> bool:
    return key.startswith(f"{group}.")


def _distance(target: dict[str, Any], flat: dict[str, Any]) -> int:
    return sum(1 for _ in changed(target, flat))


def _overrides(values: dict[str, Any]) -> list[str]:
    return [f"{key}={_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:
    """A value as Hydra's command line has it."""
    if value is NOTHING:
        return "nothing"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, str) and (
        value.lower() in _VALUES or not re.fullmatch(r"[A-Za-z_][\w./-]*", value)
    ):
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return f"'{escaped}'"
    return str(value)
