"""TensorBoard's event file of a run, read back as TensorBoard reads it."""

import os
import re
import signal
from graphlib import TopologicalSorter
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


def read_events(run_dir: Path) -> EventAccumulator:
    """Return everything in the event files of a run."""
    return EventAccumulator(str(run_dir), size_guidance=EVERYTHING).Reload()


def hparams_records(run_dir: Path) -> dict[str, list[HParamsPluginData]]:
    """Return the records of the HPARAMS plugin in the raw files, by their kind."""
    records: dict[str, list[HParamsPluginData]] = {}
    for path in event_files(run_dir):
        for event in RawEventFileLoader(str(path)).Load():
            for value in Event.FromString(event).summary.value:
                if value.metadata.plugin_data.plugin_name == "hparams":
                    data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    records.setdefault(str(data.WhichOneof("data")), []).append(data)
    return records


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that trained from start to end."""
    run_dir = tmp_path_factory.mktemp("events") / "finished"
    run(short(), run_dir, overrides=["optimizer.lr=2e-4", "model=base"])
    return run_dir


def test_scalars_are_the_values_of_the_metrics_file(finished: Path) -> None:
    events = read_events(finished)
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
    images = read_events(finished).Images("samples")
    assert [image.step for image in images] == [10, 20, 30, 40]
    for image in images:
        file = finished / "samples" / f"step-{image.step:06d}.png"
        assert image.encoded_image_string == file.read_bytes()


def test_the_graph_holds_both_networks_and_the_text_the_configuration(finished: Path) -> None:
    events = read_events(finished)
    nodes = [node.name for node in events.Graph().node]
    for network in ("generator", "discriminator"):
        assert any(f"[{network}]" in name for name in nodes)
    (text,) = events.Tensors("config/text_summary")
    assert "hidden_dim: 16" in text.tensor_proto.string_val[0].decode()


def test_the_graph_has_a_node_for_each_layer_and_no_loop(finished: Path) -> None:
    nodes = read_events(finished).Graph().node
    kinds = [node.op for node in nodes]
    layers = {"aten::linear": 6, "aten::relu": 2, "aten::leaky_relu": 2, "aten::tanh": 1}
    assert {kind: kinds.count(kind) for kind in layers} == layers
    # A module is shown as one box, so a loop between modules is what people would see.
    arrows: dict[str, set[str]] = {}
    for node in nodes:
        module, *sources = (name.rpartition("/")[0] for name in (node.name, *node.input))
        if node.op.startswith("aten::"):
            arrows.setdefault(module, set()).update({*sources} - {module})
    list(TopologicalSorter(arrows).static_order())


def test_run_is_one_row_of_the_hparams_table(finished: Path) -> None:
    by_kind = hparams_records(finished)
    assert {kind: len(records) for kind, records in by_kind.items()} == {
        "experiment": 1,
        "session_start_info": 1,
        "session_end_info": 1,
    }
    columns = {info.name: info for info in by_kind["experiment"][0].experiment.hparam_infos}
    assert set(columns) == {name for name in all_keys() if defines_result(name)}
    varied = {name for name, info in columns.items() if info.differs}
    assert "optimizer.lr" in varied
    assert "model.hidden_dim" in varied
    assert not any(name.startswith("trainer.") for name in varied)
    values = by_kind["session_start_info"][0].session_start_info.hparams
    assert values["optimizer.lr"].number_value == 2e-4
    assert values["loss._target_"].string_value == "gan.losses.non_saturating"
    tags = read_events(finished).Tags()["scalars"]
    measured = [info.name.tag for info in by_kind["experiment"][0].experiment.metric_infos]
    assert measured
    assert set(measured) <= set(tags)


def test_all_runs_have_the_same_columns_in_the_hparams_table(
    finished: Path, tmp_path: Path
) -> None:
    run(short("optimizer=sgd", "penalty=none"), tmp_path / "other")
    first, second = (
        hparams_records(path)["experiment"][0].experiment for path in (finished, tmp_path / "other")
    )
    assert [info.name for info in first.hparam_infos] == [i.name for i in second.hparam_infos]
    assert first.metric_infos == second.metric_infos
    groups = {
        hparams_records(path)["session_start_info"][0].session_start_info.group_name
        for path in (finished, tmp_path / "other")
    }
    assert len(groups) == 2


@pytest.mark.parametrize("step", [4, 23])
def test_resumed_run_repeats_and_loses_no_event(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The run fails after its checkpoint, so it writes some events again when it is resumed."""
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
    assert {kind: len(records) for kind, records in hparams_records(run_dir).items()} == {
        kind: len(records) for kind, records in hparams_records(finished).items()
    }
    ours, theirs = read_events(run_dir), read_events(finished)
    assert ours.Tags() == theirs.Tags()
    for name in theirs.Tags()["scalars"]:
        read = [(event.step, event.value) for event in ours.Scalars(name)]
        expected = [(event.step, event.value) for event in theirs.Scalars(name)]
        assert [step for step, _ in read] == [step for step, _ in expected]
        if name != "images_per_second":
            assert read == expected


def test_quiet_run_writes_no_events_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(short("logging=quiet", "trainer.max_steps=3"), tmp_path / "run")
    assert event_files(tmp_path / "run") == []
    assert (tmp_path / "run/metrics.jsonl").exists()
    assert capsys.readouterr() == ("", "")


def test_charts_overlay_curves_that_belong_together(finished: Path) -> None:
    (event,) = read_events(finished).Tensors("custom_scalars__config__")
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
    tags = read_events(finished).Tags()["scalars"]
    for patterns in charts.values():
        for pattern in patterns:
            assert len([tag for tag in tags if re.search(pattern, tag)]) == 1
