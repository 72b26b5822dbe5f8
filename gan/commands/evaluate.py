"""Measure runs and other samples: gan evaluate RUN_DIR... metrics=fast

Takes directories of runs, of sweeps, or of both at any depth, also while training goes on. Beside
them it takes folders of images and .npz files that any program has made; data=OPTION says which
data they are compared with. `metrics` is an option of that config group, or names of metrics:
metrics=lenet_fid,precision. `samples` and `split` (train or test) change its settings. `protocol`
measures as others did, and `features` chooses the network behind the metrics. Other keys of these
groups are set as in training, such as features.weights=FILE or, with data=image_folder,
data.folder=FOLDER; --config-dir=FOLDER adds options of your own. Runs are measured on their own
data. If these lie somewhere else now, give the new place, such as data.root=FOLDER.

Writes metrics-NAME.json into each run's directory and each folder, and beside each .npz file, where
NAME is the value of `metrics` or `protocol` unless `name` is given. Prints a table of the metrics
and, where split is test, their floor: the values that real training images get.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from gan.commands.command_line import run_command
from gan.commands.help import (
    CHECKPOINT,
    DEVICES,
    STANDING,
    TRUNCATION,
    WEIGHTS,
    option,
    passed_on,
)
from gan.compare.read import BEST_NAME, find_runs
from gan.config.checks import as_yaml
from gan.config.compose import compose
from gan.config.paths import make_paths_absolute, with_data_at
from gan.errors import NotFinite, UserError, nearest, printable
from gan.metrics.catalogue import METRICS, direction
from gan.run.directory import read_trusted_config
from gan.run.result import environment
from gan.system.files import write_text
from gan.system.invocation import as_seen_here, command_line
from gan.system.startup import fast_imports

# torch takes seconds to import. Help and mistakes on the command line need none of it, so the
# functions below import what needs torch when they are called.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from torch import Tensor

    from gan.metrics.evaluator import Evaluator

log = logging.getLogger(__name__)

FLOOR = "real training samples"
"""Name of the row that holds the floor of each metric."""

DEFAULT = "fast"
"""The option of the config group `metrics` where neither metrics nor a protocol are chosen."""


@dataclass
class Options:
    """Options of `gan evaluate`."""

    metrics: str | None = option(
        None,
        "option of the config group metrics, or names of metrics; null takes fast or protocol",
    )
    protocol: str | None = option(
        None, "option of the config group protocol: measure as others did"
    )
    features: str | None = option(
        None, "option of the config group features; null takes auto or the protocol's"
    )
    data: str | None = option(
        None, "option of the config group data, for folders and .npz files; null takes the runs'"
    )
    name: str | None = option(
        None, "NAME in metrics-NAME.json; null takes the value of protocol or metrics"
    )
    samples: int | None = option(None, "number of samples; null takes that of metrics")
    split: str | None = option(
        None,
        "real images to compare with, train or test; null takes those of metrics",
    )
    truncation: float | None = option(None, TRUNCATION)
    standing: int = option(0, STANDING)
    weights: str = option("auto", WEIGHTS)
    checkpoint: str = option("newest", CHECKPOINT)
    latent_seed: int | None = option(
        None,
        "seed of other latents than those of training; null takes these, or 0 for checkpoint=best",
    )
    device: str = option("auto", DEVICES)
    words: tuple[str, ...] = passed_on()
    """Words for Hydra, such as `data.folder=images`."""


def main() -> None:
    """Run the command line."""
    run_command(evaluate, Options, groups=("data", "features", "metrics"))


def evaluate(paths: list[Path], options: Options) -> None:
    """Measure runs and print a table of their metrics.

    Raises:
        UserError: there is nothing to measure, or an option is wrong.
    """
    if not paths:
        raise UserError(f"usage: {command_line('evaluate')} RUN_DIR... metrics=fast")
    from gan.sweep.report import console

    with fast_imports():
        import gan.run.trained  # noqa: F401
    files, run_paths = divide(paths)
    run_dirs = runs_to_measure(run_paths)
    if files and not run_dirs:
        refuse_options_of_runs(options)
    cfg = measuring_config(options)
    name = options.name or options.protocol or options.metrics or DEFAULT
    if options.protocol and not (options.name or cfg.metrics.protocol):
        raise UserError(
            f"protocol={options.protocol}: the other options make it another protocol; give a name "
            "for what is measured, such as name=changed"
        )
    if not re.fullmatch(r"[\w.,+-]+", name) or name == BEST_NAME:
        raise UserError(
            f"name={name}: must be letters, digits and . , + - and not best, since it is a part of "
            "the names of a file and of columns"
        )
    if options.data is not None and not files:
        raise UserError(
            f"data={options.data}: has no effect here, runs are compared with their own data"
        )
    others = load_others(files, run_dirs, cfg, options) if files else None
    out = console()
    parts = (len(run_dirs) + len(files)) * (len(cfg.metrics.names) + 1)
    with _progress(out, parts) as show_part:
        rows = list(measure_others(others, name, show_part)) if others else []
        rows += measure_runs(
            run_dirs,
            cfg.metrics,
            features=cfg.features,
            name=name,
            truncation=options.truncation,
            standing=options.standing,
            weights=options.weights,
            checkpoint=options.checkpoint,
            latent_seed=options.latent_seed,
            device=options.device,
            data_words=_data_words(options),
            on_part=show_part,
        )
    problems = list(dict.fromkeys(row.problem for row in rows if row.problem))
    rows = [row for row in rows if row.values]
    if not rows:
        raise _as_error(problems)
    if cfg.metrics.protocol is not None:
        out.print(f"protocol={cfg.metrics.protocol}", highlight=False)
    floors = {str(row.values): row for row in rows if row.name == FLOOR}
    _print_table([*(row for row in rows if row.name != FLOOR), *floors.values()], out)
    if problems:
        raise _as_error(problems)


OnPart = Callable[[str], None]
"""A function of the next part of the work, which is about to begin: samples, or a metric."""


class Measurement(NamedTuple):
    """Metrics of one run, of samples from elsewhere, or of real samples."""

    name: str
    """The run's directory, the path of the samples, or FLOOR."""
    step: int | None
    weights: str
    """Either "average" or "generator"; empty for samples that no run made here."""
    values: dict[str, float]
    """Empty if they could not be measured."""
    problem: str = ""
    """The reason why there are no values, or no file of them."""


