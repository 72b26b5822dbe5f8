"""Turn a run back into the command line, or the experiment file, that gives the same run."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from gan.compare.frame import STATISTICS, TARGET, Table
from gan.compare.inference import MIN_VALUES
from gan.compare.rank import Ranking
from gan.compare.read import ABSENT, StoredRun
from gan.config.checks import ABSENT_IF, defines_result, flatten, typed
from gan.config.compose import (
    compose,
    compose_or_explain,
    compose_unchecked,
    config_loader,
    split_words,
)
from gan.config.overrides import as_override, escaped, quoted
from gan.config.schema import CONF_DIR, GROUPS
from gan.config.spaces import has_several_values
from gan.config.trust import powers, refuse_untrusted, untrusted, word_powers
from gan.errors import UserError
from gan.run.directory import CONFIG_FILE, OVERRIDES_FILE, ROUNDING, best_paths, step_of
from gan.run.provenance import code_hashes
from gan.run.result import WELL_ENDED, environment
from gan.system.files import replacing
from gan.system.invocation import command as command_words

_ONE_RUN = "hydra.mode=RUN"
"""The word that makes one run of an experiment that is a sweep."""
_PLACES = ("--config-", "hydra.searchpath=")
"""Beginnings of words that say where YAML files are."""


def best_run(table: Table, metric: str) -> StoredRun:
    """Return the first completed run of a table that is sorted by the metric.

    Raises:
        UserError: No completed run has the metric.
    """
    frame = table.frame
    candidates = frame[frame["status"].isin(WELL_ENDED) & table.column(metric).notna()]
    if candidates.empty:
        raise UserError(f"no run is completed and has {metric}: {len(frame)} runs looked at")
    return table.runs[int(candidates.index[0])]


def kept_checkpoint(run: StoredRun) -> str | None:
    """Return a line about the checkpoint of a run's best step, if it keeps one."""
    paths = best_paths(Path(run.path))
    if not paths:
        return None
    metric, step = run.config.get("trainer.keep_best"), step_of(paths[0])
    return (
        f"its checkpoint of the best {metric}, of step {step}: {paths[0]}; checkpoint=best takes it"
    )


def best_point(ranking: Ranking, table: Table) -> tuple[list[StoredRun], str]:
    """Return the runs of the point with the best median, and a line about them.

    Raises:
        UserError: No point has a finished run with the metric.
    """
    # A single run may be the best by chance, so it only counts where no group has enough of them.
    ranked = [place for place, rank in enumerate(ranking.frame["rank"]) if rank]
    place = ranked[0] if ranked else 0
    best = ranking.frame.iloc[place]
    if not best["n"]:
        raise UserError(f"no run is completed and has {ranking.metric}")
    keys = [name for name in ranking.frame if name not in STATISTICS]
    point = ", ".join(f"{name}={best[name]}" for name in keys) or "the only one"
    told = " (others cannot be told from it)" if best["rank"].endswith("=") else ""
    few = f"; others with fewer than {MIN_VALUES} runs look better" if place else ""
    few = few if ranked else f"; that is too few: no point has {MIN_VALUES}"
    count = f"{best['n']} run{'s' * int(best['n'] > 1)}"
    return [table.runs[number] for number in sorted(ranking.members[place])], (
        f"the best point{told}: {point}; the median {ranking.metric} of its {count} is "
        f"{best['median']:.4g}{few}"
    )


def point_commands(runs: Sequence[StoredRun]) -> tuple[list[list[str]], list[str]]:
    """Return the command line of a sweep that repeats the runs of a point, and remarks.

    Runs that differ in more than one word have a command line each.

    Raises:
        UserError: No command line gives one of the runs any more.
    """
    lines, remarks = zip(*map(command, runs), strict=True)
    all_remarks = [*dict.fromkeys(remark for of_run in remarks for remark in of_run)]
    common = [word for word in lines[0] if all(word in line for line in lines)]
    own = [[word for word in line if word not in common] for line in lines]
    keys = {word.partition("=")[0] for words in own for word in words}
    if len(lines) == 1 or len(keys) != 1 or any(len(words) != 1 for words in own):
        return [*lines], all_remarks
    values = ",".join(words[0].partition("=")[2] for words in own)
    program = len(command_words("train"))
    fixed = [_not_swept(word) for word in common[program:] if word != _ONE_RUN]
    if _ONE_RUN in common:
        # The experiment is a sweep, and may repeat each point with seeds of its own.
        fixed.append("sweep.seeds=1")
    return [[*common[:program], "-m", *fixed, f"{keys.pop()}={values}"]], all_remarks


def _not_swept(word: str) -> str:
    """Return a word that has one value with -m too, where a comma separates values."""
    key, equals, value = word.partition("=")
    return f"{key}={quoted(value)}" if equals and has_several_values(word) else word


