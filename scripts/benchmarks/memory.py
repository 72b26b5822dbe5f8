"""The memory that training takes."""

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.profiler import ProfilerActivity, profile

from benchmarks.members import Steps
from gan.functional.tensors import tensors
from gan.vectorized.member import Member


def held(members: Sequence[Member]) -> int:
    """Bytes of what training changes: weights, and what optimizers keep for them."""
    found = {}
    for member in members:
        for tensor in tensors(member.running.parts, member.running.state).values():
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def passing(steps: Steps) -> int:
    """The most bytes of the CPU's that a step has at once, its gradients and those of the step
    before among them, beside what was there."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        # What goes is known to the profiler only if it came while it looked.
        steps(2)
    with TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    sizes: list[int] = [event["args"]["Bytes"] for event in changes]
    return max(accumulate(sizes))
