"""Time training steps, beside a plain training loop and matrix products alone."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.device_limits import products, record_operations
from benchmarks.processes import threads as threads_text
from benchmarks.timing import Steps, median_seconds, timing_table
from gan.arithmetic import (
    DEFAULT,
    LIBRARIES,
    ONEDNN,
    linear_layers,
    matmul_by,
    onednn_is_exact,
    thread_count,
)
from gan.build import Parts, build, find_device
from gan.config.compose import compose
from gan.data import Data
from gan.data.vision import torchvision
from gan.functional.compiled import make_compiled_step
from gan.models import mlp_pair
from gan.run.state import initial_state
from gan.step import Batch, StepKind, count_step, draw_batch, eager_step, next_step_kind
from gan.system.startup import core_count


def time_steps(
    *, rounds: int, steps: int, hidden_dim: int, device: str, threads: int | None, compile: bool
) -> None:
    """Print steps per second of the lab's recipe: a plain loop, ours, and its products alone."""
    recipe = ["experiment=lab", "data=mnist5k", f"model.hidden_dim={hidden_dim}"]
    recipe += [f"device={device}"]
    cfg, target = compose(*recipe), find_device(device)
    with thread_count(threads or core_count()):
        loops: dict[str, Steps] = {"plain loop": _plain_loop(cfg)}
        rows = _rows(build(cfg))
        for compiled in (False, True) if compile else (False,):
            for name, library, precision in rows:
                words = [f"trainer.precision={precision}", f"trainer.compile={compiled}"]
                loop = _by(library, precision, our_loop(compose(*recipe, *words)))
                # Compiles, or sets itself up.
                loop(2)
                loops[f"{name}, compiled" if compiled else name] = loop
        operations = record_operations(partial(our_loop(cfg), 1))
        for library in LIBRARIES if target.type == "cpu" else (DEFAULT,):
            name = "products alone" + (f", {library}" if target.type == "cpu" else "")
            loops[name] = products(operations, target, library)
        loops[LIMIT] = products(operations, target)
        timed = {name: partial(loop, steps) for name, loop in loops.items()}
        seconds = median_seconds(timed, rounds)
        used = torch.get_num_threads()
    rates = {name: steps / taken for name, taken in seconds.items()}
    title = f"Lab recipe, hidden_dim {hidden_dim}, batch 128, {threads_text(used)}, "
    table = timing_table(
        ("", "steps/s", "x plain loop", "x limit"), title=f"{title}torch {torch.__version__}"
    )
    for name, rate in rates.items():
        ratios = (rate / rates["plain loop"], rate / rates[LIMIT])
        table.add_row(name, f"{rate:.1f}", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


LIMIT = "limit: fastest library for each"
"""The row of what a step's products take at least, with the accuracy of fp32."""


def _rows(parts: Parts) -> list[tuple[str, str, str]]:
    """Return the name, the library and the precision of each way to compute a step."""
    if parts.device.type != "cpu":
        rows = [("fp32", DEFAULT), ("tf32", DEFAULT), ("bf16", DEFAULT)]
        return [(f"ours, {precision}", library, precision) for precision, library in rows]
    exact = onednn_is_exact(linear_layers((parts.generator, parts.discriminator), 128))
    # Where oneDNN rounds more than fp32, only tf32 allows it.
    fast = ("ours, fp32 by oneDNN", "fp32") if exact else ("ours, tf32 (bf16 inside)", "tf32")
    return [
        ("ours, fp32", DEFAULT, "fp32"),
        (fast[0], ONEDNN, fast[1]),
        ("ours, bf16", DEFAULT, "bf16"),
    ]


def _by(library: str, precision: str, loop: Steps) -> Steps:
    def steps(count: int) -> None:
        with matmul_by(library, tf32=precision == "tf32"):
            loop(count)

    return steps


def our_loop(cfg: DictConfig) -> Steps:
    """Return training steps of a configuration, without logging or metrics."""
    parts = build(cfg)
    state = initial_state(parts, cfg.seed)
    batches = parts.data.batches(cfg.trainer.batch_size, cfg.seed)
    step: Callable[[Batch, StepKind], None] = partial(eager_step, parts, state)
    if cfg.trainer.compile:
        step = make_compiled_step(cfg, parts, state)

    def steps(count: int) -> None:
        for _ in range(count):
            kind = next_step_kind(parts, state)
            step(draw_batch(parts, state, batches), kind)
            count_step(state, kind)
        state.sums.tolist()

    return steps


class _Pictures(Dataset[Tensor]):
    """A data set like torchvision's: PIL images that are transformed one at a time."""

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
    """Return steps of the same recipe, written the way a course teaches it."""
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

    endless_batches = batches()

    def steps(count: int) -> None:
        for _ in range(count):
            real = next(endless_batches).to(device) * 2 - 1
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
