"""Training one GAN, from a configuration to a finished run directory."""

import errno
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan import checkpoint
from gan.build import Parts, build
from gan.config import METRICS, TRAINING_VALUES, check
from gan.data import Sampler, to_float
from gan.errors import Interrupted, UserError
from gan.evaluate import Evaluation
from gan.logs import RunLog, describe, log_file, rewind
from gan.progress import progress
from gan.results import (
    FINISHED,
    Record,
    Result,
    best,
    objective,
    outcome,
    read_records,
    read_result,
    write_result,
)
from gan.run_dir import CONFIG_FILE, claimed, refuse_other_config, settle_config
from gan.seeds import stream
from gan.signals import PRUNE, deferred_stop
from gan.state import State, initial, restore, snapshot

log = logging.getLogger(__name__)


def run(cfg: DictConfig, run_dir: str | Path, *, overrides: Sequence[str] = ()) -> float:
    """Train in `run_dir`, or continue there, or return the stored result of a finished run.

    Args:
        cfg: a composed configuration; it is not changed.
        run_dir: made if missing.
        overrides: the command line that gave `cfg`, kept with the run.

    Returns:
        The objective a sweeper minimises: the last value of `cfg.metrics.objective`, infinite
        if the run diverged.

    Raises:
        UserError: the configuration is wrong, differs from the one that `run_dir` was made
            with, or the directory cannot be written; a new run leaves nothing behind.
        Interrupted: SIGINT or SIGTERM came; a checkpoint is saved.
    """
    check(cfg)
    run_dir = Path(run_dir)
    try:
        with claimed(run_dir):
            refuse_other_config(run_dir, cfg)
            result = read_result(run_dir)
            if result and result["status"] in FINISHED:
                log.info("%s: already %s at step %d", run_dir, result["status"], result["steps"])
                return objective(result)
            parts = build(cfg)
            cfg = settle_config(run_dir, cfg, overrides, cfg.threads or torch.get_num_threads())
            with log_file(run_dir), _isolated(parts.device, cfg.threads):
                result = _train(cfg, parts, run_dir)
                log.info(
                    "%s: %s at step %d, %s %s",
                    run_dir,
                    result["status"],
                    result["steps"],
                    result["objective_name"],
                    result["objective"],
                )
                return objective(result)
    except OSError as error:
        more = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and (run_dir / CONFIG_FILE).exists():
            more = f"; make room, then continue with: python scripts/resume.py {run_dir}"
        reason = f"cannot be written ({error.strerror or error})"
        raise UserError(f"{error.filename or run_dir}: {reason}{more}") from error


