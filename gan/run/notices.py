"""Lines on the terminal and in the log of a run: as it begins and as it ends."""

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from gan.arithmetic import ONEDNN
from gan.build import Parts, optimizer_settings
from gan.config.checks import doubts, flatten, option_name
from gan.data.base import summary
from gan.errors import printable
from gan.metrics.catalogue import METRICS, direction, typical
from gan.run.length import length_settings
from gan.run.pictures import sample_files
from gan.run.progress import counted, duration
from gan.run.result import Result, Status
from gan.run.verdict import USUAL_RATE, smoothness
from gan.system.invocation import as_seen_here, commands

WIDTH = 80
"""The width in characters that the lines of a notice keep to, where words can be broken."""


def opening(
    run_dir: Path,
    cfg: DictConfig,
    parts: Parts,
    choices: Mapping[str, str],
    *,
    step: int,
    total_steps: int,
    per_epoch: int,
    faster_precision: str | None = None,
) -> str:
    """Return what is trained, on which data, by what, for how long and where.

    Args:
        choices: the chosen options of the config groups, as far as they are known.
        step: the last step that was made, 0 for a new run.
        total_steps: the step at which the run ends.
        per_epoch: the number of batches in an epoch.
        faster_precision: a value of `trainer.precision` that would be faster, and less exact.
    """
    where = as_seen_here(run_dir)
    title = f"{where}: continuing after step {step:,}" if step else f"{where}: training a GAN"
    groups = ("data", "model", "loss", "penalty", "optimizer")
    options = {group: option_name(group, flatten(cfg), choices) for group in groups}
    data = f"{options['data']}: {summary(parts.data)}"
    networks = (
        f"{options['model']}: generator of {_size(parts.generator)} parameters, "
        f"discriminator of {_size(parts.discriminator)}"
    )
    penalty = "no penalty" if options["penalty"] == "none" else f"penalty {options['penalty']}"
    optimizer = f"{options['optimizer']}, lr {cfg.optimizer.lr:g}"
    discriminator_lr = optimizer_settings(cfg, "discriminator")["lr"]
    if discriminator_lr != cfg.optimizer.lr:
        optimizer += f", {discriminator_lr:g} for the discriminator"
    epochs = total_steps / per_epoch
    extent = f"{counted(total_steps, 'step')} of {counted(cfg.trainer.batch_size, 'sample')}: "
    extent += counted(round(epochs), "epoch") if epochs >= 10 else f"{epochs:.2g} epochs"
    facts = {
        "data": data,
        "networks": networks,
        "loss": f"{options['loss']}, {penalty}",
        "optimizer": optimizer,
        "length": extent,
        "device": f"{parts.device}, {counted(cfg.threads, 'thread')}",
    }
    if cfg.matmul == ONEDNN:
        facts["device"] += ", matrix products by oneDNN"
    if faster_precision:
        faster = f"trainer.precision={faster_precision}"
        facts["device"] += f"; {faster} may be faster, and rounds more"
    return _notice(title, facts.items())


def closing(run_dir: Path, cfg: DictConfig, result: Result) -> str:
    """Return how a run ended, its objective, what is typical of it, and where the samples are."""
    title = f"{as_seen_here(run_dir)}: {result['status']} at step {result['steps']}"
    name, value = result["objective_name"], result["objective"]
    facts: dict[str, str | Path] = {}
    if result["status"] == Status.STOPPED:
        title += f", after {cfg.trainer.patience} measurements without a better {name}"
    if result["status"] == Status.DIVERGED:
        title += f", {result['error']}" if result.get("error") else ""
    elif name in METRICS and value is not None:
        objective = f"{name} {value:.4g}, {direction(name).adjective} is better"
        if protocol := cfg.metrics.get("protocol"):
            objective += f", by protocol={protocol}"
        best = result["best"].get(name)
        if best and best["step"] != result["steps"]:
            objective += f"; the best was {best['value']:.4g} at step {best['step']:,}"
        facts["objective"] = objective
        package, _, data = cfg.data._target_.rpartition(".")
        is_same = package == "gan.data" and cfg.metrics.get("real", "same") == "same"
        if is_same and (known := typical(name, data, cfg.metrics.samples, cfg.metrics.split)):
            values = "; ".join(f"{one.value} by {one.source}" for one in known)
            facts["typical"] = f"on {data} {values}"
    elif name is None:
        facts["objective"] = "none" if cfg.metrics.names else "none, since nothing is measured"
    elif value is not None:
        facts["objective"] = f"{name} {value:.4g}, which does not measure the samples"
    facts["time"] = duration(result["seconds"])
    if pictures := sample_files(run_dir):
        facts["samples"] = as_seen_here(pictures[max(pictures)])
    return _notice(title, facts.items())


def divergence(run_dir: Path, cfg: DictConfig, result: Result) -> str:
    """Return in one line when a run diverged, why it may have, and what to try."""
    reason = f", {result['error']}" if result.get("error") else ""
    causes = [*doubts(cfg), f"a learning rate of {cfg.optimizer.lr:g} may be too high"]
    changes = [f"optimizer.lr={min(cfg.optimizer.lr / 10, USUAL_RATE):g}"]
    if (precision := cfg.trainer.precision) in ("bf16", "fp16"):
        causes.append(f"{precision} may be too coarse")
        changes.append("trainer.precision=fp32")
    if penalty := smoothness(flatten(cfg)):
        causes.append("nothing keeps the discriminator smooth")
        changes.append(penalty)
    return (
        f"{as_seen_here(run_dir)}: diverged at step {result['steps']}{reason}: "
        f"{'; '.join(causes)}; repeat it with {' or '.join(changes)}"
    )


def next_steps(run_dir: Path, cfg: DictConfig, *, of_sweep: bool = False) -> str:
    """Return what can be done with a completed run, as commands.

    Args:
        of_sweep: the run belongs to a sweep, so its length is that of the sweep's plan.
    """
    run = as_seen_here(run_dir)
    together = run.parent if run.is_absolute() or len(run.parts) == 1 else run.parts[0]
    (twice,) = (f"trainer.{name}={2 * value}" for name, value in length_settings(cfg).items())
    ends_early = cfg.trainer.get("patience") is not None
    longer = [] if of_sweep or ends_early else [("train it longer", "resume", run, twice)]
    has_best = cfg.trainer.get("keep_best") is not None
    words = [run, "checkpoint=best", "n=64"]
    best = [("draw samples of its best step", "generate", *words)] if has_best else []
    measure = [] if cfg.metrics.names else [("measure it", "evaluate", run, "metrics=default")]
    return commands(
        ("see curves and samples in TensorBoard", "board", run),
        *measure,
        ("draw more samples", "generate", run, "n=64"),
        *best,
        ("compare it with other runs", "compare", together),
        *longer,
    )


def _notice(title: str, facts: Iterable[tuple[str, str | Path]]) -> str:
    facts = list(facts)
    width = max(len(name) for name, _ in facts)
    lines = []
    for name, fact in facts:
        line = f"  {name:{width}}  {printable(str(fact))}"
        # A path stays on one line, so that it can be copied.
        if not isinstance(fact, Path):
            line = textwrap.fill(
                line, WIDTH, subsequent_indent=" " * (width + 4), break_on_hyphens=False
            )
        lines.append(line)
    return "\n".join([printable(title), *lines])


def _size(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()):,}"
