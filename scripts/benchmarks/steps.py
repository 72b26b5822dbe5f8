"""Time training steps, beside a plain training loop and matrix products alone."""

from collections.abc import Iterator
from functools import partial

import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.device_limits import products, record_operations
from benchmarks.timing import Steps, median_seconds, timing_table
from gan.build import build, find_device
from gan.config.compose import compose
from gan.data import Data
from gan.data.vision import torchvision
from gan.models import mlp_pair
from gan.run.state import initial_state
from gan.step import count_step, draw_batch, eager_step, next_step_kind


def time_steps(*, rounds: int, steps: int, hidden_dim: int, device: str) -> None:
    """Print steps per second of the lab's recipe: a plain loop, ours, and its products alone."""
    recipe = ["experiment=lab", "data=mnist5k", f"model.hidden_dim={hidden_dim}"]
    cfg = compose(*recipe, f"device={device}")
    bf16 = compose(*recipe, f"device={device}", "trainer.precision=bf16")
    ours = our_loop(cfg)
    ours(1)
    loops = {
        "plain loop": _plain_loop(cfg),
        "ours": ours,
        "ours, bf16": our_loop(bf16),
        "matrix products alone": products(record_operations(partial(ours, 1)), find_device(device)),
    }
    seconds = median_seconds({name: partial(loop, steps) for name, loop in loops.items()}, rounds)
    rates = {name: steps / taken for name, taken in seconds.items()}
    threads = torch.get_num_threads()
    title = f"Lab recipe, batch 128, {threads} threads, torch {torch.__version__}"
    table = timing_table(("", "steps/s", "x plain loop", "x matrix products"), title=title)
    for name, rate in rates.items():
        ratios = (rate / rates["plain loop"], rate / rates["matrix products alone"])
        table.add_row(name, f"{rate:.1f}", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


def our_loop(cfg: DictConfig) -> Steps:
    """Return training steps of a configuration, without logging or metrics."""
    parts = build(cfg)
    state = initial_state(parts, cfg.seed)
    batches = parts.data.batches(cfg.trainer.batch_size, cfg.seed)

    def steps(count: int) -> None:
        for _ in range(count):
            kind = next_step_kind(parts, state)
            eager_step(parts, state, draw_batch(parts, state, batches), kind)
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
