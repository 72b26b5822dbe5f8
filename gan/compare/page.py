"""One HTML file that holds a comparison whole: it asks for nothing from anywhere."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from gan.compare.frame import TOLD, Table
from gan.compare.importance import importance
from gan.compare.rank import rank
from gan.compare.read import Run, read_history
from gan.config.checks import flatten
from gan.config.compose import compose_unchecked
from gan.errors import UserError
from gan.files import write_text
from gan.metrics.catalogue import LOSSES_AND_PROBABILITIES, sign
from gan.run.directory import REAL_FILE

MARGIN = 2
"""Pixels around each image of a grid, as gan.data.pictures draws it."""

VALUES = 150_000
"""Points of all curves together: about 2 MB of text."""

PICTURES = 400
"""Sample pictures of all runs together: about 1.5 MB."""

SHOWN = 4
"""Rows and columns of samples in a picture."""

Json = dict[str, Any]


def write_page(table: Table, out: Path, title: str) -> None:
    """Write the page of the runs in a table, in their order.

    Raises:
        UserError: the file cannot be written.
    """
    content = page(table, title)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, content)
    except OSError as error:
        raise UserError(f"html={out}: cannot be written ({error.strerror or error})") from error


def page(table: Table, title: str) -> str:
    folder = files("gan.compare")
    script = folder.joinpath("page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The name of a run or a note may hold anything; "<" alone could end the element it is in.
    data = json.dumps(page_data(table, title), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "POLICY": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'",
        "STYLE": folder.joinpath("page.css").read_text(),
        "DATA": data,
        "SCRIPT": script,
    }
    text = folder.joinpath("page.html").read_text()
    # Split first, so that what is put in is not looked at again.
    pieces = text.split("@@")
    return "".join(parts.get(piece, piece) if at % 2 else piece for at, piece in enumerate(pieces))


def page_data(table: Table, title: str) -> Json:
    """What page.js shows."""
    frame = table.frame.drop(columns=["path"])
    frame = frame.assign(changed=frame["changed"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    runs = [table.runs[number] for number in table.frame.index]
    default = flatten(compose_unchecked([]))
    metrics = [name for name in table.metrics if frame[name].notna().any()]
    measured = [name for name in metrics if "/" not in name]
    return {
        "title": title,
        "objective": table.objective,
        "columns": [
            {"name": name, "numeric": bool(pd.api.types.is_numeric_dtype(frame[name]))}
            for name in map(str, frame)
        ],
        "rows": [[_plain(value) for value in row] for row in frame.itertuples(index=False)],
        "keys": [name for name in table.keys if name not in TOLD],
        "metrics": metrics or [table.objective],
        "directions": {name: sign(name) for name in metrics},
        "ranking": _ranking(table),
        "importance": _importance(table),
        "curves": _curves(runs, [*measured, *LOSSES_AND_PROBABILITIES]),
        "samples": _samples(runs),
        "default": {key: _text(value) for key, value in default.items()},
        "configs": [
            {
                key: _text(run.config[key]) if key in run.config else None
                for key in run.config | default
                if key not in run.config or run.config[key] != default.get(key, _ABSENT)
            }
            for run in runs
        ],
        "paths": [run.path for run in runs],
    }


_ABSENT = object()


def _ranking(table: Table) -> Json | None:
    if "seed" not in table.keys:
        return None
    found = rank(table, "seed", table.objective)
    rows = [[_plain(value) for value in row] for row in found.frame.itertuples(index=False)]
    return {"columns": list(map(str, found.frame)), "rows": rows}


def _importance(table: Table) -> Json | None:
    found = importance(table)
    return {"score": found.score, "keys": found.keys} if found else None


def _curves(runs: Sequence[Run], names: Sequence[str]) -> Json:
    """For every run and name the steps and values, as many as fit in evenly chosen places."""
    most = max(VALUES // max(len(runs) * len(names), 1), 20)
    found = []
    for run in runs:
        records = read_history(Path(run.path))
        lines = {}
        for name in names:
            points = [(r["step"], r[name]) for r in records if _finite(r.get(name))]
            stride = math.ceil(len(points) / most) or 1
            # Counted from the end, so that the last value stays.
            points = points[::-1][::stride][::-1]
            if points:
                lines[name] = [[s for s, _ in points], [float(f"{v:.5g}") for _, v in points]]
        found.append(lines)
    return {"names": [n for n in names if any(n in lines for lines in found)], "runs": found}


def _samples(runs: Sequence[Run]) -> Json:
    """Pictures at steps that many runs have, the last of them included."""
    available = [_pictures(run) for run in runs]
    steps = sorted({step for found in available for step in found})
    count = max(PICTURES // max(sum(map(bool, available)), 1), 1)
    if len(steps) > count:
        places = {round(n * (len(steps) - 1) / max(count - 1, 1)) for n in range(count)}
        steps = [steps[place] for place in sorted(places | {len(steps) - 1})][-count:]
    found = []
    for pictures in available:
        # A run that ended in between shows its last picture.
        wanted = {step: max((s for s in pictures if s <= step), default=None) for step in steps}
        read = {at: _picture(pictures[at]) for at in {*wanted.values()} if at is not None}
        found.append(
            {str(step): read[at] for step, at in wanted.items() if at is not None and read[at]}
        )
    real = (_picture(Path(run.path, "samples", REAL_FILE)) for run in runs)
    return {"steps": steps, "runs": found, "real": next(filter(None, real), None)}


def _pictures(run: Run) -> dict[int, Path]:
    found = {}
    for path in Path(run.path, "samples").glob("step-*.png"):
        number = path.stem.removeprefix("step-")
        if number.isdecimal():
            found[int(number)] = path
    return found


def _picture(path: Path) -> str | None:
    """The first samples of a grid as a data URL; a picture that is no grid is taken whole."""
    try:
        with Image.open(path) as image:
            image.load()
            side = _side(image.width, image.height)
            shown = image.crop((0, 0, side, side)) if side else image
    except (OSError, ValueError, SyntaxError):
        return None
    buffer = io.BytesIO()
    shown.save(buffer, format="WEBP", quality=70, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _side(width: int, height: int) -> int | None:
    """Pixels of SHOWN x SHOWN cells of a square grid of square cells."""
    for count in range(SHOWN + 1, 33):
        cell, rest = divmod(width - MARGIN, count)
        if width == height and rest == 0 and cell - MARGIN in (8, 16, 28, 32, 48, 64, 96, 128):
            return SHOWN * cell + MARGIN
    return None


def _plain(value: Any) -> Any:
    if value is None or pd.isna(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
