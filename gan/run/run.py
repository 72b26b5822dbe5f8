"""A run that is open: everything that its training needs, in one object."""

import errno
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from logging import INFO, WARNING
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig, OmegaConf

from gan.arithmetic import DEFAULT, LOWEST_LOSS_SCALE
from gan.build import Parts, build, build_schedules, load_data
from gan.config.checks import doubts, flatten, plain
from gan.config.paths import overrides_with_absolute_paths, with_absolute_paths
from gan.data import Batches, Data, content_hash
from gan.data.base import range_doubt
from gan.distributed.processes import current_processes
from gan.errors import Interrupted, NotFinite, OutOfMemory, UserError, is_out_of_memory
from gan.metrics.catalogue import STEP_STATISTICS
from gan.run.checkpoint import (
    checkpoint_paths,
    has_best,
    keep_best_only,
    load_newest_checkpoint,
    refuse_other_data,
    refuse_other_network,
    restart_hint,
    save_best,
    save_checkpoint,
)
from gan.run.directory import (
    CONFIG_FILE,
    LENGTH,
    RESULT_FILE,
    best_paths,
    claimed,
    find_moved_data,
    note_moved_data,
    read_config,
    refuse_other_config,
    step_of,
    store_config,
    store_value,
    sweep_name,
)
from gan.run.evaluation import Evaluation
from gan.run.initial import load_initial_weights, with_init_hash, with_init_overrides
from gan.run.length import (
    check_length,
    doubts_of_length,
    gets_other_length,
    length_settings,
    reopen_result,
    store_other_length,
    total_steps,
)
from gan.run.notices import closing, opening
from gan.run.pictures import caption, sample_file
from gan.run.progress import OnProgress, ShowStep, progress
from gan.run.provenance import code_hashes, extensions, note_start
from gan.run.records import Records, forget, last_step, log_file, rewind, write_samples
from gan.run.result import (
    FINISHED,
    WELL_ENDED,
    Best,
    Record,
    Result,
    Status,
    best_values,
    make_result,
    objective,
    read_records,
    read_result,
    write_result,
)
from gan.run.rounding import (
    choose_rounding,
    gains_by_rounding,
    is_exact_here,
    rounding_as,
    rounding_doubt,
)
from gan.run.signals import PRUNE
from gan.run.state import State, from_checkpoint, initial_state, to_checkpoint
from gan.run.tensorboard import VERDICT_TAG, describe_run, event_files, forget_description
from gan.run.trackers import TrackedRun, make_trackers
from gan.run.trackers.feed import Trackers
from gan.run.verdict import Watch
from gan.schedules import Schedule
from gan.seeds import RandomStates, derive_seed, random_states, seed_all, set_random_states
from gan.system.invocation import command_line

log = logging.getLogger(__name__)

LoadData = Callable[[DictConfig], Data]
"""A function that returns the data set of a configuration."""

CheckParts = Callable[[DictConfig, Parts], None]
"""A function that raises a UserError if the parts of a run cannot be trained."""

Context = TypeVar("Context")

PROGRESS_SECONDS = 0.5
"""Seconds between two reports of progress where nothing is logged."""


