"""What a run writes as it goes: metrics.jsonl, sample grids and TensorBoard events."""

import copy
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from gan.build import Parts
from gan.config.checks import all_keys, defines_result, flatten
from gan.data.pictures import png
from gan.files import sync, write_bytes
from gan.metrics.catalogue import LOSSES_AND_PROBABILITIES
from gan.run.directory import LOG_FILE, REAL_FILE, read_overrides
from gan.run.result import METRICS_FILE, Record
from gan.run.tensorboard import EventFile, event_files

CHARTS = {
    "Training": {
        "Losses": ["loss/discriminator", "loss/generator"],
        "D(x) and D(G(z))": ["prob/real", "prob/fake"],
    }
}
"""What TensorBoard overlays for every run."""


class RunLog:
    """The records of one run, appended to. Times are not in metrics.jsonl, so that its
    content depends on the configuration alone."""

    def __init__(self, run_dir: Path, *, tensorboard: bool):
        self.run_dir = run_dir
        self.samples_dir = run_dir / "samples"
        self.samples_dir.mkdir(exist_ok=True)
        self._metrics = (run_dir / METRICS_FILE).open("a")
        self.events = EventFile(run_dir) if tensorboard else None

    def record(self, record: Record, extra: Record) -> None:
        """One line of metrics.jsonl; `extra` values go to TensorBoard alone."""
        self._metrics.write(json.dumps(record, allow_nan=False) + "\n")
        self._metrics.flush()
        if self.events:
            values = {tag: value for tag, value in record.items() if tag != "step"}
            self.events.scalars(record["step"], values | extra)
            self.events.flush()

    def samples(self, step: int, image: Tensor) -> None:
        """A picture of samples, uint8 (channels, height, width)."""
        content = png(image)
        write_bytes(self.samples_dir / f"step-{step:06d}.png", content)
        if self.events:
            self.events.image(step, "samples", content, tuple(image.shape))
            self.events.flush()

    def real(self, image: Tensor | None) -> None:
        """A picture of real images, once, for comparison."""
        path = self.samples_dir / REAL_FILE
        if image is not None and not path.exists():
            write_bytes(path, png(image))

    def marks(self) -> dict[str, int]:
        """How long each file is now, on the disk: see `rewind`."""
        files = [self.run_dir / METRICS_FILE]
        if self.events:
            self.events.flush()
            files.append(self.events.path)
        for path in files:
            sync(path)
        return {path.name: path.stat().st_size for path in files}

    def close(self) -> None:
        self._metrics.close()
        if self.events:
            self.events.close()


def describe(events: EventFile, cfg: DictConfig, parts: Parts, run_dir: Path) -> None:
    """What TensorBoard shows of a run beside its curves: configuration, graphs, HPARAMS row."""
    z = torch.zeros(1, parts.latent_dim, device=parts.device)
    label = torch.zeros(1, dtype=torch.int64, device=parts.device)
    text = "".join(f"    {line}\n" for line in OmegaConf.to_yaml(cfg, resolve=True).splitlines())
    quality = {name: [name, f"best/{name}"] for name in cfg.metrics.names}
    charts = CHARTS | ({"Quality": quality} if quality else {})
    events.describe(text, GAN(parts), (z, label) if parts.conditional else (z,), charts)
    columns = [name for name in all_keys() if defines_result(name)]
    values = {name: value for name, value in flatten(cfg).items() if name in columns}
    # All that there are would be columns that stay empty for most; runs of a sweep measure alike.
    measured = list(cfg.metrics.names)
    overridden = [override.partition("=")[0] for override in read_overrides(run_dir)]
    events.start_session(
        # Runs of two sweeps may have the same name.
        f"{run_dir.name} {hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:6]}",
        columns,
        [name for name in columns if any(f"{name}.".startswith(f"{o}.") for o in overridden)],
        [*(f"best/{name}" for name in measured), *measured, *LOSSES_AND_PROBABILITIES],
        {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in values.items()
            if value is not None
        },
    )


class GAN(nn.Module):
    """D(G(z)), so that one graph holds both networks."""

    def __init__(self, parts: Parts):
        super().__init__()
        # Tracing runs a network, which would change running statistics.
        self.generator = copy.deepcopy(parts.generator).eval()
        self.discriminator = copy.deepcopy(parts.discriminator).eval()
        self._pac = parts.pac

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        samples = self.generator(z, *labels)
        pack = torch.cat([samples] * self._pac, dim=1)
        logits: Tensor = self.discriminator(pack, *labels)
        return logits


def rewind(run_dir: Path, step: int, marks: dict[str, int]) -> None:
    """Take back what was written after the checkpoint of that step, which is written again."""
    for path in [run_dir / METRICS_FILE, *event_files(run_dir)]:
        if path.name in marks:
            with path.open("r+b") as file:
                file.truncate(marks[path.name])
        else:
            path.unlink(missing_ok=True)
    for path in (run_dir / "samples").glob("step-*.png"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()


_speaker: ContextVar[Path | None] = ContextVar("speaker", default=None)


@contextmanager
def speaking(run_dir: Path) -> Iterator[None]:
    """What is logged within the block is of this run, of several in this process."""
    token = _speaker.set(run_dir)
    try:
        yield
    finally:
        _speaker.reset(token)


@contextmanager
def log_file(run_dir: Path) -> Iterator[None]:
    """Everything this package logs goes into the run's log file as well, but for what is said of
    another run."""
    logger = logging.getLogger("gan")
    handler = logging.FileHandler(run_dir / LOG_FILE)
    handler.addFilter(lambda _: _speaker.get() in (None, run_dir))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
