"""Write a comparison of runs as one HTML file that loads nothing from anywhere else."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan.compare.frame import Table, is_logged, is_metric
from gan.compare.importance import importance
from gan.compare.rank import rank
from gan.compare.read import ABSENT, StoredRun, is_number, read_history
from gan.config.checks import flatten
from gan.config.compose import compose_unchecked
from gan.errors import UserError
from gan.metrics.catalogue import LOSSES_AND_PROBABILITIES, logged_name, sign
from gan.run.directory import REAL_FILE
from gan.run.pictures import open_exact, sample_files
from gan.system.files import write_text

MARGIN = 2
"""Pixels around each image of a sample grid. gan.data.pictures has the same number, but imports
torch."""

MAX_POINTS = 150_000
"""The most points that all curves have together: about 2 MB of text."""

MAX_PICTURE_TEXT = 2_000_000
"""The most characters of all sample pictures together. One of each run is always shown."""

MAX_SIDE = 400
"""Pixels of the longer side of a picture, at most."""

SHOWN = 4
"""The number of rows and columns of samples in a picture."""

SIDES = (8, 16, 28, 32, 48, 64, 96, 128)
"""The sides of a sample, in pixels, by which a picture is recognized as a sample grid."""

Json = dict[str, Any]


def write_page(table: Table, out: Path, title: str) -> None:
    """Write the page of the runs in a table, in the order of the table.

    Raises:
        UserError: The file cannot be written.
    """
    content = render_page(table, title)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, content)
    except OSError as error:
        raise UserError(f"html={out}: cannot be written ({error.strerror or error})") from error


def render_page(table: Table, title: str) -> str:
    """Return the HTML of the page."""
    folder = files("gan.compare")
    library = _library()
    names = ("page.filter.js", "page.charts.js", "page.js")
    script = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    # The name of a run or a note may hold anything, and "<" could end the element that holds it.
    data = json.dumps(page_data(table, title), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "POLICY": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {_digest(library)} {_digest(script)}",
        "STYLE": folder.joinpath("page.css").read_text(encoding="utf-8"),
        "DATA": data,
        "LIBRARY": library,
        "SCRIPT": script,
    }
    # The template is split before anything is inserted, so "@@" in the data is left alone.
    pieces = folder.joinpath("page.html").read_text(encoding="utf-8").split("@@")
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces))


@cache
def _library() -> str:
    """Return the JavaScript that draws charts. This takes seconds when it is called first."""
    from vl_convert import javascript_bundle

    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _digest(script: str) -> str:
    """Return what the page's policy knows a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _holds_numbers(column: "pd.Series[Any]") -> bool:
    kinds = pd.api.types
    return bool(kinds.is_numeric_dtype(column)) and not kinds.is_bool_dtype(column)


def _holds_booleans(column: "pd.Series[Any]") -> bool:
    known = column.dropna()
    return bool(len(known)) and all(isinstance(value, bool | np.bool_) for value in known)


def page_data(table: Table, title: str) -> Json:
    """Return the data that page.js shows."""
    frame = table.frame.drop(columns=["path"])
    frame = frame.assign(changed=frame["changed"].dt.strftime("%Y-%m-%d %H:%M:%S"))
    runs = [table.runs[number] for number in table.frame.index]
    default = flatten(compose_unchecked([]))
    metrics = [name for name in table.metrics if frame[name].notna().any()]
    logged_metrics = [name for name in metrics if is_logged(name)]
    return {
        "title": title,
        "notes": table.notes,
        "copies": [row for row, number in enumerate(frame.index) if number in table.copies],
        "objective": table.objective,
        "columns": [
            {
                "name": name,
                "numeric": _holds_numbers(frame[name]),
                "boolean": _holds_booleans(frame[name]),
                # Dates are ordered as their texts are.
                "ordered": name == "changed",
                "key": table.keys.get(name, name),
            }
            for name in map(str, frame)
        ],
        "rows": _json_rows(frame),
        "keys": table.defining_keys,
        "metrics": metrics or [table.objective],
        "directions": {name: sign(name) for name in [*metrics, table.objective]},
        "ranking": _ranking(table),
        "importance": _importance(table),
        "curves": _curves(table, [*logged_metrics, *LOSSES_AND_PROBABILITIES]),
        "samples": _samples(runs),
        "default": {key: _text(value) for key, value in default.items()},
        "configs": [_config_difference(run.config, default) for run in runs],
        "paths": [run.path for run in runs],
        "remarks": [run.remark for run in runs],
    }


def _ranking(table: Table) -> Json | None:
    if "seed" not in table.keys:
        return None
    ranking = rank(table, "seed", table.objective)
    frame = ranking.readable()
    columns = list(map(str, frame))
    return {"columns": columns, "rows": _json_rows(frame), "notes": ranking.notes}


