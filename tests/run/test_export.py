"""Exported generators: read again, they give the run's samples, or nothing is written."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gan
from gan.commands.export import Options
from gan.commands.export import export as command
from gan.errors import UserError
from gan.run import export as module
from gan.run.export import FORMATS, ONNX_PACKAGES, export
from gan.run.trained import TrainedGenerator, load_generator

TWO_STEPS = ("trainer.max_steps=2", "trainer.batch_size=16", "metrics=none", "logging=quiet")
RUNS = {
    "averaged": ("model.hidden_dim=16", "trainer.ema_half_life=200"),
    "conditional, spectral norm": (
        "model.hidden_dim=16",
        "model.conditional=true",
        "model.generator_spectral_norm=true",
    ),
    "convolutions, batch norm": ("model=dcgan_small", "model.channels=4", "data=digits"),
    "residual": ("model=sngan", "model.channels=4", "data=digits"),
    "pyramid, conditional batch norm, attention": (
        *("model=sngan_pyramid", "model.channels=2", "model.attention=14", "data=digits"),
        *("model.conditional=true", "model.generator_norm=conditional_batch"),
    ),
    "bottlenecks": ("model=r3gan_small", "model.channels=8", "model.cardinality=4", "data=digits"),
    "points": ("data=ring8", "model.hidden_dim=16"),
}
HAS_ONNX = all(importlib.util.find_spec(name) for name in ONNX_PACKAGES)


@pytest.fixture(scope="module", params=RUNS.values(), ids=list(RUNS))
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run after two steps, once for each kind of generator."""
    folder = tmp_path_factory.mktemp("export") / "run"
    gan.run(*request.param, *TWO_STEPS, "threads=1", run_dir=folder)
    return folder


@pytest.fixture
def averaged(tmp_path: Path) -> TrainedGenerator:
    """Return the generator of a run of its own."""
    gan.run(*RUNS["averaged"], *TWO_STEPS, "threads=1", run_dir=tmp_path / "run")
    return load_generator(tmp_path / "run")


def batch(trained: TrainedGenerator, n: int) -> tuple[Tensor, ...]:
    z = torch.randn(n, trained.latent_dim)
    return (z, torch.arange(n) % trained.classes) if trained.classes else (z,)


def test_a_safetensors_file_gives_the_samples_of_the_run(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "new/generator.safetensors"
    assert export(load_generator(run_dir), path) == 0
    rebuilt, original = gan.load_generator(str(path)), gan.load_generator(run_dir)
    assert torch.equal(gan.sample(path, 20, seed=3), gan.sample(run_dir, 20, seed=3))
    for name in ("step", "weights", "classes", "latent_dim", "image_shape"):
        assert getattr(rebuilt, name) == getattr(original, name)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_program_gives_the_samples_of_the_run_for_any_batch(
    run_dir: Path, tmp_path: Path, suffix: str
) -> None:
    if suffix == ".onnx" and not HAS_ONNX:
        pytest.skip('no ONNX: pip install "gan-sweeps[onnx]"')
    trained, path = load_generator(run_dir), tmp_path / f"generator{suffix}"
    assert export(trained, path) < 1e-5
    sample = FORMATS[suffix][1](path)
    for n in (1, 5, 100):
        one = batch(trained, n)
        with torch.no_grad():
            torch.testing.assert_close(sample(*one), trained(*one), rtol=0, atol=1e-5)


def test_a_program_carries_the_configuration_of_its_run(
    averaged: TrainedGenerator, tmp_path: Path
) -> None:
    export(averaged, tmp_path / "a.pt2")
    texts = {"config": "", "generator": ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=texts)
    assert json.loads(texts["config"])["model"]["hidden_dim"] == 16
    assert json.loads(texts["generator"])["step"] == 2
    assert json.loads(texts["config"]).keys() == {"seed", "data", "model", "trainer"}
    if HAS_ONNX:
        import onnx

        export(averaged, tmp_path / "a.onnx")
        stored = {prop.key: prop.value for prop in onnx.load(tmp_path / "a.onnx").metadata_props}
        assert stored["config"] == texts["config"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2", ".onnx"])
def test_a_file_with_other_samples_is_not_written(
    averaged: TrainedGenerator, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".onnx" and not HAS_ONNX:
        pytest.skip('no ONNX: pip install "gan-sweeps[onnx]"')
    write, read = FORMATS[suffix]

    def write_other_weights(trained: TrainedGenerator, path: Path) -> None:
        other = load_generator(tmp_path / "run")
        with torch.no_grad():
            next(other.parameters()).mul_(1.01)
        write(other, path)

    monkeypatch.setitem(FORMATS, suffix, (write_other_weights, read))
    out = tmp_path / "out" / f"a{suffix}"
    out.parent.mkdir()
    out.write_text("the file before")
    with pytest.raises(UserError, match="not written, its samples would differ by"):
        export(averaged, out)
    assert out.read_text() == "the file before"
    assert list(out.parent.iterdir()) == [out]


class LooksAtValues(nn.Module):
    """A network that no tracer can follow."""

    def forward(self, z: Tensor) -> Tensor:
        return z if z.sum() > 0 else -z


def test_a_network_that_cannot_be_traced_is_refused_in_one_line(
    averaged: TrainedGenerator, tmp_path: Path
) -> None:
    averaged.network = LooksAtValues()
    with pytest.raises(UserError, match=r"torch\.export cannot trace the generator") as raised:
        export(averaged, tmp_path / "out/a.pt2")
    assert len(str(raised.value).splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))


def test_samples_that_are_not_finite_are_refused(
    averaged: TrainedGenerator, tmp_path: Path
) -> None:
    with torch.no_grad():
        next(averaged.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="samples are not finite"):
        export(averaged, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_onnx_without_its_packages_is_one_line(
    averaged: TrainedGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ONNX_PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=r'no_such_package not installed; pip install "gan-sweeps'):
        export(averaged, tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_the_command_says_which_weights_it_wrote(
    averaged: TrainedGenerator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    command([tmp_path / "run"], Options(out))
    assert "average weights of step 2; its samples differ" in capsys.readouterr().out
    command([tmp_path / "run"], Options(out, weights="generator"))
    assert load_generator(out).weights == "generator"
    with pytest.raises(UserError, match=r"weights=average: .* holds generator"):
        load_generator(out, "average")


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("a.onx", "must end in .safetensors, .pt2, .onnx; did you mean '.onnx'?"),
        ("folder", "must end in"),
        ("/dev/null/a.pt2", "cannot be written"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(
    averaged: TrainedGenerator, tmp_path: Path, out: str, expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        export(averaged, tmp_path / out)
    assert expected in str(raised.value)
    with pytest.raises(UserError, match="usage: "):
        command([], Options())


def test_a_file_that_holds_no_generator_is_refused(tmp_path: Path) -> None:
    weights = Path(gan.__file__).parent / "metrics/weights/mnist.safetensors"
    (tmp_path / "damaged.safetensors").write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "picture.png").write_bytes(b"x" * 100)
    for path in (weights, tmp_path / "damaged.safetensors", tmp_path / "picture.png"):
        with pytest.raises(UserError, match="is damaged or holds no generator"):
            load_generator(path)
    with pytest.raises(UserError, match="does not exist"):
        load_generator(tmp_path / "none.safetensors")
