"""Runs without directories, of which a benchmark makes steps."""

import math
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from omegaconf import DictConfig

from gan.build import build
from gan.config.compose import compose
from gan.data import Data
from gan.run.state import initial
from gan.step import STATISTICS, advance
from gan.train import Life, Running
from gan.vectorized.member import Member
from gan.vectorized.team import Team

Steps = Callable[[int], None]
"""Makes that many steps, and waits for the device."""


def configs(
    *, members: int, model: str, data: str, hidden_dim: int, device: str
) -> list[DictConfig]:
    """Of the lab's recipe with that model; they differ in seed and learning rate.

    Args:
        hidden_dim: counts where the model has it.
    """
    recipe = ["experiment=lab", f"model={model}", f"data={data}", f"device={device}"]
    cfg = compose(*recipe)
    if "hidden_dim" in cfg.model:
        cfg = compose(*recipe, f"model.hidden_dim={hidden_dim}")
    found = [deepcopy(cfg) for _ in range(members)]
    for index, one in enumerate(found):
        one.seed, one.optimizer.lr = index, cfg.optimizer.lr * 2 ** (index / members)
    return found


def begin(cfgs: Sequence[DictConfig], data: Data) -> list[Member]:
    """Runs before their first step."""
    begun = []
    for cfg in cfgs:
        parts = build(cfg, data)
        state = initial(parts, cfg.seed, len(STATISTICS))
        batches = parts.data.batches(cfg.trainer.batch_size, cfg.seed)
        running = Running(cfg, parts, state, batches, total=sys.maxsize, due=sys.maxsize)
        begun.append(Member("", Path(), _life(running), running, torch.get_rng_state()))
    return begun


def in_turn(members: Sequence[Member]) -> Steps:
    """One after the other, each as if it were alone."""

    def steps(count: int) -> None:
        for member in members:
            running = member.running
            for _ in range(count):
                advance(running.parts, running.state, running.batches)
        wait(members[0].running.parts.device)

    return steps


def as_team(team: Team) -> Steps:
    """In a team's own way."""
    team.costs.measuring = False

    def steps(count: int) -> None:
        for member in team.members:
            member.running.due = member.step + count
        while not all(member.due for member in team.members):
            # One after the other it is the first one's turn.
            team.members.sort(key=lambda member: member.due)
            team.train(math.inf)
        wait(team.members[0].running.parts.device)

    return steps


def wait(device: torch.device) -> None:
    """Until it has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _life(running: Running) -> Life:
    while True:
        yield running
