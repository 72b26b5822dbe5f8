"""Short runs, and ways to disturb them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gan.config.compose import compose
from gan.run.checkpoint import checkpoint_paths
from gan.run.tensorboard import event_files
from gan.step import Batch, StepKind, StepResult, TrainableGAN, train_step
from gan.train import run

SCRIPTS = Path(__file__).parent.parent / "scripts"
SHORT = (
    "model.hidden_dim=16",
    "trainer.max_steps=40",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=10",
    "trainer.ema_half_life=null",
    "metrics.every=15",
    "metrics.samples=64",
    "logging.every=7",
    "logging.samples_every=10",
    "logging.samples=4",
    "threads=1",
)


def short(*overrides: str) -> DictConfig:
    """Return the configuration of a short run."""
    return compose(*SHORT, *overrides)


def fail_at(step: int, cfg: DictConfig, run_dir: Path, overrides: Sequence[str] = ()) -> None:
    """Train a run until an error is raised within training step number `step`."""

    def fail() -> None:
        raise RuntimeError("stop")

    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, step, fail)
        with pytest.raises(RuntimeError, match="stop"):
            run(cfg, run_dir, overrides=overrides)


def content(run_dir: Path) -> dict[str, bytes]:
    """Return everything that a resumed run must reproduce to the byte, by file name.

    The checkpoint comes without the seconds of training, and without the sizes of files, one of
    which has a time in its name.
    """
    files = [run_dir / "metrics.jsonl", *sorted((run_dir / "samples").iterdir())]
    by_name = {path.name: path.read_bytes() for path in files}
    checkpoint = torch.load(checkpoint_paths(run_dir)[0], weights_only=True)
    for name in ("seconds", "marks"):
        del checkpoint[name]
    by_name["checkpoint"] = _as_text(checkpoint).encode()
    return by_name


def _as_text(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{value.tolist()}"
    if isinstance(value, dict):
        return str({key: _as_text(item) for key, item in value.items()})
    return str(value)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], None]) -> None:
    """Call `action` within training step number `step`, counted from 1."""
    import gan.step

    calls = 0

    def counted(trained: TrainableGAN, batch: Batch, kind: StepKind) -> StepResult:
        nonlocal calls
        calls += 1
        if calls == step:
            action()
        return train_step(trained, batch, kind)

    monkeypatch.setattr(gan.step, "train_step", counted)


def hparams_records(run_dir: Path) -> dict[str, list[HParamsPluginData]]:
    """Return the records of the HPARAMS plugin in the raw files, by their kind."""
    records: dict[str, list[HParamsPluginData]] = {}
    for path in event_files(run_dir):
        for event in RawEventFileLoader(str(path)).Load():
            for value in Event.FromString(event).summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    records.setdefault(str(data.WhichOneof("data")), []).append(data)
    return records