@contextmanager
def _isolated(device: torch.device, threads: int) -> Iterator[None]:
    """Compute with that many threads; global settings and random state end as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before)


STATISTICS = TRAINING_VALUES[:4]


def train_step(parts: Parts, real: Tensor, z: Tensor, *, penalize: bool, bf16: bool) -> Tensor:
    """Update the discriminator, then the generator, on one batch.

    Args:
        real: images (batch, channels, height, width) in [-1, 1].
        z: latents (batch, latent_dim), used in both updates.
        penalize: add the penalty to the discriminator's loss, times its interval.
        bf16: run the networks in bfloat16 where that is safe; weights stay float32.

    Returns:
        The values of STATISTICS (4,), detached. Each network's gradients are left in place.
    """
    generator, discriminator = parts.generator, parts.discriminator

    def forward(network: nn.Module, inputs: Tensor) -> Tensor:
        # One context for each use: autocast keeps the cast weights until it ends.
        with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
            outputs: Tensor = network(inputs)
        return outputs.float() if bf16 else outputs

    fake = forward(generator, z)
    if parts.joint:
        logits = forward(discriminator, torch.cat([real, fake.detach()]))
    else:
        logits = torch.cat([forward(discriminator, part) for part in (real, fake.detach())])
    discriminator_loss = parts.loss.discriminator(*logits.chunk(2))
    objective = discriminator_loss
    if penalize and parts.penalty:
        penalty = parts.penalty(discriminator, real, fake.detach())
        objective = discriminator_loss + parts.penalty_interval * penalty
    parts.discriminator_optimizer.zero_grad()
    objective.backward()
    parts.discriminator_optimizer.step()

    discriminator.requires_grad_(False)
    generator_loss = parts.loss.generator(forward(discriminator, fake))
    parts.generator_optimizer.zero_grad()
    generator_loss.backward()
    parts.generator_optimizer.step()
    discriminator.requires_grad_(True)

    probabilities = logits.detach().sigmoid().view(2, -1).mean(1)
    losses = torch.stack([discriminator_loss.detach(), generator_loss.detach()])
    return torch.cat([losses, probabilities])


def advance(parts: Parts, state: State, sampler: Sampler, *, latent_dim: int, bf16: bool) -> None:
    """Train on the next batch and add its statistics to the state, without waiting for the
    device."""
    real = to_float(parts.data.images.index_select(0, sampler.batch(state.step)))
    z = torch.randn(len(real), latent_dim, generator=state.noise, device=parts.device)
    penalize = state.step % parts.penalty_interval == 0
    state.sums += train_step(parts, real, z, penalize=penalize, bf16=bf16)
    state.healthy += state.sums.isfinite().all()
    state.step += 1
    state.summed += 1


def _train(cfg: DictConfig, parts: Parts, run_dir: Path) -> Result:
    saved = checkpoint.load_latest(run_dir)
    rewind(run_dir, saved["step"] if saved else 0, saved["marks"] if saved else {})
    state = initial(parts, cfg.seed, len(STATISTICS))
    torch.manual_seed(stream(cfg.seed, "global"))
    if saved:
        restore(parts, state, saved)
        log.info("%s: continuing after step %d", run_dir, state.step)
    else:
        log.info("%s: training on %s", run_dir, parts.device)

    def ended(status: str, error: str | None = None) -> Result:
        result = outcome(
            cfg,
            run_dir,
            status=status,
            step=state.step,
            seconds=state.seconds,
            error=error,
            device=str(parts.device),
            threads=cfg.threads,
        )
        write_result(run_dir, result)
        return result

    try:
        with closing(RunLog(run_dir, tensorboard=cfg.logging.tensorboard)) as run_log:
            if run_log.events and run_log.events.new:
                describe(run_log.events, cfg, parts, run_dir)
            status = _loop(cfg, parts, state, run_dir, run_log)
            if run_log.events:
                run_log.events.end_session(success=status == "completed")
        return ended(status)
    except Interrupted:
        ended("interrupted")
        raise
    except Exception as error:
        # Where the disk is full this cannot be written either, and the cause is what matters.
        with suppress(OSError):
            ended("failed", f"{type(error).__name__}: {error}")
        raise


def _loop(cfg: DictConfig, parts: Parts, state: State, run_dir: Path, run_log: RunLog) -> str:
    """Train and return "completed", "pruned", or "diverged" with `state.step` saying where."""
    batch_size, latent_dim = cfg.trainer.batch_size, cfg.model.latent_dim
    bf16 = cfg.trainer.precision == "bf16"
    sampler = Sampler(len(parts.data.images), batch_size, cfg.seed, parts.device)
    total = cfg.trainer.max_steps or cfg.trainer.max_epochs * sampler.batches_per_epoch
    evaluation = Evaluation(cfg, parts)
    records = read_records(run_dir)
    began = time.monotonic() - state.seconds
    recorded = state.seconds

    def due(every: int) -> bool:
        return state.step % every == 0 or state.step == total

    with progress(state.step, total, cfg.logging.progress) as show, deferred_stop() as stop:
        while state.step < total:
            advance(parts, state, sampler, latent_dim=latent_dim, bf16=bf16)
            stopped = stop.came
            measure_due = due(cfg.metrics.every) and bool(cfg.metrics.names)
            record_due = due(cfg.logging.every) or measure_due
            save_due = due(cfg.trainer.checkpoint_every) or stopped is not None
            record = None
            # Looking at a value waits for the device, so it is not done at every step.
            if (record_due or save_due) and state.healthy < state.step:
                state.step = int(state.healthy) + 1
                return "diverged"
            if record_due:
                state.seconds = time.monotonic() - began
                rate = state.summed * batch_size / (state.seconds - recorded)
                record = _record(parts, state, sampler)
                if measure_due:
                    record |= evaluation.measure()
                if not all(map(math.isfinite, record.values())):
                    return "diverged"
                records.append(record)
                lowest = {f"best/{k}": v["value"] for k, v in best(records, METRICS).items()}
                run_log.record(record, lowest | {"images_per_second": rate})
                state.sums.zero_()
                state.summed = 0
                recorded = time.monotonic() - began
            if due(cfg.logging.samples_every):
                run_log.samples(state.step, evaluation.samples())
            if save_due:
                state.seconds = time.monotonic() - began
                checkpoint.save(run_dir, snapshot(parts, state) | {"marks": run_log.marks()})
            show(state.step, record)
            if stopped is not None and stopped == PRUNE:
                return "pruned"
            if stopped is not None:
                raise Interrupted(
                    f"{run_dir}: stopped by {stopped.name} after step {state.step} of {total}, "
                    f"checkpoint saved; continue with: python scripts/resume.py {run_dir}",
                    exit_code=128 + stopped,
                )
    state.seconds = time.monotonic() - began
    return "completed"


def _record(parts: Parts, state: State, sampler: Sampler) -> Record:
    """The means of STATISTICS since the last record, and what holds at this step."""
    networks = {"discriminator": parts.discriminator, "generator": parts.generator}
    optimizers = {
        "discriminator": parts.discriminator_optimizer,
        "generator": parts.generator_optimizer,
    }
    record: Record = {"step": state.step, "epoch": state.step / sampler.batches_per_epoch}
    record |= dict(zip(STATISTICS, (state.sums / state.summed).tolist(), strict=True))
    for name, network in networks.items():
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        record[f"grad_norm/{name}"] = torch.nn.utils.get_total_norm(gradients).item()
    for name, optimizer in optimizers.items():
        record[f"lr/{name}"] = optimizer.param_groups[0]["lr"]
    return record
