"""TensorBoard's event file of a run, written so that a resumed run goes on in the same file."""

import copy
import logging
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn

from gan.build import Parts
from gan.config.checks import as_yaml, defines_result, flatten, option_name
from gan.config.schema import GLOBAL_GROUPS, TARGET_GROUPS
from gan.errors import first_line
from gan.metrics.catalogue import METRICS
from gan.run.directory import EVENT_FILES
from gan.run.graph import record_graph
from gan.run.pictures import as_png
from gan.run.result import Record
from gan.system.files import readable, replacing

log = logging.getLogger(__name__)

REAL_TAG = "samples/real"
"""The tag of a picture of real samples."""
VERDICT_TAG = "verdict"
"""The tag of sentences about what goes wrong in a run."""

DESCRIPTION_TAGS = {
    "config/text_summary",
    custom_scalar_metadata.CONFIG_SUMMARY_TAG,
    metadata.SESSION_START_INFO_TAG,
    metadata.SESSION_END_INFO_TAG,
    REAL_TAG,
    VERDICT_TAG,
}
"""Tags of what a run writes, or repeats, into an event file that does not describe it yet."""

Value = bool | int | float | str

# TIME SERIES sorts groups by name, capitals first, and opens the first two. So these two hold what
# to look at first, and all others have names in small letters. A tag has no brackets, as CUSTOM
# SCALARS would take what follows for the name of a run.
_FIRST = {
    "loss/discriminator": "D and G/loss of D",
    "loss/generator": "D and G/loss of G",
    "prob/real": "D and G/mean D on real",
    "prob/fake": "D and G/mean D on fake",
}
METRIC_GROUP = "Metrics/"
BEST_GROUP = "best/"

CHARTS = {
    "Training": {
        "Losses": [_FIRST["loss/discriminator"], _FIRST["loss/generator"]],
        "D(x) and D(G(z))": [_FIRST["prob/real"], _FIRST["prob/fake"]],
    }
}
"""Sections of charts, and the curves that each chart overlays, for every run."""


def tag_of(name: str) -> str:
    """Return TensorBoard's tag for the values of a name in metrics.jsonl."""
    return f"{METRIC_GROUP}{name}" if name in METRICS else _FIRST.get(name, name)


def event_files(run_dir: Path) -> list[Path]:
    """Return the event files of a run."""
    return sorted(run_dir.glob(EVENT_FILES))


