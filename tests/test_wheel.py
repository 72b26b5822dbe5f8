"""The wheel, installed away from the checkout: every command works from an empty directory."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("gan", "conf", "pyproject.toml", "README.md", "LICENSE")

# Neither imported nor looked for as a module: setuptools would then leave distutils as it is, and
# torch's compiler needs the other one.
if not list(distributions(name="pip")):
    pytest.skip("the wheel is built and installed by pip", allow_module_level=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources, which leaves the checkout as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "sources").mkdir()
    for name in SOURCES:
        subprocess.run(["cp", "-r", str(ROOT / name), str(folder / "sources")], check=True)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "sources"))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment that sees the other packages of this one."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    pip("--python", str(python), "install", "--no-deps", str(wheel))
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    # Later on the path than the wheel. Lines of .pth files in there are not read, so an editable
    # installation of this package does not count.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    others = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *others]
    (Path(packages.stdout.strip()) / "others.pth").write_text("\n".join(dict.fromkeys(others)))
    return environment / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with nothing but an option of the user's own."""
    folder = tmp_path_factory.mktemp("away")
    (folder / "mine/loss").mkdir(parents=True)
    (folder / "mine/loss/soft.yaml").write_text("defaults: [hinge]\n")
    return folder


def pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def run(programs: Path, command: str, folder: Path) -> str:
    """Run a line of bash and return what it prints."""
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_wheel_holds_the_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"gan/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert expected <= names
    assert {"gan/py.typed", "gan/compare/page.js", "hydra_plugins/gan_local.py"} <= names
    assert not any(
        name.startswith(("conf/", "tests/", "scripts/", "gan/plugins/")) for name in names
    )


def test_the_installed_package_is_the_wheel(programs: Path, folder: Path) -> None:
    place = run(programs, "python -c 'import gan; print(gan.__file__)'", folder)
    assert Path(place.strip()).is_relative_to(programs.parent)
    assert "gan-sweeps" in run(programs, "gan --version", folder)


def test_every_command_works_from_an_empty_directory(programs: Path, folder: Path) -> None:
    train = "gan train trainer=smoke data=digits threads=1"
    assert "completed at step 20" in run(programs, f"{train} 'hydra.run.dir=my run'", folder)
    assert "already completed" in run(programs, "gan resume 'my run'", folder)
    run(programs, "gan generate 'my run' n=4 out=samples.png", folder)
    run(programs, "gan export 'my run' out=generator.safetensors", folder)
    assert "sliced_wasserstein" in run(
        programs, "gan evaluate 'my run' metrics=default samples=64 name=small", folder
    )
    assert "small/sliced_wasserstein" in run(programs, "gan compare 'my run'", folder)
    assert "to remove with yes=true" in run(programs, "gan clean 'my run'", folder)
    assert (folder / "samples.png").exists()
    assert (folder / "generator.safetensors").exists()


def test_options_of_the_users_own_are_found(programs: Path, folder: Path) -> None:
    command = "gan train --config-dir mine loss=soft trainer=smoke data=digits threads=1"
    run(programs, f"{command} hydra.run.dir=soft", folder)
    assert "gan.losses.hinge" in (folder / "soft/config.yaml").read_text()


@pytest.mark.slow
def test_a_sweep_runs_in_workers_and_its_best_command_repeats_it(
    programs: Path, folder: Path
) -> None:
    sweep = "gan train -m trainer=smoke data=digits seed=0,1 hydra.sweep.dir=sweep"
    assert "[2/2]" in run(programs, sweep, folder)
    best = run(programs, "gan compare sweep best 2>/dev/null", folder)
    assert best.startswith("gan train trainer=smoke data=digits seed=")
    run(programs, f"{best.strip()} hydra.run.dir=again", folder)
    table = "import gan; print(gan.load_runs('again', 'sweep').sliced_wasserstein.nunique())"
    assert run(programs, f'python -W ignore -c "{table}"', folder).strip() == "2"
