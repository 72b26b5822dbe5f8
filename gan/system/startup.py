"""The start of a program: its imports, its threads, its console, and the warnings of libraries."""

import ctypes
import gc
import io
import os
import select
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


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


def end_with_parent() -> None:
    """Let the system kill this process when its parent ends. Only Linux can."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


SHORT_WAITS = {"GOMP_SPINCOUNT": "8000", "KMP_BLOCKTIME": "0"}
"""Environment variables that let an idle thread sleep soon. torch comes with libgomp on Linux, and
with libomp or libiomp5 on macOS and Windows."""


def shorten_waits() -> None:
    """Let idle threads of torch sleep soon, unless the user has chosen how they wait.

    By default they wait in a loop for milliseconds. If other programs are busy, this loop takes the
    core from the very thread that it waits for. Most waits in a training step are short, so threads
    of libgomp try a little before they sleep: on an idle machine, waking them takes longer.

    Call this before torch is imported. Afterwards, only new processes notice it.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", *SHORT_WAITS}:
        os.environ.update(SHORT_WAITS)


def core_count() -> int:
    """Return the number of cores that this process may use, by the limits of its container too."""
    # Importing joblib takes longer than all that --help needs.
    from joblib import cpu_count

    return int(cpu_count())


class Console(io.FileIO):
    """Standard output or standard error. What it cannot take is dropped, and work goes on."""

    error: OSError | None = None
    """The reason why the first text was dropped."""

    def write(self, content: Any) -> int:
        """Write some of the content, and return the number of bytes that are dealt with."""
        try:
            written: int | None = super().write(content)
            while written is None:
                # Another program has made the terminal one that does not wait.
                select.select([], [self], [])
                written = super().write(content)
        except OSError as error:
            self.error = self.error or error
            return len(content)
        return written


def start_program(encoding: str | None = None) -> None:
    """Let neither the console nor a warning end this process, and no idle thread take a core.

    Streams that a test or a notebook has put in the place of the console are left alone.

    Args:
        encoding: of what is printed; None keeps that of the locale. A character that it does not
            have is printed as its code.
    """
    shorten_waits()
    # Where standard output is closed, the next file to be opened would take its place.
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _console_stream(number, stream, encoding))
    if any(action == "error" for action, *_ in warnings.filters):
        # Python was told to raise warnings. Most are a library's, and about its next version.
        warnings.simplefilter("default")


def lost_output() -> OSError | None:
    """Return the error because of which some standard output was dropped, if any was."""
    with suppress(AttributeError):
        sys.stdout.flush()
        console = sys.stdout.buffer.raw  # type: ignore[union-attr]
        return console.error if isinstance(console, Console) else None
    return None


def _console_stream(number: int, stream: Any, encoding: str | None) -> io.TextIOWrapper:
    if stream:
        with suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Console(number, "w", closefd=False)),
        encoding=encoding or (stream.encoding if stream else "utf-8"),
        errors="backslashreplace",
        line_buffering=stream is not None and (stream.line_buffering or stream.write_through),
    )
