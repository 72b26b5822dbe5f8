"""A run among others: its life, and what it shares with them as it is trained."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import torch
from omegaconf import OmegaConf

from gan.config.checks import check
from gan.errors import Interrupted, UserError
from gan.launchers.attempt import fault
from gan.run.directory import LOG_FILE
from gan.run.progress import watched
from gan.run.records import speaking
from gan.run.result import Result, objective
from gan.train import Life, Load, Running, life
from gan.vectorized.inbox import Assigned, Tell


@dataclass(eq=False)
class Member:
    """A run that is being trained."""

    name: str
    run_dir: Path
    life: Life
    running: Running
    random: torch.Tensor
    """The global random state as this run sees it."""
    stop: Signals | None = None
    """What it has been told, and not heard yet."""

    @property
    def step(self) -> int:
        return self.running.state.step

    @property
    def due(self) -> bool:
        """Whether it has something to do beside training."""
        return self.step == self.running.due or self.stop is not None


def sizes(member: Member) -> tuple[int, ...]:
    """Of its networks' weights."""
    parts = member.running.parts
    networks = parts.generator, parts.discriminator
    return tuple(weight.numel() for network in networks for weight in network.parameters())


def begin(assigned: Assigned, load: Load, tell: Tell) -> Member | None:
    """A run up to its first training step; None if it ended before, which is told."""
    name, run_dir = assigned.name, assigned.run_dir

    def watch(step: int, total: int, record: dict[str, Any] | None) -> None:
        tell.progress(name, step, total, record)

    tell.started(name)
    member = None
    with _told(name, run_dir, tell), watched(watch), speaking(run_dir):
        cfg = OmegaConf.create(assigned.config)
        check(cfg)
        own = life(cfg, run_dir, overrides=assigned.overrides, load=load)
        member = Member(name, run_dir, own, next(own), torch.get_rng_state())
    return member


def settle(member: Member, tell: Tell, failed: Exception | None = None) -> bool:
    """Let a run do what is due after a step, or stop; False if it ended, which is told.

    Args:
        failed: what went wrong in the step.
    """
    with _told(member.name, member.run_dir, tell), speaking(member.run_dir):
        torch.set_rng_state(member.random)
        if failed:
            member.life.throw(failed)
        member.life.send(member.stop)
        member.random = torch.get_rng_state()
        return True
    return False


@contextmanager
def _told(name: str, run_dir: Path, tell: Tell) -> Iterator[None]:
    """Tell how a run ended, if it did."""
    try:
        yield
    except StopIteration as end:
        result: Result = end.value
        tell.ended(name, str(result["status"]), objective=objective(result))
    except (Interrupted, Exception) as error:
        if not isinstance(error, Interrupted | UserError):
            run_dir.mkdir(parents=True, exist_ok=True)
            with (run_dir / LOG_FILE).open("a") as file:
                traceback.print_exc(file=file)
        tell.ended(name, **fault(error))