def command(run: StoredRun) -> tuple[list[str], list[str]]:
    """Return the words of a command line that repeats a run, and remarks on what may differ.

    The words are those that started the run, followed by the values that conf/ has changed since.
    They compose to the configuration of the run, as far as it decides the result.

    Raises:
        UserError: no command line gives this run any more.
    """
    if not run.config:
        raise UserError(f"{run.path}: its {CONFIG_FILE} cannot be read")
    refuse_untrusted(run.path, powers(run.config))
    remarks = environment_changes(run)
    try:
        words, changes = _with_changed_values(run, _trusted_overrides(run))
        remarks += changes
    except UserError:
        known = "cannot be read" if OVERRIDES_FILE in run.damaged else "are not understood any more"
        remarks.append(f"the run's own overrides {known}, these are new ones")
        options, values = difference_from_default(run)
        words, _ = _with_changed_values(
            run, [*places_of_files(run), *_as_overrides(options | values)]
        )
    given = {text.partition("=")[0] for text in words}
    words += [text for text in _rounding(run) if text.partition("=")[0] not in given]
    refuse_untrusted(run.path, word_powers(words))
    remarks += _check_data(run, words)
    if compose_unchecked(words, with_hydra=True).hydra.mode == RunMode.MULTIRUN:
        words.append(_ONE_RUN)
    return [*command_words("train"), *words], remarks


def _rounding(run: StoredRun) -> list[str]:
    """Return overrides for what rounding depends on, as far as the run is not of an old version."""
    return [f"{key}={run.config[key]}" for key in ROUNDING if run.config.get(key)]


def _check_data(run: StoredRun, words: list[str]) -> list[str]:
    """Load the data that words name, and return a remark where they cannot be compared with the
    run's.

    Raises:
        UserError: they are not the data that the run was trained on.
    """
    if run.data_hash is None:
        return []
    # These import torch, which takes seconds and is needed for nothing else here.
    from gan.build import load_data
    from gan.data import content_hash

    try:
        now = content_hash(load_data(compose(*words)))
    except UserError as error:
        return [f"its data cannot be compared with those that are here: {error}"]
    if now != run.data_hash:
        raise UserError(
            f"{run.path}: cannot be repeated, its data were others (hash {run.data_hash[:10]}) "
            f"than those that are here now ({str(now)[:10]})"
        )
    return []


def _with_changed_values(run: StoredRun, words: list[str]) -> tuple[list[str], list[str]]:
    """Return words with the values that conf/ has changed since, and remarks on these.

    Raises:
        UserError: the words, with such values, do not compose to the configuration of the run.
    """
    remarks, composed = [], _compose_flat(run, words)
    given = words
    for key, then, now in changed_keys(run.config, composed):
        if then is ABSENT:
            remarks.append(f"{key}={_as_override(now)} was not there then")
        elif now is ABSENT:
            remarks.append(f"{key}={_as_override(then)} is not there any more")
        else:
            remarks.append(f"{key} was {_as_override(then)}, and conf/ gives {_as_override(now)}")
            words = [*words, *_as_overrides({key: then})]
    if words is not given:
        composed = _compose_flat(run, words)
    for key, then, now in changed_keys(run.config, composed):
        # A key that is new since has the value that stands for what was done before. One that is
        # gone changes nothing if it was switched off.
        if then is not ABSENT and not (now is ABSENT and then in (None, False, [], {})):
            raise UserError(
                f"{run.path}: cannot be repeated, {key} was {_as_override(then)} and would be "
                f"{_as_override(now)}"
            )
    return words, remarks


def _compose_flat(run: StoredRun, words: list[str]) -> dict[str, Any]:
    """Return the configuration that words give, with dotted keys.

    Raises:
        UserError: they give none.
    """
    try:
        return flatten(compose(*words))
    except UserError as error:
        raise UserError(f"{run.path}: cannot be repeated, {error}") from error


def places_of_files(run: StoredRun) -> list[str]:
    """Return the words of a run's command line that say where YAML files are, if they are known."""
    places = [word for word in run.overrides if word.startswith(_PLACES)]
    return [] if untrusted(word_powers(places)) else places


def _trusted_overrides(run: StoredRun) -> list[str]:
    """Return the words of a run's command line.

    Raises:
        UserError: one of them would do what this user has not asked for.
    """
    refuse_untrusted(run.path, word_powers(run.overrides))
    for word in run.overrides:
        if word.lstrip("+~").startswith("hydra") and not word.startswith(_PLACES):
            raise UserError(f"{run.path}: {word} is no key of a run")
    return list(run.overrides)