class Run:
    """A run that this process holds open, from its configuration to its result.

    Training makes steps, and calls the methods below when the properties ending in `_due` say so.
    One run alone and each run of a cohort are handled by the same calls: see
    `gan.train.after_step`.
    """

    parts: Parts
    state: State
    batches: Batches
    total_steps: int
    """The step at which training ends."""
    schedules: dict[str, Schedule]
    """The numbers that change while the run trains, see `gan.build.build_schedules`."""
    data_hash: str | None
    """The hash of the data's content, see `gan.data.content_hash`."""

    def __init__(self, cfg: DictConfig, run_dir: Path):
        """Use `Run.open`."""
        self.cfg = cfg
        self.run_dir = run_dir
        self.name = run_dir.name
        self.result: Result | None = None
        self.stop_signal: Signals | None = None
        """A signal to stop that the run has not acted on yet."""
        self._directory = ExitStack()
        self._training = ExitStack()
        self._records: Records | None = None
        self._trackers: Trackers | None = None
        self._unreported: Record | None = None
        """The values of the last record, until the progress is reported."""
        self._random_states: RandomStates
        """The states of the global random numbers while the run is not active."""
        self._is_extended = False
        """True if the run has got another length."""
        self.falls_back_to_eager = cfg.trainer.compile == "auto"
        """True if the run is to make eager steps if it cannot be compiled."""
        self._recorded_seconds = self._reported = self._began = 0.0
        self._handled_step = -1
        self._watch = Watch(flatten(cfg))
        self._best: Best = {}
        """The best value of each metric so far, and its step."""
        self._followed: Best = {}
        """The best value of the objective for `trainer.patience`, and its step."""
        self._measured_since_best = 0
        """Measurements of the objective since that value."""
        self.final_status = Status.COMPLETED
        """The status of the run when it has made all its steps."""

    @classmethod
    def open(
        cls,
        cfg: DictConfig,
        run_dir: Path,
        overrides: Sequence[str] = (),
        *,
        choices: Mapping[str, str] | None = None,
        load: LoadData = load_data,
        on_progress: OnProgress | None = None,
        extend: bool = False,
        restart: bool = False,
        check: CheckParts | None = None,
    ) -> "Run":
        """Claim `run_dir` and make a run ready for its next step, or find its stored result.

        Args:
            overrides: the command line that gave `cfg`, kept with the run.
            choices: the chosen options of the config groups, kept with the run.
            load: returns the data set; runs that share one pass their own function.
            on_progress: called with each report of progress, in place of a bar on the terminal.
            extend: let a run that exists go on to the length of `cfg`, where that is another one.
            restart: begin a run that exists again at its first step. What it has recorded and saved
                is removed once everything that it needs is there.
            check: raises a UserError if the parts of the run cannot be trained, before anything is
                stored.

        Raises:
            UserError: see `gan.train.run`.
        """
        is_new = restart or not checkpoint_paths(run_dir)
        _check_processes(cfg, is_new=is_new)
        cfg = with_init_hash(with_absolute_paths(cfg), run_dir)
        overrides = with_init_overrides(overrides_with_absolute_paths(overrides, flatten(cfg)), cfg)
        run = cls(cfg, run_dir)
        try:
            run._directory.enter_context(claimed(run_dir))
            run._is_extended = extend and gets_other_length(run_dir, cfg)
            refuse_other_config(run_dir, cfg, LENGTH if run._is_extended else ())
            stored = read_result(run_dir)
            if stored and stored["status"] in FINISHED and not (run._is_extended or restart):
                if moved := find_moved_data(run_dir, cfg):
                    present = content_hash(load(cfg))
                    refuse_other_data(run_dir, stored.get("data_hash"), present, moved)
                    note_moved_data(run_dir, cfg)
                run.result = stored
                log.info("%s: already %s at step %d", run_dir, stored["status"], stored["steps"])
            else:
                run._build(overrides, choices, load, check, is_new=is_new)
                if restart:
                    forget(run_dir)
                with run.active():
                    run._begin(on_progress)
        except BaseException as error:
            run.close(error)
            raise
        return run

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(error)

    @property
    def step(self) -> int:
        """The number of steps that were made."""
        return self.state.step

    @property
    def finished(self) -> bool:
        """Return whether the run has its result, so that no step is left to make."""
        return self.result is not None

    @property
    def objective(self) -> float:
        """The value that a sweeper improves: see `gan.run.result.objective`."""
        assert self.result is not None
        return objective(self.result)

    @property
    def has_stepped(self) -> bool:
        """Return whether a step was made since `after_step` was last called."""
        return self.step > self._handled_step

    @property
    def something_due(self) -> bool:
        """Return whether something is due after this step, or the run is to stop."""
        return self.step == self._next_due or self.stop_signal is not None

    @property
    def record_due(self) -> bool:
        """Return whether the statistics since the last record are to be logged."""
        return self._is_due(self.cfg.logging.every) or self.evaluation_due

    @property
    def evaluation_due(self) -> bool:
        """Return whether the metrics are to be computed."""
        return bool(self.cfg.metrics.names) and self._is_due(self.cfg.metrics.every)

    @property
    def samples_due(self) -> bool:
        """Return whether a picture of samples is to be drawn."""
        return self._is_due(self._samples_every)

    @property
    def checkpoint_due(self) -> bool:
        """Return whether a checkpoint is to be saved: it is due, or the run is to stop."""
        return self._is_due(self.cfg.trainer.checkpoint_every) or self.stop_signal is not None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Use this run's log file, global random state and way to round within the block."""
        with log_file(self.run_dir), rounding_as(self.cfg):
            before = random_states(self.parts.device)
            set_random_states(self._random_states, self.parts.device)
            try:
                yield
            finally:
                self._random_states = random_states(self.parts.device)
                set_random_states(before, self.parts.device)

    def keep_eager(self, reason: str) -> None:
        """Make eager steps from now on, because compiled ones cannot be made."""
        log.warning("trainer.compile=auto: steps are not compiled (%s)", reason)
        self.cfg = self.cfg.copy()
        OmegaConf.update(self.cfg, "trainer.compile", False)
        store_value(self.run_dir, "trainer.compile", False)

    def describe(self) -> None:
        """Describe a new run for TensorBoard. This takes a while, so it follows the first step."""
        assert self._records
        events = self._records.events
        if events and events.is_new:
            describe_run(events, self.cfg, self.parts, self._provenance["choices"])
            events.is_new = False

    def check_finite(self) -> None:
        """Check the losses of all steps so far. This waits for the device.

        Raises:
            NotFinite: one was NaN or infinite. The run's step is then that step.
        """
        if self.state.finite_steps < self.step:
            self.state.step = int(self.state.finite_steps) + 1
            raise NotFinite("a loss is not finite")

    def record(self, *, evaluate: bool) -> None:
        """Log the statistics since the last record, and the metrics if `evaluate`.

        Raises:
            NotFinite: a value or a sample is NaN or infinite.
        """
        assert self._records
        assert self._trackers
        state, batch_size = self.state, self.cfg.trainer.batch_size
        self._update_seconds()
        record = self._statistics()
        if evaluate:
            record |= self.evaluation.measure()
        if evaluate or self.samples_due:
            record |= self.evaluation.diversity()
        if not all(map(math.isfinite, record.values())):
            unfit = [name for name, value in record.items() if not math.isfinite(value)]
            raise NotFinite(f"{unfit[0]} is not finite")
        self._best = best_values([record], self._best)
        if evaluate and self._best_step == self.step:
            save_best(self.run_dir, self._content())
        self._follow_objective(record)
        # A clock may stand still, or go back.
        seconds = state.seconds - self._recorded_seconds
        rate = state.summed_steps * batch_size / seconds if seconds > 0 else None
        self._records.write(record, self._best, rate)
        self._say_verdict(record)
        self._trackers.notify()
        # A last step outside the intervals keeps its sums: a run that is trained longer goes on as
        # if it had not ended there.
        if self._is_recorded_at(self.step):
            state.sums.zero_()
            state.summed_steps = state.generator_updates = 0
        self._recorded_seconds = time.monotonic() - self._began
        self._unreported = record

    def draw_samples(self) -> None:
        """Draw a picture of samples of the same latents as every time.

        Raises:
            NotFinite: a sample holds NaN or infinity.
        """
        assert self._records
        assert self._trackers
        self._records.write_samples(self.step, self.evaluation.picture(), self._caption)
        self._trackers.notify()

    def save_checkpoint(self) -> None:
        """Save everything that the run needs to go on after this step."""
        assert self._records
        self._update_seconds()
        save_checkpoint(self.run_dir, self._content() | {"marks": self._records.marks()})
        # The run goes back to an earlier step only if this checkpoint is damaged, and finds its
        # best step again then.
        if self._best_step is not None:
            keep_best_only(self.run_dir, self._best_step)

    def report_progress(self) -> None:
        """Report the step after a record, or PROGRESS_SECONDS after the last report."""
        now = time.monotonic()
        if self._unreported or now > self._reported + PROGRESS_SECONDS:
            self._show_step(self.step, self._unreported)
            self._unreported, self._reported = None, now

    def note_handled(self) -> None:
        """Note that everything that was due after this step is done."""
        intervals = [self.cfg.logging.every, self._samples_every]
        intervals += [self.cfg.trainer.checkpoint_every]
        intervals += [self.cfg.metrics.every] if self.cfg.metrics.names else []
        following = [self.step - self.step % every + every for every in intervals]
        self._handled_step, self._next_due = self.step, min(self.total_steps, *following)

    def stop_if_asked(self) -> None:
        """Finish the run as pruned, or leave it as interrupted, if a signal asked for it.

        Raises:
            Interrupted: says how to continue.
        """
        if self.stop_signal is None:
            return
        if self.stop_signal == PRUNE:
            self.finish(Status.PRUNED)
            return
        raise Interrupted(
            f"{self.run_dir}: stopped by {self.stop_signal.name} after step {self.step} of "
            f"{self.total_steps}, checkpoint saved; continue with: "
            + command_line("resume", self.run_dir),
            exit_code=128 + self.stop_signal,
        )

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Write the result of a run that has nothing left to do.

        Args:
            reason: why the run diverged.
        """
        assert self._records
        assert self._trackers
        if status in WELL_ENDED:
            self._update_seconds()
        self.describe()
        if self._records.events:
            self._records.events.end_session(success=status in WELL_ENDED)
        self._training.close()
        self.result = self._write_result(status, reason)
        self._trackers.finish(status)
        if verdict := self._watch.verdict:
            log.warning("%s: %s", self.run_dir, verdict.text)
        log.info("%s", closing(self.run_dir, self.cfg, self.result))

    def close(self, error: BaseException | None = None) -> None:
        """Close the files and free the directory. An unfinished run goes on from its checkpoint.

        Args:
            error: the reason why the run ends early, noted in its result.

        Raises:
            UserError: `error` says that a file cannot be read or written.
            OutOfMemory: `error` says that memory ran out.
        """
        with self._directory:
            try:
                self._training.close()
            except OSError as failure:
                # A full disk does not take what is left to be written, either.
                error = failure
            out_of_memory = None
            if error and is_out_of_memory(error):
                out_of_memory = self._explain_memory(error)
            if self._records and not self.finished:
                self._note_error(out_of_memory or error)
                self._end_trackers(error)
        if out_of_memory:
            raise out_of_memory from error
        if isinstance(error, OSError):
            raise self._explain(error) from error

    def while_training(self, context: AbstractContextManager[Context]) -> Context:
        """Enter a context that ends when the training does."""
        return self._training.enter_context(context)

    def _build(
        self,
        overrides: Sequence[str],
        choices: Mapping[str, str] | None,
        load: LoadData,
        check: CheckParts | None,
        *,
        is_new: bool,
    ) -> None:
        # Runs of earlier versions have no trackers.
        self._made_trackers = make_trackers(plain(self.cfg.logging).get("trackers", {}))
        self.parts = build(self.cfg, load(self.cfg))
        self._plan_steps()
        if check:
            check(self.cfg, self.parts)
        self.data_hash = content_hash(self.parts.data)
        if self.cfg.trainer.get("init_from") and is_new:
            load_initial_weights(self.parts, self.cfg)
        self.evaluation = Evaluation(self.cfg, self.parts)
        self.cfg = store_config(
            self.run_dir, self.cfg, overrides, partial(choose_rounding, self.cfg, self.parts)
        )
        if not is_exact_here(self.cfg, self.parts):
            log.warning(
                "%s: matmul=onednn rounds to fewer digits than fp32 on this processor; going on by "
                "the default library",
                self.run_dir,
            )
            self.cfg = self.cfg.copy()
            OmegaConf.update(self.cfg, "matmul", DEFAULT)
        self._provenance = note_start(self.run_dir, flatten(self.cfg), choices)
        self._random_states = random_states(self.parts.device)

    def _begin(self, on_progress: OnProgress | None) -> None:
        """Bring the files, the state and the records to the point where training goes on."""
        saved = self._find_checkpoint()
        self._rewind_files(saved)
        self._restore_state(saved)
        self._open_records(is_begun=saved is None)
        self._replay_records()
        self._show_step: ShowStep = self._training.enter_context(
            progress(
                self.step,
                self.total_steps,
                enabled=self.cfg.logging.progress,
                on_progress=on_progress,
            )
        )
        self.note_handled()
        if self.step >= self.total_steps:
            self.finish(self.final_status)

    def _find_checkpoint(self) -> dict[str, Any] | None:
        """Return the checkpoint from which the run goes on; None if it begins.

        Nothing is changed before this, so that the run can go on once its data or its files are
        back.

        Raises:
            UserError: the data or the networks are others than those of the checkpoint, or there
                were checkpoints, and they are gone.
        """
        saved = load_newest_checkpoint(self.run_dir)
        if saved:
            moved = find_moved_data(self.run_dir, self.cfg)
            refuse_other_data(self.run_dir, saved.get("data_hash"), self.data_hash, moved)
            for role in ("generator", "discriminator"):
                network = getattr(self.parts, role)
                refuse_other_network(network, role, saved[role], str(self.run_dir))
        elif (step := last_step(self.run_dir)) > self.cfg.trainer.checkpoint_every:
            raise UserError(
                f"{self.run_dir}: was trained to step {step}, and its checkpoints are gone; "
                + restart_hint(self.run_dir)
            )
        return saved

    def _plan_steps(self) -> None:
        """Find out how many steps the run has, and what changes in them."""
        self.batches = self.parts.data.batches(self.cfg.trainer.batch_size, self.cfg.seed)
        self.total_steps = total_steps(self.cfg, self.batches.per_epoch)
        self.schedules = build_schedules(self.cfg, self.total_steps)
        self._samples_every = _samples_every(self.cfg, self.batches.per_epoch)

    def _rewind_files(self, saved: dict[str, Any] | None) -> None:
        """Take back what the files hold of steps after the checkpoint."""
        cfg, per_epoch = self.cfg, self.batches.per_epoch
        step, marks = (saved["step"], saved["marks"]) if saved else (0, {})
        if self._is_extended:
            check_length(self.run_dir, cfg, step, per_epoch)
            reopen_result(self.run_dir)
        note_moved_data(self.run_dir, cfg)
        if (self.run_dir / RESULT_FILE).exists() and read_result(self.run_dir) is None:
            begin = "the newest checkpoint" if saved else "the first step"
            path = self.run_dir / RESULT_FILE
            log.warning("%s: is damaged; it is made again, from %s", path, begin)
        drawn_every = _samples_every(read_config(self.run_dir), per_epoch)
        rewind(self.run_dir, step, marks, drawn_every)
        for path in best_paths(self.run_dir):
            if step_of(path) > step:
                path.unlink()
        if self._is_extended:
            for path in event_files(self.run_dir):
                forget_description(path)
            store_other_length(self.run_dir, cfg, self._provenance, step)

    def _restore_state(self, saved: dict[str, Any] | None) -> None:
        """Make the state of a new run, or load that of the checkpoint."""
        cfg, parts = self.cfg, self.parts
        self.state = initial_state(parts, cfg.seed)
        seed_all(derive_seed(cfg.seed, "global"))
        if saved:
            self._restore_first_samples()
            from_checkpoint(parts, self.state, saved)
        log.info("%s", self._opening())
        if saved:
            return
        if place := cfg.trainer.get("init_from"):
            log.info("%s: starting from the weights of %s", self.run_dir, place)
        early = doubts_of_length(cfg, self.total_steps)
        for doubt in (*doubts(cfg), *early, rounding_doubt(cfg, parts)):
            if doubt:
                log.warning("%s", doubt)
        if self.data_hash is None:
            log.warning("data: have no content_hash, so a change of them is not noticed")

    def _open_records(self, *, is_begun: bool) -> None:
        """Open the files of records, and draw the pictures that come before the first step.

        Args:
            is_begun: the run begins with its first step.
        """
        self._records = Records(
            self.run_dir,
            tensorboard=self.cfg.logging.tensorboard,
            scheduled=any(name.endswith("/lr") for name in self.schedules),
        )
        if self._records.events:
            self._records.events.is_new |= self._is_extended
        self._training.callback(self._records.close)
        if (real := self.evaluation.real_picture()) is not None:
            self._records.write_real_samples(real)
        self._trackers = Trackers(self._made_trackers, self._as_tracked())
        if is_begun:
            # The first training step will say what is wrong with weights that are not finite.
            with suppress(NotFinite):
                self.draw_samples()
            if warning := range_doubt(self.batches.batch(0)[0]):
                log.warning("%s", warning)

    def _replay_records(self) -> None:
        """Learn from the records so far what is best, what is wrong and what has not improved."""
        assert self._records
        self._best = {}
        for record in read_records(self.run_dir):
            self._best = best_values([record], self._best)
            self._follow_objective(record)
            sentence = self._watch.follow(record)
            if sentence and self._records.events and self._records.events.is_new:
                self._records.write_remark(record["step"], VERDICT_TAG, sentence)
        step = self._best_step
        if step is not None and not has_best(self.run_dir, step):
            log.warning(
                "%s: trainer.keep_best=%s: the checkpoint of the best step so far, %d, was not "
                "kept; a better one will be",
                self.run_dir,
                self.cfg.trainer.keep_best,
                step,
            )
        self._began = time.monotonic() - self.state.seconds
        self._recorded_seconds = self.state.seconds
        self._reported = time.monotonic()

    def _opening(self) -> str:
        return opening(
            self.run_dir,
            self.cfg,
            self.parts,
            self._provenance["choices"],
            step=self.step,
            total_steps=self.total_steps,
            per_epoch=self.batches.per_epoch,
            faster_precision="tf32" if gains_by_rounding(self.cfg, self.parts) else None,
        )

    @property
    def _best_step(self) -> int | None:
        """The best step so far by `trainer.keep_best`."""
        # Runs of earlier versions have no such key.
        metric = self.cfg.trainer.get("keep_best")
        return int(self._best[metric]["step"]) if metric in self._best else None

    def _content(self) -> dict[str, Any]:
        """Return the networks, the optimizers and the state, as a checkpoint holds them."""
        return to_checkpoint(self.parts, self.state) | {"data_hash": self.data_hash}

    def _as_tracked(self) -> TrackedRun:
        return TrackedRun(
            id=self._provenance["id"],
            name=self.name,
            group=sweep_name(self.run_dir),
            project=self.cfg.name,
            tags=list(self.cfg.tags),
            notes=self.cfg.notes,
            config=flatten(self.cfg),
            run_dir=self.run_dir.resolve(),
        )

    @property
    def _caption(self) -> str:
        return caption(self.step, self.batches.per_epoch)

    def _restore_first_samples(self) -> None:
        """Draw the samples of the untrained networks again if their picture was lost.

        This needs the weights that the seed gives. Those of `trainer.init_from` are not loaded
        again for a run that goes on.
        """
        has_own_weights = not self.cfg.trainer.get("init_from")
        if has_own_weights and not sample_file(self.run_dir, 0).exists():
            with suppress(NotFinite):
                write_samples(self.run_dir, 0, self.evaluation.picture(), self._caption)

    def _is_due(self, every: int) -> bool:
        at_end = self.step == self.total_steps
        return self.step > self._handled_step and (self.step % every == 0 or at_end)

    def _is_recorded_at(self, step: int) -> bool:
        """Return whether a record is due at a step by its interval, even if it is not the last."""
        intervals = [self.cfg.logging.every]
        intervals += [self.cfg.metrics.every] if self.cfg.metrics.names else []
        return any(step % every == 0 for every in intervals)

    def _update_seconds(self) -> None:
        self.state.seconds = max(self.state.seconds, time.monotonic() - self._began)

    def _statistics(self) -> Record:
        """Return the means of STEP_STATISTICS since the last record, and other values."""
        parts, state = self.parts, self.state
        record: Record = {"step": self.step, "epoch": self.step / self.batches.per_epoch}
        for name, total in zip(STEP_STATISTICS, state.sums.tolist(), strict=True):
            steps = state.generator_updates if name == "loss/generator" else state.summed_steps
            if steps:
                record[name] = total / steps
        networks = {"discriminator": parts.discriminator, "generator": parts.generator}
        if self.step % parts.n_critic:
            # The generator's gradients are those of an earlier step, and a resumed run has none.
            del networks["generator"]
        for name, network in networks.items():
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            record[f"grad_norm/{name}"] = torch.nn.utils.get_total_norm(gradients).item()
        for name, optimizer in (
            ("discriminator", parts.discriminator_optimizer),
            ("generator", parts.generator_optimizer),
        ):
            record[f"lr/{name}"] = optimizer.param_groups[0]["lr"]
        for name, schedule in self.schedules.items():
            role, _, number = name.partition("_optimizer/")
            shown = f"lr/{role}" if number == "lr" else f"schedule/{name.replace('/', '.')}"
            record[shown] = schedule(self.step - 1)
        for role, scale in parts.loss_scales.items():
            record[f"loss_scale/{role}"] = factor = scale[0].item()
            if factor < LOWEST_LOSS_SCALE:
                raise NotFinite(f"the gradients of the {role} are not finite at any loss scale")
        if state.adaptive:
            record["augment_p"] = state.adaptive.p.item()
        return record

    def _follow_objective(self, record: Record) -> None:
        """Let the run end with the present step if its objective has not improved for too long."""
        name, patience = self.cfg.metrics.objective, self.cfg.trainer.get("patience")
        if patience is None or name not in record:
            return
        step = record["step"]
        if step % self.cfg.metrics.every and step != self.total_steps:
            # The run ended here before it was to be trained longer.
            return
        self._followed = best_values([{"step": step, name: record[name]}], self._followed)
        is_best = self._followed[name]["step"] == step
        self._measured_since_best = 0 if is_best else self._measured_since_best + 1
        if self._measured_since_best >= patience and step == self.step:
            self.total_steps, self.final_status = self.step, Status.STOPPED

    def _say_verdict(self, record: Record) -> None:
        """Log a sentence, for TensorBoard too, if a record changes what is wrong with the run."""
        assert self._records
        if sentence := self._watch.follow(record):
            log.log(WARNING if self._watch.verdict else INFO, "%s: %s", self.run_dir, sentence)
            self._records.write_remark(self.step, VERDICT_TAG, sentence)

    def _write_result(self, status: Status, error: str | None = None) -> Result:
        verdict = self._watch.verdict
        result = make_result(
            self.cfg,
            self.run_dir,
            status=status,
            step=self.step,
            seconds=self.state.seconds,
            error=error,
            verdict=verdict._asdict() if verdict else None,
            device=str(self.parts.device),
            threads=self.cfg.threads,
            matmul=self.cfg.matmul,
            data_hash=self.data_hash,
            code=code_hashes(flatten(self.cfg)),
            measured=self.evaluation.facts,
            choices=self._provenance["choices"],
            extended=extensions(self._provenance, length_settings(self.cfg)),
        )
        write_result(self.run_dir, result)
        return result

    def _note_error(self, error: BaseException | None) -> None:
        if isinstance(error, Interrupted):
            self._write_result(Status.INTERRUPTED)
        elif isinstance(error, Exception):
            # Where the disk is full this cannot be written either, and the cause is what matters.
            with suppress(OSError):
                self._write_result(Status.FAILED, f"{type(error).__name__}: {error}")

    def _end_trackers(self, error: BaseException | None) -> None:
        if self._trackers:
            failed = isinstance(error, Exception)
            # Other errors than these end the program at once, such as a third Ctrl-C.
            wait = failed or error is None or isinstance(error, Interrupted)
            with ExitStack() as stack:
                # The run's directory may have disappeared.
                with suppress(OSError):
                    stack.enter_context(log_file(self.run_dir))
                self._trackers.finish(Status.FAILED if failed else Status.INTERRUPTED, wait=wait)

    def _explain(self, error: OSError) -> UserError:
        hint = ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and (self.run_dir / CONFIG_FILE).exists():
            hint = f"; make room, then continue with: {command_line('resume', self.run_dir)}"
        reason = f"cannot be written ({error.strerror or error})"
        return UserError(f"{error.filename or self.run_dir}: {reason}{hint}")

    def _explain_memory(self, error: BaseException) -> OutOfMemory:
        """Return the error of a run for which there is too little memory."""
        cfg, place, samples = self.cfg, "before its first step", []
        if self._records and self.has_stepped:
            place = f"after step {self.step}"
            samples = ["metrics.samples"] if self.evaluation_due else []
        elif self._records:
            place = f"in step {self.step + 1}"
        widths = [f"model.{name}" for name in ("hidden_dim", "channels") if name in cfg.model]
        sizes = ["trainer.batch_size", *widths, *samples]
        given = ", ".join(f"{key}={OmegaConf.select(cfg, key)}" for key in sizes)
        wanted = re.search(r"allocate ([\d.]+ \w+)", str(error))
        missing = f", {wanted[1]} more were needed" if wanted else ""
        tries = [f"a smaller {' or '.join(sizes)}", "fewer runs at a time"]
        tries = ["trainer.precision=bf16"] * (cfg.trainer.precision not in ("bf16", "fp16")) + tries
        return OutOfMemory(
            f"{self.run_dir}: memory ran out {place}{missing} (device={cfg.device}, {given}); try "
            + ", ".join(tries)
        )


def _check_processes(cfg: DictConfig, *, is_new: bool) -> None:
    """Check that the processes, if there are several, can train a run.

    A run that goes on makes eager steps, which changes its rounding only.

    Raises:
        UserError: they cannot.
    """
    trainer = cfg.trainer
    if processes := current_processes():
        processes.check(batch_size=trainer.batch_size, pac=trainer.pac, device=cfg.device)
        for name in ("compile", "cuda_graphs"):
            if trainer[name] is True and is_new:
                raise UserError(
                    f"trainer.{name}=true: is for one process, and there are {processes.size}; set "
                    f"trainer.{name}=false"
                )


def _samples_every(cfg: DictConfig, steps_per_epoch: int) -> int:
    """Return the number of steps from one picture of samples to the next."""
    # Runs of earlier versions have no such key.
    epochs: int | None = cfg.logging.get("samples_every_epochs")
    steps: int = epochs * steps_per_epoch if epochs else cfg.logging.samples_every
    return steps
