"""Directories of runs that look as if they had been trained, in no time."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from PIL import Image

from gan.config.compose import compose
from gan.run.result import best, environment

POINTS = 6


def make_run(
    path: Path,
    *overrides: str,
    value: float = 0.5,
    status: str | None = "completed",
    points: int = POINTS,
    image: int | None = None,
    **facts: Any,
) -> Path:
    """Write what a run with these overrides leaves behind.

    Args:
        value: the last of sliced_wasserstein, towards which it falls.
        status: None for a run without result.json.
        image: a grey level for its samples.
    """
    (path / "samples").mkdir(parents=True)
    cfg = _composed(overrides)
    (path / "overrides.yaml").write_text(OmegaConf.to_yaml(list(overrides)))
    (path / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (path / ".lock").touch()
    records = [record(100 * (n + 1), value * (1 + math.exp(-n))) for n in range(points)]
    if records:
        records[-1]["sliced_wasserstein"] = value
    lines = [json.dumps(line) + "\n" for line in records]
    (path / "metrics.jsonl").write_text("".join(lines))
    if image is not None:
        for line in records[1::2]:
            file = path / "samples" / f"step-{line['step']:06d}.png"
            Image.new("L", (242, 242), (image + line["step"] // 10) % 256).save(file)
    if status is not None:
        result = {
            "status": status,
            "objective_name": cfg.metrics.objective,
            "objective": None if status == "diverged" else value,
            "final": records[-1] if records else {},
            "best": best(records),
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


def record(step: int, value: float) -> dict[str, float]:
    return {
        "step": step,
        "epoch": step / 31,
        "loss/discriminator": 1.0 + value,
        "loss/generator": 1.5 - value / 2,
        "prob/real": 0.75,
        "prob/fake": 0.25,
        "sliced_wasserstein": value,
    }


def make_sweep(path: Path) -> Path:
    """Two learning rates and two widths with three seeds each. The rate 0.001 at width 128 is
    best, 0.0002 at width 128 as good within its spread, 0.001 at width 256 diverges once."""
    middles = {
        ("0.001", 128): 0.1,
        ("0.0002", 128): 0.11,
        ("0.001", 256): 0.5,
        ("0.0002", 256): 0.3,
    }
    for (lr, width), middle in middles.items():
        for seed in range(3):
            diverged = middle == 0.5 and seed == 2
            make_run(
                path / f"hidden_dim={width},lr={lr},seed={seed}",
                f"model.hidden_dim={width}",
                f"optimizer.lr={lr}",
                f"seed={seed}",
                value=middle + 0.02 * (seed - 1),
                status="diverged" if diverged else "completed",
                image=20 * seed + width // 4,
            )
    return path


@cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    return compose(*overrides)
