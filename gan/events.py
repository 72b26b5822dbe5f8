"""TensorBoard's event files, written so that a resumed run can go on in the same file."""

import os
import socket
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

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

    def describe(self, text: str, network: nn.Module, example: Tensor) -> None:
        """The configuration as text, and the graph of a network applied to an example."""
        with tempfile.TemporaryDirectory() as folder:
            writer = SummaryWriter(folder)
            writer.add_text("config", text)
            writer.add_graph(network, example)
            writer.close()
            # Records stand one after another: a file's content can be appended to another's.
            for path in event_files(Path(folder)):
                self._file.write(path.read_bytes())

    def start_session(
        self, run: str, columns: Iterable[str], metrics: Iterable[str], values: Mapping[str, Value]
    ) -> None:
        """This run's row of the HPARAMS table, whose columns all runs must write alike."""
        parameters = [summary_v2.HParam(column) for column in columns]
        measured = [summary_v2.Metric(tag) for tag in metrics]
        self._write(Event(summary=summary_v2.hparams_config_pb(parameters, measured)))
        self._write(Event(summary=summary_v2.hparams_pb(dict(values), trial_id=run)))

    def end_session(self, success: bool) -> None:
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        data = HParamsPluginData(
            session_end_info=SessionEndInfo(status=status, end_time_secs=time.time())
        )
        value = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(data),
            tensor=metadata.NULL_TENSOR,
        )
        self._write(Event(summary=Summary(value=[value])))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
