"""Cheap runs, and ways to disturb them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from gan.config.compose import compose
from gan.run.checkpoint import paths
from gan.step import Played, train_step

SCRIPTS = Path(__file__).parent.parent / "scripts"
SHORT = (
    "model.hidden_dim=16",
    "trainer.max_steps=40",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=10",
    "metrics.every=15",
    "metrics.samples=64",
    "logging.every=7",
    "logging.samples_every=10",
    "logging.samples=4",
    "threads=1",
)


def short(*overrides: str) -> DictConfig:
    return compose(*SHORT, *overrides)


def content(run_dir: Path) -> dict[str, bytes]:
    """What a resumed run must reproduce to the byte; checkpoints hold times as well."""
    files = [run_dir / "metrics.jsonl", *sorted((run_dir / "samples").iterdir())]
    found = {path.name: path.read_bytes() for path in files}
    saved = torch.load(paths(run_dir)[0], weights_only=True)
    for name in ("seconds", "marks"):
        del saved[name]
    found["checkpoint"] = _plain(saved).encode()
    return found


def _plain(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{value.tolist()}"
    if isinstance(value, dict):
        return str({key: _plain(item) for key, item in value.items()})
    return str(value)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Call `action` within training step number `step`, counted from 1."""
    import gan.step

    calls = 0

    def counted(*args: object, **settings: object) -> Played:
        nonlocal calls
        calls += 1
        if calls == step:
            action()
        return train_step(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(gan.step, "train_step", counted)
