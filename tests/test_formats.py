"""The stored formats, and the rule that the version moves when one of them changes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

import gan

ROOT = Path(__file__).parent.parent
FIELDS = {
    "0.2.0": {
        "result.json": "status objective_name objective final best steps images seconds "
        "images_per_second name seed ended error verdict device threads matmul data_hash code "
        "measured choices extended versions platform git",
        "sweep.json": "project version swept fixed sources threads launcher search commands",
        "a command in sweep.json": "time arguments request jobs",
        "a line of jobs.jsonl": "name identity overrides config choices",
        "a line of metrics.jsonl": "step epoch loss/discriminator loss/generator prob/real "
        "prob/fake logit/real logit/fake grad_norm/discriminator grad_norm/generator "
        "lr/discriminator lr/generator sliced_wasserstein samples/diversity",
        "a checkpoint": "step image_shape classes scaling data_hash seconds sums summed "
        "generator_updates healthy "
        "noise random cuda_random numpy_random python_random generator discriminator average "
        "generator_optimizer discriminator_optimizer loss penalty loss_scales adaptive marks",
        "metrics-NAME.json": "step weights truncation standing latent_seed samples real split "
        "real_hash values floor versions platform git",
    }
}
"""For each version, the names of the fields in each of its files."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep of one small run, which has been evaluated as well."""
    path = tmp_path_factory.mktemp("formats") / "sweep"
    small = ["data=digits", "model.hidden_dim=8", "trainer=smoke", "trainer.max_steps=2"]
    small += ["metrics.samples=64", "logging.tensorboard=false", "threads=1"]
    train = ["train.py", "-m", *small, "hydra.launcher.n_jobs=1", "optimizer.lr=choice(1e-4)"]
    evaluate = ["evaluate.py", str(path / "lr=0.0001"), "metrics=default", "samples=64"]
    for script, *arguments in ([*train, f"hydra.sweep.dir={path}"], evaluate):
        command = [sys.executable, str(ROOT / "scripts" / script), *arguments]
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def stored(sweep: Path) -> dict[str, Iterable[str]]:
    """The names of the fields in each file that the sweep left."""
    (run_dir,) = sweep.glob("lr=*")
    facts = json.loads((sweep / "sweep.json").read_text())
    (checkpoint,) = (run_dir / "checkpoints").iterdir()
    return {
        "result.json": json.loads((run_dir / "result.json").read_text()),
        "sweep.json": facts,
        "a command in sweep.json": facts["commands"][0],
        "a line of jobs.jsonl": json.loads((sweep / "jobs.jsonl").read_text()),
        "a line of metrics.jsonl": json.loads((run_dir / "metrics.jsonl").read_text()),
        "a checkpoint": torch.load(checkpoint, weights_only=True),
        "metrics-NAME.json": json.loads((run_dir / "metrics-default.json").read_text()),
    }


def test_this_version_has_its_fields_listed() -> None:
    assert gan.__version__ in FIELDS, (
        f"tests/test_formats.py does not list the fields of version {gan.__version__}: "
        "list them, and write in .github/CHANGELOG.md what has changed"
    )


@pytest.mark.parametrize("file", FIELDS.get(gan.__version__, {}))
def test_a_changed_format_needs_a_new_version(file: str, stored: dict[str, Iterable[str]]) -> None:
    known, now = set(FIELDS[gan.__version__][file].split()), set(stored[file])
    assert known == now, (
        f"{file} has changed: it has gained {sorted(now - known) or 'nothing'} and lost "
        f"{sorted(known - now) or 'nothing'}. Runs and sweeps of version {gan.__version__} do not "
        "look like this, so raise __version__ in gan/__init__.py, list the new fields under the "
        "new version here, and write the change into .github/CHANGELOG.md."
    )
