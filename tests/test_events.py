"""What TensorBoard finds in a run directory, read back from the event files."""

import os
import re
import signal
from pathlib import Path

import pytest
from runs import interrupt_at, short
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gan.config.checks import all_keys, defines_result
from gan.errors import Interrupted
from gan.run.result import read_records
from gan.run.tensorboard import event_files
from gan.train import run

EVERYTHING = {"images": 0, "scalars": 0, "tensors": 0, "graph": 0}


def accumulated(run_dir: Path) -> EventAccumulator:
    return EventAccumulator(str(run_dir), size_guidance=EVERYTHING).Reload()


def sessions(run_dir: Path) -> dict[str, list[HParamsPluginData]]:
    """The HPARAMS plugin's records in the raw file, by the kind of record."""
    found: dict[str, list[HParamsPluginData]] = {}
    for path in event_files(run_dir):
        for record in RawEventFileLoader(str(path)).Load():
            for value in Event.FromString(record).summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    found.setdefault(str(data.WhichOneof("data")), []).append(data)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("events") / "finished"
    run(short(), run_dir, overrides=["optimizer.lr=2e-4", "model=base"])
    return run_dir


def test_scalars_are_those_of_the_metrics_file(finished: Path) -> None:
    events = accumulated(finished)
    records = read_records(finished)
    for name in records[-1].keys() - {"step"}:
        expected = [(r["step"], r[name]) for r in records if name in r]
        read = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in read] == [step for step, _ in expected]
        assert [value for _, value in read] == pytest.approx([value for _, value in expected])
    best = [event.value for event in events.Scalars("best/sliced_wasserstein")]
    assert best == sorted(best, reverse=True)
    assert all(event.value > 0 for event in events.Scalars("images_per_second"))


def test_images_are_the_sample_files(finished: Path) -> None:
    images = accumulated(finished).Images("samples")
    assert [image.step for image in images] == [10, 20, 30, 40]
    for image in images:
        file = finished / "samples" / f"step-{image.step:06d}.png"
        assert image.encoded_image_string == file.read_bytes()


def test_the_graph_holds_both_networks_and_the_text_the_configuration(finished: Path) -> None:
    events = accumulated(finished)
    nodes = [node.name for node in events.Graph().node]
    for network in ("generator", "discriminator"):
        assert any(f"[{network}]" in name for name in nodes)
    (text,) = events.Tensors("config/text_summary")
    assert "hidden_dim: 16" in text.tensor_proto.string_val[0].decode()


def test_one_row_of_hyperparameters(finished: Path) -> None:
    found = sessions(finished)
    assert {kind: len(records) for kind, records in found.items()} == {
        "experiment": 1,
        "session_start_info": 1,
        "session_end_info": 1,
    }
    columns = {info.name: info for info in found["experiment"][0].experiment.hparam_infos}
    assert set(columns) == {name for name in all_keys() if defines_result(name)}
    varied = {name for name, info in columns.items() if info.differs}
    assert "optimizer.lr" in varied
    assert "model.hidden_dim" in varied
    assert not any(name.startswith("trainer.") for name in varied)
    values = found["session_start_info"][0].session_start_info.hparams
    assert values["optimizer.lr"].number_value == 2e-4
    assert values["loss._target_"].string_value == "gan.losses.non_saturating"
    tags = accumulated(finished).Tags()["scalars"]
    measured = [info.name.tag for info in found["experiment"][0].experiment.metric_infos]
    assert measured
    assert set(measured) <= set(tags)


def test_all_runs_name_the_same_columns(finished: Path, tmp_path: Path) -> None:
    run(short("optimizer=sgd", "penalty=none"), tmp_path / "other")
    first, second = (
        sessions(path)["experiment"][0].experiment for path in (finished, tmp_path / "other")
    )
    assert [info.name for info in first.hparam_infos] == [i.name for i in second.hparam_infos]
    assert first.metric_infos == second.metric_infos
    groups = {
        sessions(path)["session_start_info"][0].session_start_info.group_name
        for path in (finished, tmp_path / "other")
    }
    assert len(groups) == 2


@pytest.mark.parametrize("step", [4, 23])
def test_a_resumed_run_doubles_and_loses_nothing(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Raise after the checkpoint, so that events exist which the resumed run writes again."""
    run_dir = tmp_path / "run"

    def fail() -> None:
        raise RuntimeError

    for at in (step, 3):
        with monkeypatch.context() as patch:
            interrupt_at(patch, at, fail)
            with pytest.raises(RuntimeError):
                run(short(), run_dir)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(short(), run_dir)
    run(short(), run_dir)
    assert len(event_files(run_dir)) == 1
    assert {kind: len(found) for kind, found in sessions(run_dir).items()} == {
        kind: len(found) for kind, found in sessions(finished).items()
    }
    ours, theirs = accumulated(run_dir), accumulated(finished)
    assert ours.Tags() == theirs.Tags()
    for name in theirs.Tags()["scalars"]:
        read = [(event.step, event.value) for event in ours.Scalars(name)]
        expected = [(event.step, event.value) for event in theirs.Scalars(name)]
        assert [step for step, _ in read] == [step for step, _ in expected]
        if name != "images_per_second":
            assert read == expected


def test_quiet_writes_no_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(short("logging=quiet", "trainer.max_steps=3"), tmp_path / "run")
    assert event_files(tmp_path / "run") == []
    assert (tmp_path / "run/metrics.jsonl").exists()
    assert capsys.readouterr() == ("", "")


def test_custom_scalars_overlay_what_belongs_together(finished: Path) -> None:
    (event,) = accumulated(finished).Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {
        (category.title, chart.title): list(chart.multiline.tag)
        for category in layout.category
        for chart in category.chart
    }
    assert set(charts) == {
        ("Training", "Losses"),
        ("Training", "D(x) and D(G(z))"),
        ("Quality", "sliced_wasserstein"),
    }
    tags = accumulated(finished).Tags()["scalars"]
    for patterns in charts.values():
        for pattern in patterns:
            assert len([tag for tag in tags if re.search(pattern, tag)]) == 1
