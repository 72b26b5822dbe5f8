"""Turn a run back into the command line, or the experiment file, that gives the same run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan.compare.frame import Table
from gan.compare.read import ABSENT, StoredRun
from gan.config.checks import defines_result, flatten
from gan.config.compose import CONF_DIR, compose, compose_unchecked
from gan.config.schema import SCHEMAS
from gan.errors import UserError
from gan.files import replacing
from gan.run.result import environment

_NOT_TEXT = ("null", "true", "false", "inf", "nan")
"""Words that Hydra does not read as text, whatever the case of their letters."""


def best_run(table: Table, metric: str) -> StoredRun:
    """Return the first completed run of a table that is sorted by the metric.

    Raises:
        UserError: No completed run has the metric.
    """
    frame = table.frame
    candidates = frame[(frame["status"] == "completed") & table.column(metric).notna()]
    if candidates.empty:
        raise UserError(f"no run is completed and has {metric}: {len(frame)} runs looked at")
    return table.runs[int(candidates.index[0])]


def command(run: StoredRun) -> tuple[list[str], list[str]]:
    """Return the words of a command line that repeats a run, and remarks on what may differ.

    The words are those that started the run, followed by the values that conf/ has changed since.

    Raises:
        UserError: Neither the overrides of the run nor its configuration can be used.
    """
    remarks = environment_changes(run)
    overrides = list(run.overrides)
    try:
        config = flatten(compose_unchecked(overrides))
    except Exception as error:
        if not run.config:
            raise UserError(f"{run.path}: its configuration cannot be read") from error
        remarks.append("the run's own overrides are not understood any more, these are new ones")
        options, values = difference_from_default(run)
        overrides = _as_overrides(options | values)
        config = flatten(compose_unchecked(overrides))
    for key, then, now in changed_keys(run.config, config):
        if then is ABSENT:
            remarks.append(f"{key}={_as_override(now)} was not there then")
        elif now is ABSENT:
            remarks.append(f"{key}={_as_override(then)} is not there any more")
        else:
            remarks.append(f"{key} was {_as_override(then)}, and conf/ gives {_as_override(now)}")
            overrides += _as_overrides({key: then})
    # Rounding depends on the number of threads.
    threads = run.config.get("threads")
    if threads and not any(text.startswith("threads=") for text in overrides):
        overrides.append(f"threads={threads}")
    return ["python", "scripts/train.py", *overrides], remarks


def export(run: StoredRun, path: Path) -> list[str]:
    """Write an experiment file that composes to the configuration of a run.

    The file holds only what differs from the default configuration.

    Returns:
        Remarks on what may differ all the same.

    Raises:
        UserError: `path` is not the path of a new experiment or cannot be written, or no
            experiment gives this run any more.
    """
    _check_experiment_path(path)
    options, values = difference_from_default(run)
    nested = OmegaConf.create({"name": path.stem})
    for key, value in values.items():
        OmegaConf.update(nested, key, value, force_add=True)
    threads = run.config.get("threads")
    line = f"python scripts/train.py experiment={path.stem}"
    line += f" threads={threads}" if threads else ""
    name = "".join(c if c.isprintable() else "?" for c in Path(run.path).name)
    text = f"# @package _global_\n# The run {name}: {line}\n"
    if options:
        entries = [f"  - override /{group}: {option}\n" for group, option in options.items()]
        text += "".join(["defaults:\n", *entries, "\n"])
    text += OmegaConf.to_yaml(nested)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise UserError(f"export={path}: cannot be written ({error.strerror})") from error
    try:
        composed = flatten(compose(f"experiment={path.stem}"))
        if change := next(changed_keys(run.config, composed), None):
            key, then, now = change
            raise UserError(
                f"{run.path}: cannot be exported, {key} was {_as_override(then)} and would be "
                f"{_as_override(now)}"
            )
    except BaseException:
        path.unlink()
        raise
    return environment_changes(run)


def environment_changes(run: StoredRun) -> list[str]:
    """Return a line for each difference between the code and libraries of a run and these."""
    here = environment()
    changes = []
    then, now = run.result.get("git"), here["git"]
    if isinstance(then, dict) and isinstance(now, dict):
        if then.get("commit") != now["commit"]:
            commit = str(then.get("commit"))[:10]
            changes.append(f"it was made at commit {commit}, this is {now['commit'][:10]}")
        if then.get("dirty"):
            changes.append("it was made with changes that were not committed")
    versions = run.result.get("versions")
    for name, version in versions.items() if isinstance(versions, dict) else ():
        if (version_here := here["versions"].get(name)) != version:
            this = version_here or "without it"
            changes.append(f"it was made with {name} {version}, this is {this}")
    return changes


def difference_from_default(run: StoredRun) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what turns the default configuration into that of a run.

    Returns:
        The options of config groups by the names of the groups, and the values of further dotted
        keys.
    """
    overridden = dict(text.split("=", 1) for text in run.overrides if "=" in text)
    chosen: dict[str, str] = {}
    cfg = compose_unchecked([])
    for group in SCHEMAS:
        changes = [
            change
            for change in changed_keys(run.config, flatten(cfg))
            if change[0].startswith(f"{group}.")
        ]
        # To set a single value is as short as to choose another option.
        is_single_value = len(changes) == 1 and ABSENT not in changes[0]
        if not changes or (is_single_value and group not in overridden):
            continue
        options = [path.stem for path in sorted((CONF_DIR / group).glob("*.yaml"))]
        # The command line names the right option unless it comes from another version or names an
        # experiment.
        if overridden.get(group) in options:
            options = [overridden[group]]
        for option in options:
            candidate = chosen | {group: option}
            try:
                candidate_cfg = compose_unchecked(_as_overrides(candidate))
                distance = _distance(run.config, candidate_cfg)
            except Exception:
                # The run cannot have an option that does not go with its other options.
                continue
            if distance < _distance(run.config, cfg):
                chosen, cfg = candidate, candidate_cfg
    return chosen, _remaining_values(cfg, run.config)