class EventFile:
    """The one event file of a run, opened for appending.

    Unlike SummaryWriter it writes at once, and raises where the disk is full.
    """

    def __init__(self, run_dir: Path, *, scheduled: bool):
        """Open the file.

        Args:
            scheduled: the learning rates change from step to step. Others are no curves.
        """
        self._hidden = ("step", "epoch") if scheduled else ("step", "epoch", "lr/")
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        existing = event_files(run_dir)
        self.is_new = not existing
        self.path = existing[0] if existing else run_dir / name
        self._file = self.path.open("ab")
        self._writer = RecordWriter(self._file)
        if self.is_new:
            self._write(Event(file_version="brain.Event:2"))

    def write_record(
        self, record: Record, best: Mapping[str, Mapping[str, float]], rate: float | None = None
    ) -> None:
        """Write the values of a line of metrics.jsonl, and more.

        Args:
            best: the best value of each metric so far.
            rate: images per second, if they are known.
        """
        values = {n: value for n, value in record.items() if not n.startswith(self._hidden)}
        values |= {f"{BEST_GROUP}{name}": found["value"] for name, found in best.items()}
        if rate is not None:
            values["images_per_second"] = rate
        scalars = [Summary.Value(tag=tag_of(name), simple_value=v) for name, v in values.items()]
        self._write(Event(step=record["step"], summary=Summary(value=scalars)))

    def write_image(self, step: int, tag: str, image: Image.Image) -> None:
        """Write a picture as it is: TensorBoard enlarges it, and shows the step over it."""
        summary = Summary.Image(
            height=image.height,
            width=image.width,
            colorspace=len(image.getbands()),
            encoded_image_string=as_png(image),
        )
        value = Summary.Value(tag=tag, image=summary)
        self._write(Event(step=step, summary=Summary(value=[value])))

    def write_remark(self, step: int, tag: str, text: str) -> None:
        """Write a text, which TensorBoard reads as Markdown."""
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        value = Summary.Value(
            tag=tag,
            metadata=SummaryMetadata(plugin_data=plugin),
            tensor=TensorProto(
                dtype="DT_STRING",
                string_val=[text.encode()],
                tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
            ),
        )
        self._write(Event(step=step, summary=Summary(value=[value])))

    def write_description(
        self,
        text: str,
        graph: GraphDef | None,
        charts: Mapping[str, Mapping[str, Sequence[str]]],
    ) -> None:
        """Write the configuration as text, a graph, and the layout of charts.

        Args:
            text: Markdown.
            graph: what `record_graph` returns, if there is one.
            charts: for the tab Custom Scalars: sections of charts, and the tags in each chart.
        """
        self.write_remark(0, "config/text_summary", text)
        if graph is not None:
            self._write(Event(graph_def=graph.SerializeToString()))
        # Tags are regular expressions there, so NAME alone would also match best/NAME.
        layout = Layout(
            category=[
                Category(
                    title=section,
                    chart=[
                        Chart(title=title, multiline={"tag": [f"^{re.escape(t)}$" for t in tags]})
                        for title, tags in members.items()
                    ],
                )
                for section, members in charts.items()
            ]
        )
        value = Summary.Value(
            tag=custom_scalar_metadata.CONFIG_SUMMARY_TAG,
            metadata=custom_scalar_metadata.create_summary_metadata(),
            tensor=TensorProto(dtype="DT_STRING", string_val=[layout.SerializeToString()]),
        )
        self._write(Event(summary=Summary(value=[value])))

    def start_session(self, values: Mapping[str, Value]) -> None:
        """Write this run's row of the HPARAMS table.

        TensorBoard names the row after the run's directory. It compares the values of all runs to
        find the columns, those that differ, and what each can be filtered by.
        """
        start = SessionStartInfo(start_time_secs=time.time())
        for name, value in values.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, str):
                start.hparams[name].string_value = value
            else:
                start.hparams[name].number_value = value
        data = HParamsPluginData(session_start_info=start)
        self._write_hparams(metadata.SESSION_START_INFO_TAG, data)

    def end_session(self, success: bool) -> None:
        """Write into the HPARAMS table that the run has ended."""
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = SessionEndInfo(status=status, end_time_secs=time.time())
        self._write_hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))

    def flush(self) -> None:
        """Hand everything that was written to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())

    def _write_hparams(self, tag: str, data: HParamsPluginData) -> None:
        summary_metadata = metadata.create_summary_metadata(data)
        value = Summary.Value(tag=tag, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)
        self._write(Event(summary=Summary(value=[value])))


def forget_description(path: Path) -> None:
    """Remove from an event file what `describe_run` wrote, so that it can be written again."""
    # Importing it takes a while, and few runs need it.
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    kept: list[bytes] = []
    for content in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(content)
        kind, tags = event.WhichOneof("what"), {value.tag for value in event.summary.value}
        if not kept or (kind == "summary" and not tags & DESCRIPTION_TAGS):
            kept.append(content)
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = RecordWriter(file)
        for content in kept:
            writer.write(content)


def describe_run(
    events: EventFile, cfg: DictConfig, parts: Parts, choices: Mapping[str, str]
) -> None:
    """Write all that TensorBoard shows of a run beside its curves and pictures.

    That is its configuration, the graph of both networks, the charts and the HPARAMS row.

    Args:
        choices: the chosen options of the config groups, as far as they are known.
    """
    text = "".join(f"    {line}\n" for line in as_yaml(cfg).splitlines())
    quality = {name: [tag_of(name), f"{BEST_GROUP}{name}"] for name in cfg.metrics.names}
    charts = CHARTS | ({"Quality": quality} if quality else {})
    events.write_description(text, _graph(parts), charts)
    events.start_session(hyperparameters(flatten(cfg), choices))


def _graph(parts: Parts) -> GraphDef | None:
    """Return the graph of both networks, or None with a warning if they cannot be called here."""
    inputs = {"z": torch.zeros(1, parts.latent_dim, device=parts.device)}
    if parts.conditional:
        inputs["labels"] = torch.zeros(1, dtype=torch.int64, device=parts.device)
    cuda = [parts.device] if parts.device.type == "cuda" else []
    try:
        # Networks may draw noise, but not from the random state of the training.
        with torch.random.fork_rng(cuda):
            return record_graph(GAN(parts), inputs)
    except Exception as error:
        log.warning("TensorBoard shows no graph of these networks: %s", first_line(error))
        return None


def hyperparameters(flat: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Value]:
    """Return what the HPARAMS table shows of a configuration with dotted keys.

    The option of a config group is shown by its name, such as `loss=hinge`. A number that is null
    is left out, as TensorBoard cannot sort numbers and texts together.

    Args:
        choices: the chosen options of the config groups, as far as they are known.
    """
    values: dict[str, Value] = {
        group: readable(option_name(group, flat, choices))
        for group in (*GLOBAL_GROUPS, *TARGET_GROUPS)
    }
    for key, value in flat.items():
        if (
            value is not None
            and defines_result(key)
            and key.removesuffix("._target_") not in values
        ):
            values[key] = value if isinstance(value, bool | int | float) else readable(str(value))
    return values


class GAN(nn.Module):
    """D(G(z)) as one network, so that one graph shows both networks."""

    def __init__(self, parts: Parts):
        super().__init__()
        # Copies, because tracing runs the networks, which may change their buffers.
        self.generator = copy.deepcopy(parts.generator).eval()
        self.discriminator = copy.deepcopy(parts.discriminator).eval()
        self._pac = parts.pac

    def forward(self, z: Tensor, *labels: Tensor) -> Tensor:
        """Map latents (batch, latent_dim) to logits (batch, 1)."""
        samples = self.generator(z, *labels)
        pack = torch.cat([samples] * self._pac, dim=1) if self._pac > 1 else samples
        logits: Tensor = self.discriminator(pack, *labels)
        return logits