def export(run: StoredRun, path: Path) -> list[str]:
    """Write an experiment file that composes to the configuration of a run.

    The file holds only what differs from the default configuration.

    Returns:
        Remarks on what may differ all the same.

    Raises:
        UserError: `path` is not the path of a new experiment or cannot be written, or no
            experiment gives this run any more.
    """
    refuse_untrusted(run.path, powers(run.config))
    places = _places_with(run, path)
    options, values = difference_from_default(run)
    # Losses are means over so many steps, and a loss may be the objective.
    every = flatten(compose_unchecked(places))["logging.every"]
    if run.config.get("logging.every", every) != every:
        values["logging.every"] = run.config["logging.every"]
    nested = OmegaConf.create({"name": path.stem})
    for key, value in values.items():
        OmegaConf.update(nested, key, escaped(value), force_add=True)
    words = [*places, f"experiment={path.stem}", *_rounding(run)]
    name = "".join(c if c.isprintable() else "?" for c in Path(run.path).name)
    text = f"# @package _global_\n# The run {name}: gan train {shlex.join(words)}\n"
    if options:
        entries = [f"  - override /{group}: {option}\n" for group, option in options.items()]
        text += "".join(["defaults:\n", *entries, "\n"])
    text += OmegaConf.to_yaml(nested)
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"export={path}: cannot be written ({error.strerror or error})") from error
    try:
        composed = _compose_flat(run, words)
        if change := next(changed_keys(run.config, composed), None):
            key, then, now = change
            raise UserError(
                f"{run.path}: cannot be exported, {key} was {_as_override(then)} and would be "
                f"{_as_override(now)}"
            )
        remarks = _check_data(run, words)
    except BaseException:
        path.unlink()
        raise
    return environment_changes(run) + remarks


def environment_changes(run: StoredRun) -> list[str]:
    """Return a line for each difference between the code and libraries of a run and those here."""
    here = environment()
    changes = []
    then, now = run.result.get("git"), here["git"]
    if isinstance(then, dict) and isinstance(now, dict):
        if then.get("commit") != now["commit"]:
            commit = str(then.get("commit"))[:10]
            changes.append(f"it was made at commit {commit}, this is {now['commit'][:10]}")
        if then.get("dirty"):
            changes.append("it was made with changes that were not committed")
    code = code_hashes(run.config)
    for name, digest in run.code.items():
        if code.get(name) != digest:
            changes.append(f"the code of {name} has changed since it was made")
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
    places = places_of_files(run)
    cfg = typed(compose_or_explain(places))
    with config_loader(places) as loader:
        all_options = {group: sorted(loader.get_group_options(group)) for group in GROUPS}
    for group in GROUPS:
        changes = [
            change
            for change in changed_keys(run.config, flatten(cfg))
            if change[0].startswith(f"{group}.")
        ]
        # To set a single value is as short as to choose another option. A target is no value.
        is_single_value = len(changes) == 1 and ABSENT not in changes[0]
        is_single_value = is_single_value and not changes[0][0].endswith(TARGET)
        if not changes or (is_single_value and group not in overridden):
            continue
        options = all_options[group]
        # The run knows its option unless it comes from another version.
        if run.choices.get(group) in options:
            options = [run.choices[group]]
        for option in options:
            candidate = chosen | {group: option}
            try:
                candidate_cfg = typed(compose_unchecked([*places, *_as_overrides(candidate)]))
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
        old, new = (flat.get(key, ABSENT_IF.get(key, ABSENT)) for flat in (then, now))
        if defines_result(key) and old != new:
            yield key, old, new


def _places_with(run: StoredRun, path: Path) -> list[str]:
    """Return the words that say where YAML files are, those of a run and a new experiment file.

    Raises:
        UserError: `path` is not the path of a new experiment, or would not be found.
    """
    if path.suffix != ".yaml" or path.resolve().parent.name != "experiment":
        raise UserError(f"export={path}: must be FOLDER/experiment/NAME.yaml, as in {CONF_DIR}")
    places, folder = places_of_files(run), path.resolve().parents[1]
    found, _ = split_words(places)
    own = found.get("config-dir")
    if own and folder not in (CONF_DIR.resolve(), Path(own).resolve()):
        raise UserError(
            f"export={path}: must be in {own}/experiment or {CONF_DIR}/experiment, where the other "
            "files of this run are found"
        )
    if folder != CONF_DIR.resolve() and not own:
        places.append(f"--config-dir={folder}")
    if not re.fullmatch(r"[\w-]+", path.stem):
        raise UserError(f"export={path}: its name may have letters, digits, - and _ alone")
    if path.exists():
        raise UserError(f"export={path}: is there already")
    return places


def _remaining_values(cfg: DictConfig, config: dict[str, Any]) -> dict[str, Any]:
    """Return the values that must be set in `cfg` to make it equal to `config`.

    They are set one at a time, because others may follow from them by interpolation.
    """
    values: dict[str, Any] = {}
    while True:
        for key, then, now in changed_keys(config, flatten(cfg)):
            if key not in values and then is not ABSENT and now is not ABSENT:
                values[key] = then
                OmegaConf.update(cfg, key, escaped(then), merge=False)
                break
        else:
            return values


def _distance(config: dict[str, Any], cfg: DictConfig) -> int:
    return len(list(changed_keys(config, flatten(cfg))))


def _as_overrides(values: dict[str, Any]) -> list[str]:
    return [f"{key}={_as_override(value)}" for key, value in values.items()]


def _as_override(value: Any) -> str:
    return "nothing" if value is ABSENT else as_override(value)
