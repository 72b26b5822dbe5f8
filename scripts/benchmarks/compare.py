"""Time tables and pages of 1,000 made-up runs."""

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.made_up import write_run
from benchmarks.timing import Cost, print_costs
from gan.compare.frame import history, read_table
from gan.compare.page import render_page
from gan.config.checks import plain
from gan.config.compose import compose
from gan.data.pictures import to_pil
from gan.metrics.catalogue import TRAINING_VALUES
from gan.run.pictures import encode
from gan.run.result import Record
from gan.run.tensorboard import EventFile


def time_compare(*, rounds: int) -> None:
    """Print the costs of reading 1,000 runs, of their page, and of the curves of 20 runs."""
    with TemporaryDirectory() as folder:
        sweep = Path(folder, "sweep")
        few = _write_runs(sweep, runs=1000, points=300, with_events=20)
        rows: dict[str, Callable[[], object]] = {
            "table of 1,000 runs": lambda: read_table([sweep]),
            "page of 1,000 runs": lambda: render_page(read_table([sweep]), ""),
            "curves of 20 runs, metrics.jsonl": lambda: [history(path) for path in few],
            "the same, EventAccumulator": lambda: [EventAccumulator(str(p)).Reload() for p in few],
        }
        if importlib.util.find_spec("tbparse"):
            from tbparse import SummaryReader

            rows["the same, tbparse"] = lambda: [SummaryReader(str(p)).scalars for p in few]
        costs: dict[str, list[Cost]] = {name: [] for name in rows}
        for function in rows.values():
            # Imports and caches are no part of what a row costs.
            function()
        for _ in range(rounds):
            for name, function in rows.items():
                wall, cpu = time.perf_counter(), time.process_time()
                function()
                costs[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        size = len(render_page(read_table([sweep]), "")) / 1e6
    print_costs(f"{os.cpu_count()} cores; the page has {size:.1f} MB", costs)


def _write_runs(sweep: Path, *, runs: int, points: int, with_events: int) -> list[Path]:
    """Write runs that look trained, each with a sample grid; return those with event files."""
    cfg = compose()
    names = ("sliced_wasserstein", *TRAINING_VALUES)
    pixels = torch.randint(256, (1, 242, 242), dtype=torch.uint8)
    content, with_files = encode(to_pil(pixels), "step 0"), []
    for number in range(runs):
        width, rate, seed = 64 << number % 4, 1e-4 * (1 + number // 4 % 5), number // 20
        run_dir = sweep / f"hidden_dim={width},lr={rate:.4f},seed={seed}"
        cfg.model.hidden_dim, cfg.optimizer.lr, cfg.seed = width, rate, seed
        values = torch.rand(points, len(names)).tolist()
        records: list[Record] = [
            {"step": 100 * (index + 1)} | dict(zip(names, row, strict=True))
            for index, row in enumerate(values)
        ]
        write_run(run_dir, plain(cfg), [], records)
        (run_dir / "samples").mkdir()
        (run_dir / "samples" / f"step-{100 * points:06d}.png").write_bytes(content)
        if number < with_events:
            events = EventFile(run_dir, scheduled=True)
            for record in records:
                events.write_record(record, {})
            events.close()
            with_files.append(run_dir)
    return with_files
