"""What things cost: python scripts/benchmark.py [what=steps] [rounds=9] [steps=100]

what=steps compares steps per second with a plain loop and with bare arithmetic; what=sweeps, the
time that launchers take. Every row is timed in each round, one after another, so that whatever
else the machine does falls on all of them; the tables show medians over the rounds.
"""

import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gan.build import build
from gan.cli import script
from gan.compose import compose
from gan.data import Data
from gan.data.vision import torchvision
from gan.errors import UserError, nearest
from gan.models import mlp_pair
from gan.state import initial
from gan.step import STATISTICS, advance


@dataclass
class Options:
    what: str = "steps"
    rounds: int = 9
    steps: int = 100
    hidden_dim: int = 256
    device: str = "cpu"


Steps = Callable[[int], None]
"""Runs that many steps."""

Cost = tuple[float, float]
"""Seconds of wall time, and of CPU in all processes."""


def benchmark(paths: list[Path], options: Options) -> None:
    kinds = {"steps": _compare_steps, "sweeps": _compare_sweeps}
    if paths or options.what not in kinds:
        allowed = ", ".join(kinds) + nearest(options.what, kinds)
        raise UserError(
            f"what={options.what}: must be one of {allowed}, and nothing beside options"
        )
    kinds[options.what](options)


def _compare_steps(options: Options) -> None:
    recipe = ["experiment=lab", "data=mnist5k", f"model.hidden_dim={options.hidden_dim}"]
    cfg = compose(*recipe, f"device={options.device}")
    bf16 = compose(*recipe, f"device={options.device}", "trainer.precision=bf16")
    rows = {
        "plain loop": _plain_loop(cfg),
        "ours": _our_loop(cfg),
        "ours, bf16": _our_loop(bf16),
        "matrix products alone": _products(cfg),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for steps in rows.values():
        steps(options.steps // 4 + 1)
    for _ in range(options.rounds):
        for name, steps in rows.items():
            begin = time.perf_counter()
            steps(options.steps)
            seconds[name].append(time.perf_counter() - begin)
    _report({name: options.steps / statistics.median(times) for name, times in seconds.items()})


def _compare_sweeps(options: Options) -> None:
    """16 short runs by each launcher, and 1,000 that are planned, run and found finished."""
    launchers = ["basic", "local"]
    if importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher"):
        launchers.append("joblib")
    costs: dict[str, list[Cost]] = {}
    tiny = ["data=digits", "model.hidden_dim=16", "trainer.batch_size=16", "metrics.samples=100"]
    tiny += ["metrics.every=1000", "trainer.checkpoint_every=1000", "logging=quiet", "threads=1"]
    for _ in range(options.rounds):
        with TemporaryDirectory() as folder:
            for launcher in launchers:
                short = [*tiny, f"trainer.max_steps={options.steps}", "seed=range(16)"]
                cost = _sweep(Path(folder, launcher), *short, f"hydra/launcher={launcher}")
                costs.setdefault(f"16 runs, {launcher}", []).append(cost)
            for doing in ("planned and run for one step", "found finished"):
                one = [*tiny, "trainer.max_steps=1", "seed=range(1000)"]
                cost = _sweep(Path(folder, "thousand"), *one)
                costs.setdefault(f"1,000 runs {doing}", []).append(cost)
    table = Table(title=f"{options.steps} steps a run, {os.cpu_count()} cores")
    for title in ("", "wall s", "CPU s"):
        table.add_column(title, justify="left" if not title else "right")
    for name, values in costs.items():
        medians = [statistics.median(part) for part in zip(*values, strict=True)]
        table.add_row(name, *(f"{value:.1f}" for value in medians))
    Console().print(table)


def _sweep(path: Path, *overrides: str) -> Cost:
    train = str(Path(__file__).with_name("train.py"))
    command = [sys.executable, train, "--multirun", f"hydra.sweep.dir={path}", *overrides]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, cpu


def _report(rates: dict[str, float]) -> None:
    threads = torch.get_num_threads()
    table = Table(title=f"Lab recipe, batch 128, {threads} threads, torch {torch.__version__}")
    for title in ("", "steps/s", "x plain loop", "x matrix products"):
        table.add_column(title, justify="left" if not title else "right")
    for name, rate in rates.items():
        ratios = (rate / rates["plain loop"], rate / rates["matrix products alone"])
        table.add_row(name, f"{rate:.1f}", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


def _our_loop(cfg: DictConfig) -> Steps:
    parts = build(cfg)
    state = initial(parts, cfg.seed, len(STATISTICS))
    batches = parts.data.batches(cfg.trainer.batch_size, cfg.seed)

    def steps(count: int) -> None:
        for _ in range(count):
            advance(parts, state, batches)
        state.sums.tolist()

    return steps


class _Pictures(Dataset[Tensor]):
    """A data set as torchvision has them: a PIL image each, transformed when it is asked for."""

    def __init__(self, data: Data):
        images, _ = data.real("train", data.size)
        self.images = images[:, 0].cpu().numpy()
        self.transform = torchvision().transforms.ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image: Tensor = self.transform(Image.fromarray(self.images[index]))
        return image


def _plain_loop(cfg: DictConfig) -> Steps:
    """The same recipe the way a course teaches it."""
    parts = build(cfg)
    device, latent_dim = parts.device, cfg.model.latent_dim
    loader = DataLoader(_Pictures(parts.data), batch_size=128, shuffle=True, drop_last=True)
    generator, logits = mlp_pair(
        image_shape=(1, 28, 28),
        classes=0,
        pac=1,
        latent_dim=latent_dim,
        hidden_dim=cfg.model.hidden_dim,
        hidden_layers=2,
        negative_slope=0.1,
        generator_norm="none",
        discriminator_norm="none",
        generator_spectral_norm=False,
        discriminator_spectral_norm=False,
    )
    discriminator = nn.Sequential(logits, nn.Sigmoid()).to(device)
    generator.to(device)
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4)
    criterion = nn.BCELoss()
    ones, zeros = torch.ones(128, 1, device=device), torch.zeros(128, 1, device=device)

    def batches() -> Iterator[Tensor]:
        while True:
            yield from loader

    endless = batches()

    def steps(count: int) -> None:
        for _ in range(count):
            real = next(endless).to(device) * 2 - 1
            fake = generator(torch.randn(128, latent_dim, device=device))
            discriminator_optimizer.zero_grad()
            real_loss = criterion(discriminator(real), ones)
            fake_loss = criterion(discriminator(fake.detach()), zeros)
            loss = real_loss + fake_loss
            loss.backward()
            discriminator_optimizer.step()
            generator_optimizer.zero_grad()
            fake = generator(torch.randn(128, latent_dim, device=device))
            generator_loss = criterion(discriminator(fake), ones)
            generator_loss.backward()
            generator_optimizer.step()
            loss.item(), generator_loss.item()

    return steps


def _products(cfg: DictConfig) -> Steps:
    """The matrix products that a step cannot do without, on memory that is there already."""
    batch, hidden, latent, pixels = 128, cfg.model.hidden_dim, cfg.model.latent_dim, 784
    generator = [(latent, hidden), (hidden, hidden), (hidden, pixels)]
    discriminator = [(pixels, hidden), (hidden, hidden), (hidden, 1)]
    forward = [(batch, i, o) for i, o in generator] + [(2 * batch, i, o) for i, o in discriminator]
    forward += [(batch, i, o) for i, o in discriminator]
    weights = [(i, 2 * batch, o) for i, o in discriminator] + [(i, batch, o) for i, o in generator]
    # Of the first layers' inputs, the fake images alone need a gradient.
    inputs = [(2 * batch, o, i) for i, o in discriminator[1:]]
    inputs += [(batch, o, i) for i, o in discriminator + generator[1:]]
    device = torch.device(cfg.device)
    operands = [
        tuple(torch.randn(shape, device=device) for shape in ((m, k), (k, n), (m, n)))
        for m, k, n in forward + weights + inputs
    ]

    def steps(count: int) -> None:
        for _ in range(count):
            for a, b, out in operands:
                torch.mm(a, b, out=out)
        out.sum().item()

    return steps


if __name__ == "__main__":
    script(benchmark, Options)
