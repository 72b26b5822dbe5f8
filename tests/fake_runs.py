"""Write the directories of runs without training anything, in no time."""

import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from PIL import Image

from gan.config.checks import as_yaml
from gan.config.compose import compose
from gan.run.result import best_values, environment

RECORDS = 6
"""The number of records that a run logs unless it is told otherwise, one every 100 steps."""


def make_run(
    path: Path,
    *overrides: str,
    value: float = 0.5,
    status: str | None = "completed",
    points: int = RECORDS,
    image: int | None = None,
    **facts: Any,
) -> Path:
    """Write everything that a run with these overrides leaves behind, and return its directory.

    Args:
        value: The last value of sliced_wasserstein. Earlier values are higher.
        status: The status in result.json, or None for a run without this file.
        points: The number of records in metrics.jsonl.
        image: The grey level of its sample pictures. By default there are none.
        facts: Further entries of result.json.
    """
    (path / "samples").mkdir(parents=True)
    cfg = _compose(overrides)
    (path / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (path / "config.yaml").write_text(as_yaml(cfg))
    (path / ".lock").touch()
    note = {"id": "0123456789abcdef", "choices": {}, "starts": []}
    (path / "provenance.json").write_text(json.dumps(note))
    records = [make_record(100 * (n + 1), value * (1 + math.exp(-n))) for n in range(points)]
    if records:
        records[-1]["sliced_wasserstein"] = value
    lines = [json.dumps(record) + "\n" for record in records]
    (path / "metrics.jsonl").write_text("".join(lines))
    if image is not None:
        for record in records[1::2]:
            file = path / "samples" / f"step-{record['step']:06d}.png"
            Image.new("L", (242, 242), (image + record["step"] // 10) % 256).save(file)
    if status is not None:
        result = {
            "status": status,
            "objective_name": cfg.metrics.objective,
            "objective": None if status == "diverged" else value,
            "final": records[-1] if records else {},
            "best": best_values(records),
            "steps": 100 * points,
            "images": 12800 * points,
            "seconds": 2.0 * points,
            "images_per_second": 6400.0,
            "name": cfg.name,
            "seed": cfg.seed,
            "ended": "2026-01-01T00:00:00+00:00",
            "error": None,
            **environment(),
            **facts,
        }
        (path / "result.json").write_text(json.dumps(result))
    return path


def make_record(step: int, value: float) -> dict[str, float]:
    """Return a record of metrics.jsonl whose sliced_wasserstein is `value`."""
    return {
        "step": step,
        "epoch": step / 31,
        "loss/discriminator": 1.0 + value,
        "loss/generator": 1.5 - value / 2,
        "prob/real": 0.75,
        "prob/fake": 0.25,
        "sliced_wasserstein": value,
    }


def make_sweep(path: Path, seeds: int = 3) -> Path:
    """Write runs with two learning rates, two widths and some seeds each, and return `path`.

    The rate 0.001 at width 128 is best. The rate 0.0002 at width 128 is as good within the spread
    of its seeds. The rate 0.001 at width 256 diverges with the last seed.
    """
    medians = {
        ("0.001", 128): 0.1,
        ("0.0002", 128): 0.11,
        ("0.001", 256): 0.5,
        ("0.0002", 256): 0.3,
    }
    for (lr, width), median in medians.items():
        for seed in range(seeds):
            diverged = median == 0.5 and seed == seeds - 1
            make_run(
                path / f"hidden_dim={width},lr={lr},seed={seed}",
                f"model.hidden_dim={width}",
                f"optimizer.lr={lr}",
                f"seed={seed}",
                value=median + 0.02 * (seed - seeds // 2) / (seeds // 2),
                status="diverged" if diverged else "completed",
                image=20 * seed + width // 4,
            )
    return path


def _compose(overrides: tuple[str, ...]) -> DictConfig:
    """Compose once for runs that differ in the seed alone."""
    seeds = [text for text in overrides if re.fullmatch(r"seed=\d+", text)]
    cfg = _compose_once(tuple(text for text in overrides if text not in seeds))
    if seeds:
        cfg = cfg.copy()
        cfg.seed = int(seeds[-1].removeprefix("seed="))
    return cfg


@cache
def _compose_once(overrides: tuple[str, ...]) -> DictConfig:
    return compose(*overrides)
