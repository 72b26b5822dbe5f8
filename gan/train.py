"""Training one GAN, from a configuration to a finished run directory."""

import errno
import logging
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from gan.build import Parts, build, find_device, load_data
from gan.config.checks import check, doubts
from gan.data import Batches, Data
from gan.errors import Interrupted, NotFinite, UserError
from gan.functional.alone import stepper
from gan.run import checkpoint
from gan.run.directory import CONFIG_FILE, claimed, refuse_other_config, settle_config
from gan.run.evaluation import Evaluation
from gan.run.progress import progress
from gan.run.records import RunLog, describe, log_file, rewind
from gan.run.result import (
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
from gan.run.signals import PRUNE, StopRequest, deferred_stop
from gan.run.state import State, initial, restore, snapshot
from gan.seeds import stream
from gan.step import STATISTICS

log = logging.getLogger(__name__)


LOOK = 0.5
"""Seconds after which a run that trains is to say where it is."""


@dataclass
class Running:
    """A run between two training steps."""

    cfg: DictConfig
    parts: Parts
    state: State
    batches: Batches
    total: int
    """Steps."""
    due: int
    """The next step at which it has something to do beside training."""


Load = Callable[[DictConfig], Data]
"""Gives the data set that a configuration names."""

Life = Generator[Running, signal.Signals | None, Result]
"""A run's life: it yields where training steps are to be made, up to `due` at most, is sent a
request to stop if one came, and ends with its result. What goes wrong in a step is thrown in."""


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
    with isolated(find_device(cfg.device)):
        return objective(_alone(life(cfg, Path(run_dir), overrides=overrides), Path(run_dir)))


def _alone(life: Life, run_dir: Path) -> Result:
    """See one run through."""
    try:
        running = next(life)
        try:
            train = stepper(running.cfg, running.parts, running.state, running.batches)
        except Exception as error:
            life.throw(error)
        with deferred_stop() as stop, _watched(running, run_dir) as tick:
            while True:
                try:
                    _train_for(running, train, tick, stop)
                except Exception as error:
                    life.throw(error)
                life.send(stop.came)
    except StopIteration as end:
        result: Result = end.value
        return result


def _watched(running: Running, run_dir: Path) -> AbstractContextManager[Callable[[], object]]:
    """What is to be called after each step."""
    if not running.cfg.trainer.profile:
        return nullcontext(lambda: None)
    # A second that few runs have a use for.
    from gan.run.profile import profiled

    return profiled(run_dir / "profile")


def _train_for(
    running: Running, train: Callable[[], None], tick: Callable[[], object], stop: StopRequest
) -> None:
    """Make one step or more, until something is due, a stop comes or it is time to look up."""
    until = time.monotonic() + LOOK
    while True:
        train()
        tick()
        if running.state.step == running.due or stop.came or time.monotonic() > until:
            return


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Global settings and random state end as they were."""
    before = torch.get_num_threads()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_num_threads(before)


def life(
    cfg: DictConfig,
    run_dir: Path,
    *,
    overrides: Sequence[str] = (),
    load: Load = load_data,
) -> Life:
    """All that `run` does but the training steps: see Life.

    Within it the number of threads and the global random state change.

    Args:
        load: gives the data set, where runs share it.

    Raises:
        UserError, Interrupted: as by `run`.
    """
    try:
        with claimed(run_dir):
            refuse_other_config(run_dir, cfg)
            result = read_result(run_dir)
            if result and result["status"] in FINISHED:
                log.info("%s: already %s at step %d", run_dir, result["status"], result["steps"])
                return result
            parts = build(cfg, load(cfg))
            evaluation = Evaluation(cfg, parts)
            cfg = settle_config(run_dir, cfg, overrides, cfg.threads or torch.get_num_threads())
            torch.set_num_threads(cfg.threads)
            with log_file(run_dir):
                result = yield from _train(cfg, parts, evaluation, run_dir)
                log.info(
                    "%s: %s at step %d, %s %s",
                    run_dir,
                    result["status"],
                    result["steps"],
                    result["objective_name"],
                    result["objective"],
                )
                return result
    except OSError as error:
        more = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and (run_dir / CONFIG_FILE).exists():
            more = f"; make room, then continue with: python scripts/resume.py {run_dir}"
        reason = f"cannot be written ({error.strerror or error})"
        raise UserError(f"{error.filename or run_dir}: {reason}{more}") from error


def _train(cfg: DictConfig, parts: Parts, evaluation: Evaluation, run_dir: Path) -> Life:
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
            run_log.real(evaluation.real_picture())
            status = yield from _loop(cfg, parts, state, evaluation, run_dir, run_log)
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
) -> Generator[Running, signal.Signals | None, str]:
    """Return "completed", "pruned", or "diverged" with `state.step` saying where."""
    batch_size = cfg.trainer.batch_size
    batches = parts.data.batches(batch_size, cfg.seed)
    total = cfg.trainer.max_steps or cfg.trainer.max_epochs * batches.per_epoch
    running = Running(cfg, parts, state, batches, total, due=0)
    records = read_records(run_dir)
    began = time.monotonic() - state.seconds
    recorded = state.seconds
    intervals = [cfg.logging.every, cfg.logging.samples_every, cfg.trainer.checkpoint_every]
    intervals += [cfg.metrics.every] if cfg.metrics.names else []

    def due(every: int) -> bool:
        return state.step > before and (state.step % every == 0 or state.step == total)

    with progress(state.step, total, cfg.logging.progress) as show:
        while state.step < total:
            following = [state.step - state.step % every + every for every in intervals]
            running.due = min(total, *following)
            before = state.step
            stopped = yield running
            if run_log.events and run_log.events.new:
                describe(run_log.events, cfg, parts, run_dir)
                run_log.events.new = False
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
