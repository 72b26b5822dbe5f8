"""Hydra's callbacks in a sweep: they are told when a job starts and when it has ended."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from gan.config.compose import as_hydra_config
from gan.config.loader import as_given
from gan.config.overrides import escaped
from gan.launchers.base import Started
from gan.run.result import FINISHED, UNFINISHED
from gan.sweep.composer import loader_of_copies
from gan.sweep.directory import Sweep
from gan.sweep.plan import Job
from gan.sweep.schedule import JobEnded, ScheduleEvent


class JobCallbacks:
    """Tells Hydra's callbacks of each job once that it starts and once that it has ended.

    Another attempt at a job is part of the same job.

    Args:
        context: holds the callbacks, and the loader that composes the configuration of a job.
        task: the function that Hydra would call for a job.
        master: the configuration of the whole sweep.
    """

    def __init__(self, context: HydraContext, task: TaskFunction, master: DictConfig):
        self._loader, self._task, self._master = context.config_loader, task, master
        self._callbacks = context.callbacks
        self._is_needed = any(_listens(callback) for callback in context.callbacks.callbacks)
        self._configs: dict[str, DictConfig] = {}
        """The configurations of the jobs that have started, Hydra's own part included."""
        self._numbers: dict[str, int] = {}
        """The places of the jobs in the plan."""

    def tell(self, sweep: Sweep, event: ScheduleEvent) -> None:
        """Tell the callbacks of an event, if they listen to such events."""
        if not self._is_needed:
            return
        if isinstance(event, Started):
            self._start(sweep, sweep.jobs[event.name])
        elif isinstance(event, JobEnded):
            if event.status not in UNFINISHED:
                # A job whose worker dies at once has never reported that it started.
                self._start(sweep, event.job)
            self._end(event)

    def _start(self, sweep: Sweep, job: Job) -> None:
        if job.name not in self._configs:
            config = self._configs[job.name] = self._config(sweep, job)
            with as_hydra_config(config):
                self._callbacks.on_job_start(config=config, task_function=self._task)

    def _end(self, event: JobEnded) -> None:
        config = self._configs.pop(event.job.name, None)
        if config is None:
            return
        with as_hydra_config(config):
            returned = JobReturn(
                overrides=as_given(config.hydra.overrides.task),
                cfg=OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]),
                hydra_cfg=OmegaConf.masked_copy(config, "hydra"),
                working_dir=str(Path.cwd()),
                task_name=config.hydra.job.name,
            )
            if event.status in FINISHED:
                returned.status, returned.return_value = JobStatus.COMPLETED, event.objective
            else:
                reason = event.reason or event.status.value
                returned.status = JobStatus.FAILED
                returned.return_value = RuntimeError(f"{event.job.name}: {reason}")
            self._callbacks.on_job_end(config=config, job_return=returned)

    def _config(self, sweep: Sweep, job: Job) -> DictConfig:
        """Return the configuration of a job as Hydra's own launchers make it."""
        loader = loader_of_copies(self._loader, sweep.path / Sweep.SOURCES)
        texts = [*job.overrides, f"hydra.sweep.subdir='{job.name}'"]
        config: DictConfig = loader.load_sweep_config(self._master, texts)
        config.merge_with(escaped(job.config))
        with read_write(config.hydra), open_dict(config.hydra):
            new = itertools.islice(sweep.jobs, len(self._numbers), None)
            self._numbers |= {name: i for i, name in enumerate(new, len(self._numbers))}
            number = self._numbers[job.name]
            config.hydra.job.id, config.hydra.job.num = str(number), number
            config.hydra.runtime.output_dir = str(sweep.run_dir(job.name).absolute())
        return config


@contextmanager
def multirun_end(callbacks: Callbacks, master: DictConfig) -> Iterator[None]:
    """Tell the callbacks that the sweep has ended if the block raises an exception.

    Hydra itself tells them if it does not.
    """
    try:
        yield
    except BaseException:
        callbacks.on_multirun_end(config=master, config_name=master.hydra.job.config_name)
        raise


def _listens(callback: Any) -> bool:
    """Return whether a callback does something when a job starts or ends."""
    return any(
        getattr(type(callback), name, nothing) is not nothing
        for name, nothing in vars(Callback).items()
        if name in ("on_job_start", "on_job_end")
    )
