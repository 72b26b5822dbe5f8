"""Vectors, series and images from arrays: trained, measured, drawn, generated and compared."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cohorts import ALWAYS_STACKED, Parent, train_cohort
from omegaconf import OmegaConf
from own_data import configure, save
from PIL import Image
from runs import short

from gan.commands import evaluate as evaluate_command
from gan.commands import generate as generate_command
from gan.data import digits
from gan.errors import UserError
from gan.metrics.evaluator import Evaluator
from gan.run.attempt import Attempt
from gan.run.checkpoint import load_newest_checkpoint
from gan.run.evaluation import generate
from gan.run.pictures import as_png, open_exact, sample_file
from gan.run.result import Status, read_records, read_result
from gan.run.tensorboard import event_files
from gan.run.trained import load_generator
from gan.train import run

RANDOM = np.random.default_rng(0)
LABELS = np.array(["left", "right"] * 32)
SAMPLES = {
    "vectors": RANDOM.normal(size=(64, 5)) * 100,
    "points": RANDOM.normal(size=(64, 2)),
    "series": RANDOM.normal(size=(64, 24)) + 50,
    "channels": RANDOM.normal(size=(64, 3, 24)),
    "wide": RANDOM.integers(0, 256, (64, 6, 10), dtype=np.uint8),
    "tall colours": RANDOM.integers(0, 256, (64, 9, 4, 3), dtype=np.uint8),
}
KINDS = {"points": "vectors", "channels": "series", "wide": "images", "tall colours": "images"}
SHAPES = {
    "vectors": (5,),
    "points": (2,),
    "series": (24,),
    "channels": (3, 24),
    "wide": (1, 6, 10),
    "tall colours": (3, 9, 4),
}
NAMES = "metrics.names=[sliced_wasserstein,precision,recall,density,coverage]"
TOGETHER = ("vectors", "points")


def settings(folder: Path, kind: str) -> dict[str, Any]:
    path = save(folder / f"{kind}.npz", SAMPLES[kind], LABELS)
    return {"path": str(path), "kind": KINDS.get(kind, kind)}


def metrics(kind: str) -> str:
    # Features of colour images need a library that may not be there.
    return "metrics.names=[sliced_wasserstein]" if kind == "tall colours" else NAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run on each kind of data."""
    folder = tmp_path_factory.mktemp("own")
    for kind in SAMPLES:
        cfg = configure("npz", metrics(kind), **settings(folder, kind))
        run(cfg, folder / kind)
    return folder


@pytest.mark.parametrize("kind", SAMPLES)
def test_data_of_every_shape_are_trained_measured_and_drawn(folder: Path, kind: str) -> None:
    result = read_result(folder / kind)
    assert result is not None
    assert result["status"] == Status.COMPLETED
    measured = ["sliced_wasserstein", "precision", "recall", "density", "coverage"]
    record = read_records(folder / kind)[-1]
    assert set(record) >= set(measured[: 1 if kind == "tall colours" else 5])
    saved = load_newest_checkpoint(folder / kind)
    assert saved is not None
    assert tuple(saved["image_shape"]) == SHAPES[kind]
    assert saved["classes"] == 2
    assert saved["data_hash"] == result["data_hash"]
    pictures = sorted(path.name for path in (folder / kind / "samples").iterdir())
    real = [] if kind in TOGETHER else ["real.png"]
    assert pictures == [*real, *(f"step-0000{step}.png" for step in ("00", "10", "20"))]
    for name in pictures:
        assert np.asarray(Image.open(folder / kind / "samples" / name)).std() > 1


def test_tensorboard_holds_the_pictures_and_the_graph(folder: Path) -> None:
    for kind in SAMPLES:
        content = event_files(folder / kind)[0].read_bytes()
        assert as_png(open_exact(sample_file(folder / kind, 20))) in content
        assert b"generator/0 Linear" in content


