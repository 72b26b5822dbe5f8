"""TensorBoard's event files, written so that a resumed run can go on in the same file."""

import os
import re
import socket
import tempfile
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, summary_v2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

Value = bool | int | float | str


def event_files(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("events.out.tfevents.*"))


class EventFile:
    """The one event file of a run, opened for appending.

    Unlike SummaryWriter it writes at once and raises where the disk is full.
    """

    def __init__(self, run_dir: Path):
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        existing = event_files(run_dir)
        self.new = not existing
        self.path = existing[0] if existing else run_dir / name
        self._file = self.path.open("ab")
        self._records = RecordWriter(self._file)
        if self.new:
            self._write(Event(file_version="brain.Event:2"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._write(Event(step=step, summary=summary))

    def image(self, step: int, tag: str, png: bytes, shape: tuple[int, ...]) -> None:
        """A PNG file's content; `shape` is its channels, height and width."""
        channels, height, width = shape
        image = Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png
        )
        value = Summary.Value(tag=tag, image=image)
        self._write(Event(step=step, summary=Summary(value=[value])))

    def describe(
        self,
        text: str,
        network: nn.Module,
        example: tuple[Tensor, ...],
        charts: Mapping[str, Mapping[str, Sequence[str]]],
    ) -> None:
        """The configuration as text, and the graph of a network applied to example inputs.

        Args:
            network: in evaluation mode.
            charts: for the Custom Scalars tab, sections of charts and the tags that each overlays.
        """
        with tempfile.TemporaryDirectory() as folder:
            writer = SummaryWriter(folder)
            writer.add_text("config", text)
            # The check of a trace imports SymPy and more; in evaluation mode there is no doubt.
            traced = torch.jit.trace(network, example, check_trace=False)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The input to trace is already a ScriptModule")
                writer.add_graph(traced, example)
            # Tags are regular expressions there, which would find best/NAME for NAME.
            layout = {
                section: {
                    title: ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]]
                    for title, tags in members.items()
                }
                for section, members in charts.items()
            }
            writer.add_custom_scalars(layout)
            writer.close()
            # Records stand one after another: a file's content can be appended to another's.
            for path in event_files(Path(folder)):
                self._file.write(path.read_bytes())

    def start_session(
        self,
        run: str,
        columns: Sequence[str],
        varied: Collection[str],
        metrics: Sequence[str],
        values: Mapping[str, Value],
    ) -> None:
        """This run's row of the HPARAMS table.

        Args:
            run: identifies the row; rows of one name are merged.
            columns: the hyperparameters that any run may have; all runs must name the same.
            varied: the columns to show first.
            metrics: tags of scalars, whose last values are columns too.
            values: this run's hyperparameters.
        """
        infos = [
            api_pb2.HParamInfo(name=name, type=_type(values.get(name)), differs=name in varied)
            for name in columns
        ]
        measured = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=measured)
        self._hparams(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))
        self._write(Event(summary=summary_v2.hparams_pb(dict(values), trial_id=run)))

    def end_session(self, success: bool) -> None:
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = SessionEndInfo(status=status, end_time_secs=time.time())
        self._hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def _hparams(self, tag: str, data: HParamsPluginData) -> None:
        described = metadata.create_summary_metadata(data)
        value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
        self._write(Event(summary=Summary(value=[value])))


def _type(value: Value | None) -> int:
    if isinstance(value, bool):
        return int(api_pb2.DATA_TYPE_BOOL)
    if isinstance(value, int | float):
        return int(api_pb2.DATA_TYPE_FLOAT64)
    return int(api_pb2.DATA_TYPE_UNSET if value is None else api_pb2.DATA_TYPE_STRING)