def _importance(table: Table) -> Json | None:
    result = importance(table)
    return {"score": result.score, "keys": result.keys} if result else None


def _curves(table: Table, names: Sequence[str]) -> Json:
    """Return the steps and values of each name for each run.

    If there are too many, those of some steps are chosen, the same for all runs.
    """
    max_length = max(MAX_POINTS // max(len(table.frame) * len(names), 1), 20)
    measured = {name: {*table.measured_by(name).frame.index} for name in names}
    points_by_run: list[dict[str, dict[int, float]]] = []
    for number in table.frame.index:
        records = read_history(Path(table.runs[number].path))
        points_by_name = {}
        for name in (name for name in names if number in measured[name]):
            logged = logged_name(name) if is_metric(name) else name
            points = {r["step"]: r[logged] for r in records if is_number(r.get(logged))}
            if points:
                points_by_name[name] = points
        points_by_run.append(points_by_name)
    curves_by_run: list[Json] = [{} for _ in points_by_run]
    for name in names:
        found = [points_by_name[name] for points_by_name in points_by_run if name in points_by_name]
        # The steps are counted from the end, so that the last value is always chosen.
        steps = sorted({step for points in found for step in points}, reverse=True)
        chosen = {*steps[:: math.ceil(len(steps) / max_length) or 1]}
        for curves, points_by_name in zip(curves_by_run, points_by_run, strict=True):
            if points := points_by_name.get(name, {}):
                kept = sorted(chosen & points.keys()) or [max(points)]
                curves[name] = [kept, [float(f"{points[step]:.6g}") for step in kept]]
    used = [name for name in names if any(name in curves for curves in curves_by_run)]
    return {"names": used, "runs": curves_by_run}


def _samples(runs: Sequence[StoredRun]) -> Json:
    """Return sample pictures at some of the steps at which runs have any, the last one included."""
    picture_url = cache(_picture_url)
    drawn_by_run: list[dict[str, int]] = []
    files_by_run = [sample_files(Path(run.path)) for run in runs]
    steps = sorted({step for by_step in files_by_run for step in by_step})
    newest = [picture_url(by_step[max(by_step)]) for by_step in files_by_run if by_step]
    count = max(MAX_PICTURE_TEXT // max(sum(len(url or "") for url in newest), 1), 1)
    if len(steps) > count:
        last = len(steps) - 1
        places = {round(n * last / max(count - 1, 1)) for n in range(count)} | {last}
        steps = [steps[place] for place in sorted(places)][-count:]
    pictures_by_run = []
    for by_step in files_by_run:
        # A run that has no picture at a step shows the one before it.
        drawn = {
            step: max(earlier for earlier in by_step if earlier <= step)
            for step in steps
            if min(by_step, default=math.inf) <= step
        }
        urls = {str(step): picture_url(by_step[at]) for step, at in drawn.items()}
        pictures_by_run.append({step: url for step, url in urls.items() if url})
        drawn_by_run.append({str(step): at for step, at in drawn.items()})
    real = (picture_url(Path(run.path, "samples", REAL_FILE)) for run in runs)
    return {
        "steps": steps,
        "runs": pictures_by_run,
        "drawn": drawn_by_run,
        "real": next(filter(None, real), None),
    }


def _picture_url(path: Path) -> str | None:
    """Return the first samples of a grid as a data URL, or None if the file cannot be read.

    A picture that is no grid is shown as a whole.
    """
    try:
        image = open_exact(path)
        side = _crop_side(image.width, image.height)
        shown = image.crop((0, 0, side, side)) if side else image
        shown.thumbnail((MAX_SIDE, MAX_SIDE))
        buffer = io.BytesIO()
        shown.save(buffer, format="WEBP", quality=70, method=2)
    except (OSError, UserError):
        return None
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _crop_side(width: int, height: int) -> int | None:
    """Return the pixels that SHOWN cells of a square sample grid take, or None for other
    pictures."""
    for count in range(SHOWN + 1, 33):
        cell, rest = divmod(width - MARGIN, count)
        if width == height and rest == 0 and cell - MARGIN in SIDES:
            return SHOWN * cell + MARGIN
    return None


def _config_difference(config: Json, default: Json) -> Json:
    """Return the values that are not the default ones as texts. A missing key has None."""
    return {
        key: _text(config[key]) if key in config else None
        for key in config | default
        if config.get(key, ABSENT) != default.get(key, ABSENT)
    }


def _json_rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Return the rows of a frame with None for every value that JSON does not have."""
    return [[_json_value(value) for value in row] for row in frame.itertuples(index=False)]


def _json_value(value: Any) -> Any:
    if value is None or pd.isna(value) or (isinstance(value, float) and math.isinf(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
