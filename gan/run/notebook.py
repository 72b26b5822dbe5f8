"""Progress of a run in a notebook: a bar and the last values, which change in place."""

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from gan.run.progress import LINE_WIDTH, OnProgress, summaries

SECONDS = 0.2
"""Seconds from one change to the next, so that the page keeps up with a fast run."""


def in_notebook() -> bool:
    """Return whether this process executes the cells of a notebook."""
    # A notebook has imported IPython, and nobody else needs it.
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel")


def notebook_progress() -> OnProgress:
    """Return a function that shows the progress of one run below the present cell.

    It needs no widgets, and what it shows last is kept with the notebook.
    """
    from IPython.display import display

    update: Callable[..., None] | None = None
    values, changed = "", 0.0

    def show(step: int, total: int, record: dict[str, Any] | None) -> None:
        nonlocal update, values, changed
        values = "\n".join(summaries(record, LINE_WIDTH)) if record else values
        if step < total and time.monotonic() < changed + SECONDS:
            return
        changed = time.monotonic()
        text = f"step {step}/{total}"
        bar = f"<progress value={step} max={total}></progress> {text}"
        page = f"<div>{bar}<pre style='margin: 0'>{escape(values)}</pre></div>"
        shown = {"text/plain": f"{text}\n{values}".rstrip(), "text/html": page}
        if update:
            update(shown, raw=True)
        else:
            update = display(shown, raw=True, display_id=True).update  # type: ignore[no-untyped-call]

    return show