@pytest.mark.parametrize("kind", ["vectors", "series", "channels"])
@pytest.mark.parametrize("penalty", ["wgan_gp", "dragan"])
def test_conditional_averaged_and_packed_runs_train_too(
    tmp_path: Path, kind: str, penalty: str
) -> None:
    overrides = [f"penalty={penalty}", "trainer.ema_half_life=50", "logging.tensorboard=false"]
    which = "model.conditional=true" if penalty == "dragan" else "trainer.pac=2"
    cfg = configure("npz", NAMES, *overrides, which, **settings(tmp_path, kind))
    run(cfg, tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result is not None
    assert result["status"] == Status.COMPLETED


@pytest.mark.parametrize("kind", ["vectors", "series", "channels", "wide"])
def test_a_cohort_trains_them_as_one_alone(tmp_path: Path, kind: str) -> None:
    own = settings(tmp_path, kind)
    attempts = []
    for seed in (1, 2):
        cfg = configure("npz", f"seed={seed}", NAMES, "logging.tensorboard=false", **own)
        config: Any = OmegaConf.to_container(cfg, resolve=True)
        attempts.append(Attempt(str(seed), config, tmp_path / str(seed), []))
        run(cfg, tmp_path / f"{seed}, alone")
    parent = Parent(*attempts)
    train_cohort(parent, ALWAYS_STACKED)
    assert set(parent.statuses.values()) == {Status.COMPLETED}
    for name in ("1", "2"):
        pairs = zip(
            read_records(tmp_path / name), read_records(tmp_path / f"{name}, alone"), strict=True
        )
        for together, alone in pairs:
            assert together == pytest.approx(alone, rel=1e-3, abs=1e-3)


def call(monkeypatch: pytest.MonkeyPatch, command: Any, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["command.py", *map(str, arguments)])
    command.main()


@pytest.mark.parametrize("kind", SAMPLES)
def test_generate_writes_samples_in_the_units_of_the_data(
    folder: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(monkeypatch, generate_command, folder / kind, "n=32", f"out={tmp_path / 'a.npz'}")
    arrays = np.load(tmp_path / "a.npz")
    if kind in ("wide", "tall colours"):
        assert arrays["images"].shape == (32, *SHAPES[kind][1:], SHAPES[kind][0])
        return
    samples = arrays["points" if kind == "points" else "samples"]
    assert samples.shape == (32, *SHAPES[kind])
    trained = load_generator(folder / kind)
    assert trained.scaling is not None
    z = torch.from_numpy(arrays["latents"])
    raw = generate(trained, z).double().numpy()
    scaling = [part.numpy() for part in trained.scaling]
    assert samples == pytest.approx(raw * scaling[0] + scaling[1])
    if kind == "series":
        assert 45 < samples.mean() < 55


@pytest.mark.parametrize("kind", SAMPLES)
def test_generate_draws_what_can_be_drawn_and_refuses_the_rest_in_one_line(
    folder: Path,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(monkeypatch, generate_command, folder / kind, "n=4", f"out={tmp_path / 'a.png'}")
    assert np.asarray(Image.open(tmp_path / "a.png")).std() > 1
    one_by_one = [
        ("n=2", f"out={tmp_path / 'a.gif'}", "frames=3"),
        ("n=3", f"out={tmp_path / 'folder'}"),
        ("n=3", f"out={tmp_path / 'walk.png'}", "interpolate=true", "frames=4"),
    ]
    for arguments in one_by_one:
        if kind in TOGETHER:
            with pytest.raises(SystemExit) as raised:
                call(monkeypatch, generate_command, folder / kind, *arguments)
            assert raised.value.code == 2
            message = capsys.readouterr().err
            assert "points and vectors make no walk and no folder" in message
            assert message.count("\n") == 1
        else:
            call(monkeypatch, generate_command, folder / kind, *arguments)
    if kind in TOGETHER:
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    else:
        assert getattr(Image.open(tmp_path / "a.gif"), "n_frames", 1) > 1
        assert len(list((tmp_path / "folder").iterdir())) == 3


def test_points_of_a_mixture_are_drawn_by_generate_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(short("data=ring8", "logging.samples=16"), tmp_path / "run")
    call(monkeypatch, generate_command, tmp_path / "run", "n=16", f"out={tmp_path / 'a.png'}")
    last = tmp_path / "run" / "samples" / "step-000040.png"
    assert (tmp_path / "a.png").read_bytes() == last.read_bytes()


@pytest.mark.parametrize("kind", ["vectors", "channels", "wide"])
def test_evaluate_measures_them_beside_their_floor(
    folder: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / kind, tmp_path / "run")
    arguments = ("metrics=vectors", "samples=64", "split=train")
    call(monkeypatch, evaluate_command, tmp_path / "run", *arguments)
    facts = json.loads((tmp_path / "run" / "metrics-vectors.json").read_text())
    assert set(facts["values"]) == {
        "sliced_wasserstein", "precision", "recall", "density", "coverage"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "override", "message"),
    [
        ("series", "model=dcgan", r"DCGAN: makes images, not samples of shape \(24,\)"),
        ("channels", "model=sngan", r"SNGAN: makes images, not samples of shape \(3, 24\)"),
        ("wide", "model=dcgan", "images of 6x10 pixels do not fit"),
        ("series", "trainer.augment=[cutout]", "works on images alone; leave it .. for these data"),
        (
            "series",
            "trainer.consistency=[flip]",
            "consistency=.*: works on images alone",
        ),
        (
            "channels",
            "trainer.flip=true",
            "trainer.flip=true: works on images alone; leave it false",
        ),
        ("channels", "metrics=fast", r"lenet_fid is for grey images, .* of shape \(3, 24\)"),
        ("vectors", "metrics=points", "modes is for a mixture"),
        ("vectors", "trainer.batch_size=59", "trainer.batch_size=59: must be at most 58"),
    ],
)
def test_what_does_not_fit_the_data_is_one_line_and_leaves_nothing(
    tmp_path: Path, kind: str, override: str, message: str
) -> None:
    cfg = configure("npz", override, **settings(tmp_path, kind))
    with pytest.raises(UserError, match=message) as raised:
        run(cfg, tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("npz", r"npz: FileNotFoundError: .*nowhere.npz' \(.*own_data.py, line \d+\)"),
        ("no_data", "a list is no data set, it has no shape, classes, .* gan.data.image_data"),
    ],
)
def test_data_that_cannot_be_had_are_one_line_and_leave_nothing(
    tmp_path: Path, target: str, message: str
) -> None:
    own = {"path": str(tmp_path / "nowhere.npz")} | ({"kind": "series"} if target == "npz" else {})
    with pytest.raises(UserError, match=message) as raised:
        run(configure(target, **own), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_kept_features_are_those_of_the_data_that_are_there(tmp_path: Path) -> None:
    data, cache = digits(), str(tmp_path)
    inverted = replace(data, samples=255 - data.images, test_samples=255 - data.test_images)
    values = []
    for real in (data, inverted, data, inverted):
        measure = Evaluator(["lenet_fid"], real, split="train", samples=300, cache=cache)
        values.append(measure(data.images[:300])["lenet_fid"])
    assert values[:2] == values[2:]
    assert values[0] < values[1] / 3
    assert len(list((tmp_path / "features").iterdir())) == 2
