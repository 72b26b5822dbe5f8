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

from gan import checkpoint
from gan.build import Parts, build
from gan.config import check, doubts
from gan.data import Batches
from gan.errors import Interrupted, NotFinite, UserError
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
from gan.step import STATISTICS, advance

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
            evaluation = Evaluation(cfg, parts)
            cfg = settle_config(run_dir, cfg, overrides, cfg.threads or torch.get_num_threads())
            with log_file(run_dir), _isolated(parts.device, cfg.threads):
                result = _train(cfg, parts, evaluation, run_dir)
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


def _train(cfg: DictConfig, parts: Parts, evaluation: Evaluation, run_dir: Path) -> Result:
    saved = checkpoint.load_latest(run_dir)
    rewind(run_dir, saved["step"] if saved else 0, saved["marks"] if saved else {})
    state = initial(parts, cfg.seed, len(STATISTICS))
    torch.manual_seed(stream(cfg.seed, "global"))
    if saved:
        restore(parts, state, saved)
        log.info("%s: continuing after step %d", run_dir, state.step)
    else:
        log.info("%s: training on %s", run_dir, parts.device)
        for doubt in doubts(cfg):
            log.warning("%s", doubt)

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
            measured=evaluation.facts,
        )
        write_result(run_dir, result)
        return result

    try:
        with closing(RunLog(run_dir, tensorboard=cfg.logging.tensorboard)) as run_log:
            if run_log.events and run_log.events.new:
                describe(run_log.events, cfg, parts, run_dir)
            run_log.real(evaluation.real_picture())
            status = _loop(cfg, parts, state, evaluation, run_dir, run_log)
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


def _loop(
    cfg: DictConfig,
    parts: Parts,
    state: State,
    evaluation: Evaluation,
    run_dir: Path,
    run_log: RunLog,
) -> str:
    """Train and return "completed", "pruned", or "diverged" with `state.step` saying where."""
    batch_size = cfg.trainer.batch_size
    batches = parts.data.batches(batch_size, cfg.seed)
    total = cfg.trainer.max_steps or cfg.trainer.max_epochs * batches.per_epoch
    records = read_records(run_dir)
    began = time.monotonic() - state.seconds
    recorded = state.seconds

    def due(every: int) -> bool:
        return state.step % every == 0 or state.step == total

    with progress(state.step, total, cfg.logging.progress) as show, deferred_stop() as stop:
        while state.step < total:
            advance(parts, state, batches)
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
                record = _record(parts, state, batches)
                if measure_due:
                    try:
                        record |= evaluation.measure()
                    except NotFinite:
                        return "diverged"
                if not all(map(math.isfinite, record.values())):
                    return "diverged"
                records.append(record)
                found = {f"best/{k}": v["value"] for k, v in best(records).items()}
                run_log.record(record, found | {"images_per_second": rate})
                state.sums.zero_()
                state.summed = state.generator_updates = 0
                recorded = time.monotonic() - began
            if due(cfg.logging.samples_every):
                run_log.samples(state.step, evaluation.picture())
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


def _record(parts: Parts, state: State, batches: Batches) -> Record:
    """The means of STATISTICS since the last record, and what holds at this step."""
    networks = {"discriminator": parts.discriminator, "generator": parts.generator}
    optimizers = {
        "discriminator": parts.discriminator_optimizer,
        "generator": parts.generator_optimizer,
    }
    record: Record = {"step": state.step, "epoch": state.step / batches.per_epoch}
    for name, total in zip(STATISTICS, state.sums.tolist(), strict=True):
        count = state.generator_updates if name == "loss/generator" else state.summed
        if count:
            record[name] = total / count
    if state.step % parts.n_critic:
        # Its gradients are those of an earlier step, and a resumed run has none.
        del networks["generator"]
    for name, network in networks.items():
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        record[f"grad_norm/{name}"] = torch.nn.utils.get_total_norm(gradients).item()
    for name, optimizer in optimizers.items():
        record[f"lr/{name}"] = optimizer.param_groups[0]["lr"]
    return record
