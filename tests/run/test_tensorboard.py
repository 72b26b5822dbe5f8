"""TensorBoard's event file of a run, read back as TensorBoard reads it."""

import os
import re
import signal
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from runs import content, hparams_records, interrupt_at, short
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from gan.errors import Interrupted
from gan.run.pictures import as_png, open_exact, sample_file
from gan.run.result import read_records
from gan.run.tensorboard import event_files, tag_of
from gan.train import run

EVERYTHING = {"images": 0, "scalars": 0, "tensors": 0, "graph": 0}


def read_events(run_dir: Path) -> EventAccumulator:
    """Return everything in the event files of a run."""
    return EventAccumulator(str(run_dir), size_guidance=EVERYTHING).Reload()


def with_model(target: str, *overrides: str) -> DictConfig:
    """Return a short run's configuration with networks of somebody else."""
    cfg = short("metrics=none", *overrides)
    cfg.model = OmegaConf.create({"_target_": target, "latent_dim": 3, "conditional": False})
    return cfg


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that trained from start to end."""
    run_dir = tmp_path_factory.mktemp("events") / "finished"
    run(short(), run_dir, overrides=["optimizer.lr=2e-4", "model=base"])
    return run_dir


def test_scalars_are_the_values_of_the_metrics_file(finished: Path) -> None:
    events = read_events(finished)
    records = read_records(finished)
    for name in records[-1].keys() - {"step", "epoch", "lr/discriminator", "lr/generator"}:
        expected = [(r["step"], r[name]) for r in records if name in r]
        read = [(event.step, event.value) for event in events.Scalars(tag_of(name))]
        assert [step for step, _ in read] == [step for step, _ in expected]
        assert [value for _, value in read] == pytest.approx([value for _, value in expected])
    best = [event.value for event in events.Scalars("best/sliced_wasserstein")]
    assert best == sorted(best, reverse=True)
    assert all(event.value > 0 for event in events.Scalars("images_per_second"))


def test_the_losses_and_probabilities_come_first_and_then_the_metrics(finished: Path) -> None:
    """TensorBoard sorts tags, and opens the first two groups of TIME SERIES."""
    tags = sorted(read_events(finished).Tags()["scalars"])
    assert tags[:5] == [
        "D and G/loss of D",
        "D and G/loss of G",
        "D and G/mean D on fake",
        "D and G/mean D on real",
        "Metrics/sliced_wasserstein",
    ]
    assert not [tag for tag in tags if "(" in tag], "CUSTOM SCALARS would misread it"
    groups = dict.fromkeys(tag.partition("/")[0] for tag in tags)
    assert list(groups)[:2] == ["D and G", "Metrics"]


def test_learning_rates_are_curves_only_if_they_change(finished: Path, tmp_path: Path) -> None:
    tags = read_events(finished).Tags()["scalars"]
    assert not [tag for tag in tags if tag.startswith(("lr", "epoch"))]
    small = ["metrics=none", "trainer.max_steps=2", "logging.every=1"]
    run(short("schedule=linear", *small), tmp_path / "run")
    first, second = read_events(tmp_path / "run").Scalars("lr/generator")
    assert first.value > second.value


def test_images_are_the_sample_files(finished: Path) -> None:
    images = read_events(finished).Images("samples")
    assert [image.step for image in images] == [0, 10, 20, 30, 40]
    for image in images:
        exact = open_exact(sample_file(finished, image.step))
        assert image.encoded_image_string == as_png(exact)
        assert (image.width, image.height) == exact.size == (62, 62)


def test_real_samples_are_there_once(finished: Path, tmp_path: Path) -> None:
    def lose_the_events() -> None:
        for path in event_files(tmp_path / "run"):
            path.unlink()
        raise RuntimeError("stop")

    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 23, lose_the_events)
        with pytest.raises(RuntimeError, match="stop"):
            run(short(), tmp_path / "run")
    run(short(), tmp_path / "run")
    for run_dir in (finished, tmp_path / "run"):
        (image,) = read_events(run_dir).Images("samples/real")
        exact = open_exact(run_dir / "samples" / "real.png")
        assert image.encoded_image_string == as_png(exact)
    ours, theirs = (read_events(path).Images("samples") for path in (tmp_path / "run", finished))
    assert [(i.step, i.encoded_image_string) for i in ours] == [
        (i.step, i.encoded_image_string) for i in theirs
    ]


def test_the_graph_holds_both_networks_and_the_text_the_configuration(finished: Path) -> None:
    events = read_events(finished)
    nodes = [node.name for node in events.Graph().node]
    for network in ("generator", "discriminator"):
        assert any(name.startswith(f"{network}/") for name in nodes)
    (text,) = events.Tensors("config/text_summary")
    assert "hidden_dim: 16" in text.tensor_proto.string_val[0].decode()


def test_the_graph_has_a_box_for_each_layer(finished: Path) -> None:
    nodes = [node.name for node in read_events(finished).Graph().node if node.op != "weight"]
    assert nodes == [
        "z",
        "generator/0 Linear/linear",
        "generator/1 ReLU/relu",
        "generator/2 Linear/linear",
        "generator/3 ReLU/relu",
        "generator/4 Linear/linear",
        "generator/5 Tanh/tanh",
        "generator/6 Unflatten/unflatten",
        "discriminator/0 Flatten/flatten",
        "discriminator/1 Linear/linear",
        "discriminator/2 LeakyReLU/leaky_relu",
        "discriminator/3 Linear/linear",
        "discriminator/4 LeakyReLU/leaky_relu",
        "discriminator/5 Linear/linear",
        "output",
    ]


def test_run_whose_graph_cannot_be_recorded_warns_in_one_line_and_goes_on(tmp_path: Path) -> None:
    """Only the graph is of a batch of one, which these networks refuse."""
    cfg = with_model("outside.paired_pair", "trainer.max_steps=2")
    assert run(cfg, tmp_path / "run") is not None
    log = (tmp_path / "run" / "train.log").read_text().splitlines()
    (warning,) = [line for line in log if "WARNING" in line]
    assert warning.endswith(
        "TensorBoard shows no graph of these networks: ValueError: not in pairs"
    )
    tags = read_events(tmp_path / "run").Tags()
    assert not tags["graph"]
    assert "config/text_summary" in tags["tensors"]


def test_recording_the_graph_draws_no_random_numbers_of_the_training(tmp_path: Path) -> None:
    for logging in ("tensorboard", "quiet"):
        cfg = with_model("outside.noisy_pair", f"logging={logging}", "trainer.max_steps=4")
        run(cfg, tmp_path / logging)
    assert content(tmp_path / "tensorboard") == content(tmp_path / "quiet")


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
    # Not a picture twice.
    assert [image.step for image in ours.Images("samples")] == [0, 10, 20, 30, 40]
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
