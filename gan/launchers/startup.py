"""A quick start: Python's garbage collector looks again and again at what never goes away."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """What is made in the block, modules above all, is to last as long as the process: no garbage
    is collected there, and all that there is by its end is passed over from then on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
