"""Where the time of a training step goes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler

SKIPPED, WARM_UP, RECORDED = 20, 5, 10
"""Steps: libraries set themselves up, the profiler does, and what is written."""


@contextmanager
def profiled(folder: Path) -> Iterator[Callable[[], None]]:
    """Within the block, what it gives is called after each step; the trace of some steps comes
    into the folder, as JSON for TensorBoard's profiler and for Perfetto.

    A run that is too short writes none.
    """
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    plan = schedule(wait=SKIPPED, warmup=WARM_UP, active=RECORDED, repeat=1)
    handler = tensorboard_trace_handler(str(folder), worker_name="train")
    with profile(
        activities=activities,
        schedule=plan,
        on_trace_ready=handler,
        record_shapes=True,
        profile_memory=True,
    ) as profiler:
        yield profiler.step
