"""Ways in which metrics were measured: values of different ways do not compare."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gan.config.checks import defines_result
from gan.config.schema import PROTOCOL
from gan.metrics.catalogue import METRICS

Facts = Mapping[str, Any]
"""Facts that a metric depends on, as result.json (`measured`) and metrics-NAME.json hold them: the
weights, the split, the numbers of samples, the real samples and the networks."""

Config = Mapping[str, Any]
"""A resolved configuration with dotted keys."""

AVERAGE_KEY = "trainer.ema_half_life"
AS_IN_TRAINING = {"step": "last", "truncation": None, "standing": 0}
"""The facts that `gan evaluate` alone may change, as they are without it."""
SETTINGS = (
    *("data.", "features.", "metrics.samples", "metrics.real", "metrics.split", PROTOCOL),
    AVERAGE_KEY,
)
"""The beginnings of the configuration keys that decide the facts."""


def ways(metric: str, runs: Sequence[tuple[Facts, Config]]) -> list[str]:
    """Return a label for each run, such as "samples=600,split=test", that says how a metric was
    measured. Values with the same label may be compared.

    A label names only facts in which the runs differ, so it is empty where all agree. A fact that
    is not stored is that of another run with the same settings: a run that goes on has no facts.

    Averaged weights may be compared with the generator's own weights of runs that keep no average:
    this compares what each run gives in the end.
    """
    by_settings: dict[str, dict[str, Any]] = {}
    for facts, config in runs:
        by_settings.setdefault(_settings(config), {}).update(facts)
    runs = [
        ({**by_settings[_settings(config)], **AS_IN_TRAINING, **_with_protocol(facts)}, config)
        for facts, config in runs
    ]
    described = [_describe(metric, facts, config) for facts, config in runs]
    columns = {
        name: _known([facts[name] for facts in described])
        for name in (described[0] if described else ())
    }
    if described:
        columns["data"] = _data_names(columns["hash"], [config for _, config in runs])
    of_averaging_runs = zip(columns.get("weights", []), runs, strict=True)
    if len({weights for weights, (_, config) in of_averaging_runs if keeps_average(config)}) < 2:
        columns.pop("weights", None)
    labels = [""] * len(runs)
    for name, values in columns.items():
        finer = [f"{label},{name}={value}" for label, value in zip(labels, values, strict=True)]
        # A fact that follows from those before it would make the labels longer and no clearer.
        if len(set(finer)) > len(set(labels)):
            labels = finer
    return [label.removeprefix(",") for label in labels]


def keeps_average(config: Config) -> bool:
    """Return whether a run keeps averaged weights, which are then what is measured."""
    return bool(config.get(AVERAGE_KEY))


def _with_protocol(facts: Facts) -> Facts:
    """Return facts that tell the protocol, if they are known at all."""
    return {"protocol": None, **facts} if facts else facts


def _describe(metric: str, facts: Facts, config: Config) -> dict[str, Any]:
    """Return the facts that a metric depends on, the clearest ones first; None for those that are
    not known. The name of the data follows later."""
    known = METRICS.get(metric)
    weights = "average" if keeps_average(config) else "generator"
    protocol = facts.get("protocol", config.get(PROTOCOL))
    return {
        "protocol": "none" if protocol is None else str(protocol),
        "data": "",
        "split": facts.get("split", config.get("metrics.split")),
        "samples": facts.get("samples", config.get("metrics.samples")),
        "real": facts.get("real"),
        "hash": _data_hash(facts, config),
        "features": _network(facts.get("features")) if known and known.features else "",
        "classifier": _network(facts.get("classifier")) if known and known.classes else "",
        "weights": facts.get("weights", weights),
        "truncation": facts["truncation"] or "none",
        "standing": facts["standing"],
        "step": facts["step"],
    }


def _known(values: Sequence[Any]) -> list[Any]:
    """Return values of a fact in which those that are not known are the only other one, if there
    is only one, and "unknown" otherwise."""
    others = {value for value in values if value is not None}
    stand_in = others.pop() if len(others) == 1 else "unknown"
    return [stand_in if value is None else value for value in values]


def _network(facts: Any) -> str | None:
    if not isinstance(facts, dict):
        return None
    return " ".join(str(facts[key]) for key in ("name", "sha256") if key in facts)


def _data_names(hashes: Sequence[str], configs: Sequence[Config]) -> list[str]:
    """Return the names of data sets, such as "mnist". The same samples have the same name."""
    names: dict[str, str] = {}
    for hash_, config in zip(hashes, configs, strict=True):
        names.setdefault(hash_, str(config.get("data._target_", hash_)).rpartition(".")[2])
    return [names[hash_] for hash_ in hashes]


def _data_hash(facts: Facts, config: Config) -> str | None:
    if "real_hash" in facts:
        return str(facts["real_hash"])[:8]
    # The configuration of a mixture of points says all about it.
    settings = _settings(config, "data.")
    return hashlib.sha256(settings.encode()).hexdigest()[:8] if "data._target_" in config else None


def _settings(config: Config, *beginnings: str) -> str:
    keys = [key for key in config if key.startswith(beginnings or SETTINGS) and defines_result(key)]
    return json.dumps({key: config[key] for key in keys}, sort_keys=True, default=str)