class Others(NamedTuple):
    """Samples from elsewhere, and what they are compared with."""

    samples: dict[Path, "Tensor"]
    """Raw samples (n, *shape) by the paths that they came from."""
    measure: "Evaluator"
    floor: dict[str, float] | None


def divide(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the paths of samples from elsewhere, and the others, which should be of runs."""
    from gan.data.samples import holds_samples

    def has_runs(path: Path) -> bool:
        with suppress(UserError):
            return bool(find_runs([path]))
        return False

    files = [path for path in paths if not has_runs(path) and holds_samples(path)]
    return files, [path for path in paths if path not in files]


def _as_error(problems: Sequence[str]) -> UserError:
    """Print all problems but the last one, and return the error that tells this one."""
    *others, last = problems
    for problem in others:
        print(UserError(problem), file=sys.stderr)
    return UserError(last)


def refuse_options_of_runs(options: Options) -> None:
    """Refuse options that say how a run's generator is sampled, where there are only files.

    Raises:
        UserError: names the first of them.
    """
    for name in ("truncation", "standing", "weights", "checkpoint", "latent_seed"):
        if (value := getattr(options, name)) != getattr(Options(), name):
            raise UserError(f"{name}={value}: is about runs, and there are only samples here")


def _data_words(options: Options) -> list[str]:
    """Return the words that say where data of runs lie. With data=OPTION they are about that."""
    if options.data is not None:
        return []
    return [word for word in options.words if word.startswith("data.")]


def measuring_config(options: Options) -> DictConfig:
    """Return the configuration whose groups `metrics`, `features` and `data` the options choose.

    Raises:
        UserError: there is no such option, or a value is wrong.
    """
    for name in ("truncation", "standing") if options.protocol else ():
        if value := getattr(options, name):
            raise UserError(
                f"protocol={options.protocol} {name}={value}: a protocol measures samples as the "
                "generator makes them; leave out one of both"
            )
    chosen = {name: getattr(options, name) for name in ("protocol", "features", "data")}
    overrides = [f"{name}={value}" for name, value in chosen.items() if value is not None]
    metrics = options.metrics if options.protocol else options.metrics or DEFAULT
    if metrics is not None:
        names = metrics.split(",")
        unknown = [name for name in names if name not in METRICS]
        if unknown and len(names) > 1:
            allowed = f"allowed: {', '.join(METRICS)}{nearest(unknown[0], METRICS)}"
            raise UserError(f"metrics={metrics}: there is no metric {unknown[0]!r}; {allowed}")
        # Names take the numbers of samples and the split of the protocol, or of the default option.
        listed = [] if options.protocol else [f"metrics={DEFAULT}"]
        listed += [f"metrics.names=[{metrics}]", f"metrics.objective={names[0]}"]
        overrides += [f"metrics={metrics}"] if unknown else listed
    for key in ("samples", "split"):
        if (value := getattr(options, key)) is not None:
            overrides.append(f"metrics.{key}={value}")
    of_runs = _data_words(options)
    cfg = compose(*overrides, *(word for word in options.words if word not in of_runs))
    make_paths_absolute(cfg)
    if not cfg.metrics.names:
        raise UserError(f"metrics={metrics}: measures nothing")
    return cfg


def load_others(
    paths: Sequence[Path], run_dirs: Sequence[Path], cfg: DictConfig, options: Options
) -> Others:
    """Load samples from elsewhere, and the data to compare them with.

    Raises:
        UserError: the data are not known, the metrics do not fit them, or the samples cannot be
            read or are of another kind.
    """
    from gan.build import find_device, load_data
    from gan.data.samples import load_samples
    from gan.run import evaluation

    if options.data is None:
        known = {as_yaml(read_trusted_config(run).data): run for run in run_dirs}
        if len(known) != 1:
            raise UserError(
                f"{paths[0]}: name the data to compare it with, such as data=mnist, or "
                "data=image_folder data.folder=FOLDER"
            )
        cfg = cfg.copy()
        run_cfg = read_trusted_config(next(iter(known.values())))
        cfg.data = with_data_at(run_cfg, _data_words(options)).data
    target = find_device(options.device)
    data = load_data(cfg, target)
    extractor = evaluation.make_extractor(cfg.features, data)
    measure = evaluation.make_evaluator(cfg.metrics, data, extractor)
    samples = {path: load_samples(path, data, cfg.metrics.samples) for path in paths}
    raw_samples = {path: raw.to(target) for path, raw in samples.items()}
    return Others(raw_samples, measure, measure.floor())


def measure_others(others: Others, name: str, on_part: OnPart) -> Iterator[Measurement]:
    """Measure samples from elsewhere, and write metrics-NAME.json into each folder of images, and
    STEM-metrics-NAME.json beside each .npz file. The floor follows."""
    from gan.data.base import sha256

    for path, samples in others.samples.items():
        on_part("samples")
        values = others.measure(samples, on_part)
        facts = {"step": None, "weights": None, "samples_hash": sha256(samples)[:12]}
        facts |= others.measure.facts | {"values": values, "floor": others.floor} | environment()
        file = f"metrics-{name}.json"
        beside = path.with_name(f"{path.stem}-{file}")
        problem = _write_facts(path / file if path.is_dir() else beside, facts)
        yield Measurement(str(path), None, "", values, problem)
    if others.floor is not None:
        yield Measurement(FLOOR, None, "", others.floor)


def runs_to_measure(paths: Sequence[Path]) -> list[Path]:
    """Return the directories of the runs at the paths and below them, each once.

    Runs below a path are left out, with a warning, if they have no checkpoint: a sweep that goes
    on has some that have just begun.

    Raises:
        UserError: a path holds no run, or none of its runs has a checkpoint.
    """
    from gan.run import checkpoint

    run_dirs: dict[Path, None] = {}
    for path in paths:
        runs = find_runs([path])
        ready = [run for run in runs if run == path or checkpoint.checkpoint_paths(run)]
        if not ready:
            raise UserError(f"{path}: none of its {len(runs)} runs has a checkpoint yet")
        if missing := len(runs) - len(ready):
            log.warning("%s: %d of its %d runs have no checkpoint", path, missing, len(runs))
        run_dirs |= dict.fromkeys(ready)
    return list(run_dirs)


def measure_runs(
    run_dirs: Sequence[Path],
    settings: DictConfig,
    *,
    name: str,
    weights: str,
    device: str,
    checkpoint: str = "newest",
    latent_seed: int | None = None,
    truncation: float | None = None,
    standing: int = 0,
    features: DictConfig | None = None,
    data_words: Sequence[str] = (),
    on_part: OnPart = lambda part: None,
) -> Iterator[Measurement]:
    """Measure the newest checkpoint of each run, and write metrics-NAME.json into its directory.

    Training may go on meanwhile. Where the split is "test", the floor of the metrics follows the
    first run of each data set: the values that real training samples get. A run that cannot be
    measured, or whose file cannot be written, has a `problem`, and the next one follows.

    Args:
        settings, features: composed config groups `metrics` and `features`.
        weights, checkpoint: as for `gan.run.trained.load_generator`.
        latent_seed: seed of the latents. None takes those with which training measures; the best
            checkpoint, which was chosen by these, gets the ones of 0.
        truncation: threshold of the latents, see `gan.run.evaluation.draw_latents`.
        standing: see `gan.run.trained.take_standing_statistics`.
        data_words: places of the runs' data, see `gan.config.paths.with_data_at`.
        on_part: called for each run before its samples are drawn, and before each metric.

    Raises:
        UserError: before anything is measured: a run has no such checkpoint or weights.
    """
    from gan.build import find_device, load_data
    from gan.data import content_hash
    from gan.run import evaluation
    from gan.run.checkpoint import refuse_other_data
    from gan.run.trained import (
        layers_with_statistics,
        load_generator,
        take_standing_statistics,
    )

    target = find_device(device)
    # Refuse a run without the weights, or without batch norm, before the first one is measured.
    for run_dir in run_dirs:
        trained = load_generator(run_dir, weights, checkpoint)
        evaluation.draw_latents(1, trained.latent_dim, 0, truncation=truncation)
        layers_with_statistics(trained, standing)
    if latent_seed is None and checkpoint == "best":
        latent_seed = 0
    stream = "evaluation" if latent_seed is None else f"evaluation {latent_seed}"
    by_data: dict[str, tuple[Evaluator, dict[str, float] | None, str | None]] = {}
    shown = set()
    for run_dir in run_dirs:
        on_part("samples")
        try:
            cfg = with_data_at(read_trusted_config(run_dir), data_words)
            key = as_yaml(cfg.data)
            if key not in by_data:
                data = load_data(cfg, target)
                extractor = evaluation.make_extractor(features, data)
                measure = evaluation.make_evaluator(settings, data, extractor)
                by_data[key] = measure, measure.floor(), content_hash(data)
            measure, floor, data_hash = by_data[key]
            trained = load_generator(run_dir, weights, checkpoint)
            moved = [word.partition("=")[0] for word in data_words]
            refuse_other_data(run_dir, trained.data_hash, data_hash, moved)
            take_standing_statistics(trained.to(target), standing, truncation)
            z = evaluation.draw_latents(
                settings.samples, trained.latent_dim, cfg.seed, stream, truncation
            )
            labels = measure.labels_like_real(len(z)) if trained.classes else None
            samples = evaluation.generate(trained, z.to(target), labels, seed=cfg.seed)
            values = measure(samples, on_part)
        except (NotFinite, UserError) as error:
            where = f"{run_dir}: at step {trained.step} " if isinstance(error, NotFinite) else ""
            yield Measurement(str(run_dir), None, "", {}, f"{where}{error}")
            continue
        facts: dict[str, Any] = {"step": trained.step, "weights": trained.weights}
        facts |= {"truncation": truncation, "standing": standing, "latent_seed": latent_seed}
        facts |= measure.facts | {"values": values, "floor": floor} | environment()
        problem = _write_facts(run_dir / f"metrics-{name}.json", facts)
        yield Measurement(str(run_dir), trained.step, trained.weights, values, problem)
        if key not in shown and floor is not None:
            shown.add(key)
            yield Measurement(FLOOR, None, "", floor)


@contextmanager
def _progress(out: "Console", parts: int) -> Iterator[OnPart]:
    """Yield a function that shows the next part of the work, on a terminal and in a notebook."""
    from rich.progress import Progress

    visible = out.is_terminal or out.is_jupyter
    with Progress(console=out, disable=not visible, transient=True) as bar:
        task = bar.add_task("measuring", total=parts)
        begun = 0

        def show(part: str) -> None:
            nonlocal begun
            bar.update(task, completed=begun, description=f"measuring: {part}")
            begun += 1

        yield show


def _write_facts(path: Path, facts: dict[str, Any]) -> str:
    """Write a file of values, and return the reason if it cannot be written."""
    try:
        write_text(path, json.dumps(facts, indent=2) + "\n")
    except OSError as error:
        return f"{path}: cannot be written ({error.strerror or error})"
    return ""


def _print_table(rows: Sequence[Measurement], out: "Console") -> None:
    """Print the metrics of one run below one another, and those of several side by side.

    Where they do not fit into the width, further tables hold the columns that are left.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    runs = [row for row in rows if row.name != FLOOR]
    if len(runs) == 1:
        (run,) = runs
        made = f": {run.weights} weights after step {run.step}" if run.weights else ""
        out.print(f"{_shown(run)}{made}", soft_wrap=True)
        cells = [[_value(row, name) for row in rows] for name in names]
        better = [direction(name).adjective if name in METRICS else "" for name in names]
        header = ["metric", "value", *([FLOOR] if len(rows) > 1 else []), "better"]
        columns = [names, *map(list, zip(*cells, strict=True)), better]
        out.print(_table(header, columns))
        return
    described = {
        "step": ["" if row.step is None else str(row.step) for row in rows],
        "weights": [row.weights for row in rows],
    }
    columns_by_name = described | {name: [_value(row, name) for row in rows] for name in names}
    runs_column = [_shown(row) for row in rows]
    room = out.width - min(max(map(len, runs_column)), out.width // 2)
    widths = {name: (name, *cells) for name, cells in columns_by_name.items()}
    for number, block in enumerate(_blocks(widths, room)):
        if number:
            out.print()
        out.print(
            _table(["run", *block], [runs_column, *(columns_by_name[name] for name in block)])
        )


def _blocks(columns: Mapping[str, Sequence[str]], room: int) -> list[list[str]]:
    """Divide columns of texts into tables that are at most `room` characters wide."""
    blocks: list[list[str]] = [[]]
    left = room
    for name, texts in columns.items():
        width = max(map(len, texts)) + 2
        if width > left and blocks[-1]:
            blocks.append([])
            left = room
        blocks[-1].append(name)
        left -= width
    return blocks


def _table(header: Sequence[str], columns: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)
    return table


def _shown(row: Measurement) -> str:
    return printable(row.name if row.name == FLOOR else as_seen_here(Path(row.name)))


def _value(row: Measurement, name: str) -> str:
    value = row.values.get(name)
    return "" if value is None else f"{value:.4g}"
