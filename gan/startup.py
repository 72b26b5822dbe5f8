"""A fast start for programs that import torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fast_imports() -> Iterator[None]:
    """Import modules in the block without garbage collection.

    torch and what it needs create so many objects that Python's garbage collector runs again and
    again, and it finds nothing: a module lives as long as the process. So the collector is off in
    the block, and afterwards it ignores every object that exists by then.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
