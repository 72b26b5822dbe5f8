"""Runs that were never trained."""

import json
import math
from pathlib import Path
from typing import Any

import yaml

from gan.config.checks import as_config
from gan.run.directory import CONFIG_FILE, METRICS_FILE, OVERRIDES_FILE
from gan.run.result import Record, Status, make_result, write_result

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The fastest writer of plain data as YAML."""


def write_run(
    run_dir: Path, config: dict[str, Any], overrides: list[str], records: list[Record]
) -> float | None:
    """Write the files of a run that has ended, and return its objective.

    Args:
        config: the resolved configuration.
        records: the lines of metrics.jsonl.
    """
    run_dir.mkdir(parents=True)
    text = yaml.dump(config, Dumper=DUMPER, sort_keys=False)
    (run_dir / CONFIG_FILE).write_text(text, encoding="utf-8")
    text = yaml.dump(overrides, Dumper=DUMPER)
    (run_dir / OVERRIDES_FILE).write_text(text, encoding="utf-8")
    lines = [json.dumps(record) + "\n" for record in records]
    (run_dir / METRICS_FILE).write_text("".join(lines), encoding="utf-8")
    steps = records[-1]["step"]
    cfg = as_config(config)
    result = make_result(
        cfg, run_dir, status=Status.COMPLETED, step=steps, seconds=60.0, error=None
    )
    write_result(run_dir, result)
    value: float | None = result["objective"]
    return value


def curve(value: float, points: int = 3) -> list[Record]:
    """Return records whose sliced_wasserstein falls to `value`."""
    return [
        {
            "step": 100 * (index + 1),
            "loss/generator": 1.5 - value / 2,
            "loss/discriminator": 1.0 + value,
            "sliced_wasserstein": value * (1 + math.exp(index + 1 - points) * (index < points - 1)),
        }
        for index in range(points)
    ]