def changed_keys(then: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each dotted key that can change a result and differs, with its value then and now.

    The value is ABSENT if a configuration does not have the key.
    """
    for key in now | then:
        old, new = then.get(key, ABSENT), now.get(key, ABSENT)
        if defines_result(key) and old != new:
            yield key, old, new


def _check_experiment_path(path: Path) -> None:
    folder = CONF_DIR / "experiment"
    if path.suffix != ".yaml" or path.resolve().parent != folder.resolve():
        raise UserError(f"export={path}: must be {folder}/NAME.yaml, where experiments are found")
    if not re.fullmatch(r"[\w-]+", path.stem):
        raise UserError(f"export={path}: its name may have letters, digits, - and _ alone")
    if path.exists():
        raise UserError(f"export={path}: is there already")


def _remaining_values(cfg: DictConfig, config: dict[str, Any]) -> dict[str, Any]:
    """Return the values that must be set in `cfg` to make it equal to `config`.

    They are set one at a time, because others may follow from them by interpolation.
    """
    values: dict[str, Any] = {}
    while True:
        for key, then, now in changed_keys(config, flatten(cfg)):
            if key not in values and then is not ABSENT and now is not ABSENT:
                values[key] = then
                OmegaConf.update(cfg, key, then, merge=False)
                break
        else:
            return values


def _distance(config: dict[str, Any], cfg: DictConfig) -> int:
    return len(list(changed_keys(config, flatten(cfg))))


def _as_overrides(values: dict[str, Any]) -> list[str]:
    return [f"{key}={_as_override(value)}" for key, value in values.items()]


def _as_override(value: Any) -> str:
    """Return a value in the notation of Hydra's command line."""
    if value is ABSENT:
        return "nothing"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_as_override, value))}]"
    if isinstance(value, str) and (
        value.lower() in _NOT_TEXT or not re.fullmatch(r"[A-Za-z_][\w./-]*", value)
    ):
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return f"'{escaped}'"
    return str(value)
