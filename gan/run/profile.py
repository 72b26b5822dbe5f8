"""A trace of some training steps, to see where their time goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler

SKIPPED_STEPS = 20
"""Steps in which libraries set themselves up."""
WARM_UP_STEPS = 5
"""Steps in which the profiler sets itself up."""
TRACED_STEPS = 10


@contextmanager
def profiler(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each step; write a trace of TRACED_STEPS into `folder`.

    The trace is JSON for TensorBoard's profiler and for Perfetto. A run that is too short writes
    none.
    """
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(
        activities=activities,
        schedule=schedule(wait=SKIPPED_STEPS, warmup=WARM_UP_STEPS, active=TRACED_STEPS, repeat=1),
        on_trace_ready=tensorboard_trace_handler(str(folder), worker_name="train"),
        record_shapes=True,
        profile_memory=True,
    ) as active_profiler:
        yield active_profiler.step
