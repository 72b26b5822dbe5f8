"""One run: its files, exact resumption after anything, and divergence."""

import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import SCRIPTS, SHORT, content, fail_at, interrupt_at, short

from gan.commands.resume import Options as ResumeOptions
from gan.commands.resume import resume
from gan.config.compose import compose
from gan.errors import Interrupted, UserError
from gan.run.checkpoint import checkpoint_paths, load_newest_checkpoint, save_checkpoint
from gan.run.directory import read_config
from gan.run.records import Records
from gan.run.result import read_records, read_result
from gan.run.trained import load_generator
from gan.step import Batch, StepKind, StepResult, TrainableGAN, train_step
from gan.system.invocation import command_line
from gan.train import run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Return the directory of a run that trained from start to end."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    run(short(), run_dir, overrides=["a=1"])
    return run_dir


def test_directory_of_a_finished_run_holds_everything(undisturbed: Path) -> None:
    result = read_result(undisturbed)
    assert result is not None
    records = read_records(undisturbed)
    assert [record["step"] for record in records] == [7, 14, 15, 21, 28, 30, 35, 40]
    measured = {r["step"]: r["sliced_wasserstein"] for r in records if "sliced_wasserstein" in r}
    assert sorted(measured) == [15, 30, 40]
    assert result["status"] == "completed"
    assert result["objective"] == measured[40] == result["final"]["sliced_wasserstein"]
    step, value = min(measured.items(), key=lambda item: item[1])
    assert result["best"] == {"sliced_wasserstein": {"value": value, "step": step}}
    assert (result["steps"], result["images"], result["seed"]) == (40, 640, 0)
    assert result["device"] == "cpu"
    assert len(result["measured"].pop("real_hash")) == 12
    assert result["measured"] == {
        "weights": "generator",
        "samples": 64,
        "real": 64,
        "split": "train",
    }
    assert result["versions"]["torch"] == importlib.metadata.version("torch")
    assert result["images_per_second"] == pytest.approx(640 / result["seconds"], rel=0.05)
    assert sorted(p.name for p in (undisturbed / "samples").iterdir()) == [
        "real.png",
        *(f"step-{step:06d}.png" for step in (0, 10, 20, 30, 40)),
    ]
    assert [p.name for p in checkpoint_paths(undisturbed)] == [
        "step-00000040.pt",
        "step-00000030.pt",
    ]
    assert (undisturbed / "overrides.yaml").read_text().endswith("\n- a=1\n")
    assert "completed at step 40" in (undisturbed / "train.log").read_text()


def test_running_a_finished_run_again_returns_its_result(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.run.run.build", None)
    before = content(undisturbed)
    result = read_result(undisturbed)
    assert result is not None
    assert run(short(), undisturbed) == result["objective"]
    assert content(undisturbed) == before


def test_same_seed_gives_the_same_run_and_another_seed_another_run(
    undisturbed: Path, tmp_path: Path
) -> None:
    run(short(), tmp_path / "same")
    run(short("seed=1"), tmp_path / "other")
    assert content(tmp_path / "same") == content(undisturbed)
    assert (tmp_path / "other/metrics.jsonl").read_bytes() != content(undisturbed)["metrics.jsonl"]


def test_random_state_and_threads_of_the_caller_stay_as_they_are(tmp_path: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    run(short("trainer.max_steps=2"), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_run_takes_as_many_threads_as_there_are_cores_and_keeps_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, run_dir = short("trainer.max_steps=2", "threads=null"), tmp_path / "run"
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    monkeypatch.setattr("gan.run.rounding.core_count", lambda: 2)
    fail_at(2, cfg, run_dir)
    assert read_config(run_dir).threads == 2
    monkeypatch.setattr("gan.run.rounding.core_count", lambda: 64)
    run(cfg, run_dir)
    assert read_config(run_dir).threads == 2


def test_evaluation_and_logging_do_not_change_the_weights(
    undisturbed: Path, tmp_path: Path
) -> None:
    run(short("metrics=none", "logging=quiet", "logging.every=40"), tmp_path / "run")
    for name in ("generator", "discriminator"):
        ours, theirs = (
            torch.load(checkpoint_paths(path)[0], weights_only=True)[name]
            for path in (tmp_path / "run", undisturbed)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("step", [1, 13, 37])
def test_stopped_run_resumes_bit_for_bit(
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    step: int,
) -> None:
    run_dir = tmp_path / "run"
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, lambda: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted) as stopped:
            run(short(), run_dir)
    assert stopped.value.exit_code == 128 + number
    assert f"{number.name} after step {step} of 40" in str(stopped.value)
    assert signal.getsignal(number) == handler
    result = read_result(run_dir)
    assert result is not None
    assert (result["status"], result["steps"]) == ("interrupted", step)
    run(short(), run_dir)
    assert content(run_dir) == content(undisturbed)


@pytest.mark.parametrize("step", [5, 24])
def test_run_that_raised_an_error_resumes_bit_for_bit(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run_dir = tmp_path / "run"

    def fail() -> None:
        raise RuntimeError("out of paper")

    with monkeypatch.context() as patch:
        interrupt_at(patch, step, fail)
        with pytest.raises(RuntimeError, match="out of paper"):
            run(short(), run_dir)
    result = read_result(run_dir)
    assert result is not None
    assert (result["status"], result["error"]) == ("failed", "RuntimeError: out of paper")
    run(short(), run_dir)
    assert content(run_dir) == content(undisturbed)


def test_killed_run_resumes_bit_for_bit(tmp_path: Path, data_root: Path) -> None:
    """SIGKILL comes at moments spread over the run."""
    overrides = [*SHORT, "trainer.max_steps=400", "logging.samples_every=50"]
    run(compose(*overrides), tmp_path / "undisturbed")
    run_dir = tmp_path / "run"
    command = [sys.executable, str(SCRIPTS / "train.py"), *overrides, f"hydra.run.dir={run_dir}"]
    for least in (1, 100, 250):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and (not checkpoint_paths(run_dir) or _step(run_dir) < least):
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert read_result(run_dir) is None, "the run ended before it was killed"
    subprocess.run([sys.executable, str(SCRIPTS / "resume.py"), str(run_dir)], check=True)
    assert content(run_dir) == content(tmp_path / "undisturbed")


def _step(run_dir: Path) -> int:
    return int(checkpoint_paths(run_dir)[0].stem.removeprefix("step-"))


def test_checkpoint_before_a_damaged_one_is_used(
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for damage in ("truncated", "flipped", "empty"):
        run_dir = tmp_path / damage
        with monkeypatch.context() as patch:
            interrupt_at(patch, 33, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(Interrupted):
                run(short(), run_dir)
        newest = checkpoint_paths(run_dir)[0]
        data = bytearray(newest.read_bytes())
        if damage == "flipped":
            data[len(data) // 2] ^= 1
        newest.write_bytes(
            {"truncated": bytes(data[:-100]), "flipped": bytes(data), "empty": b""}[damage]
        )
        caplog.clear()
        run(short(), run_dir)
        assert f"{newest.name}: is damaged" in caplog.text
        assert content(run_dir) == content(undisturbed)


def test_other_configuration_is_refused_unless_the_result_is_the_same(undisturbed: Path) -> None:
    before = content(undisturbed)
    with pytest.raises(UserError, match=r"has optimizer\.lr=0\.0002, not 0\.001"):
        run(short("optimizer.lr=1e-3"), undisturbed)
    run(short("name=other", "logging=quiet", "device=cpu", "notes=hello"), undisturbed)
    assert content(undisturbed) == before


def test_second_process_is_kept_out_of_a_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"

    def second() -> None:
        with pytest.raises(UserError, match="another process is at work"):
            run(short(), run_dir)

    interrupt_at(monkeypatch, 3, second)
    run(short(), run_dir)
    result = read_result(run_dir)
    assert result is not None
    assert result["status"] == "completed"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_ends_the_run_as_diverged_at_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    import gan.step

    steps = 0

    def with_wrong_loss(trained: TrainableGAN, batch: Batch, kind: StepKind) -> StepResult:
        nonlocal steps
        steps += 1
        result = train_step(trained, batch, kind)
        error = value if steps == 17 else 0.0
        return result._replace(statistics=result.statistics + error)

    monkeypatch.setattr(gan.step, "train_step", with_wrong_loss)
    run_dir = tmp_path / "run"
    assert run(short(), run_dir) == math.inf
    result = json.loads((run_dir / "result.json").read_text(), parse_constant=pytest.fail)
    assert (result["status"], result["steps"], result["objective"]) == ("diverged", 17, None)
    assert result["error"] == "a loss is not finite"
    assert [record["step"] for record in read_records(run_dir)] == [7, 14, 15]
    assert steps < 22, "it trained on"
    assert run(short(), run_dir) == math.inf


def test_full_disk_is_a_mistake_of_the_user_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk = Path("/dev/full")
    if not full_disk.exists():
        pytest.skip("this system has no /dev/full")

    class OnFullDisk(Records):
        def __init__(self, run_dir: Path, *, tensorboard: bool, scheduled: bool):
            super().__init__(run_dir, tensorboard=tensorboard, scheduled=scheduled)
            self._metrics.close()
            self._metrics = full_disk.open("a")

    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("gan.run.run.Records", OnFullDisk)
        with pytest.raises(UserError) as refused:
            run(short(), run_dir)
    assert str(refused.value) == (
        f"{run_dir}: cannot be written (No space left on device); "
        f"make room, then continue with: {command_line('resume', run_dir)}"
    )
    result = read_result(run_dir)
    assert result is not None
    assert (result["status"], result["steps"]) == ("failed", 7)


def test_far_too_high_learning_rate_diverges(tmp_path: Path) -> None:
    overrides = ("optimizer=sgd", "optimizer.lr=1e30", "logging=quiet", "trainer.max_steps=100")
    assert run(short(*overrides), tmp_path / "run") == math.inf
    result = read_result(tmp_path / "run")
    assert result is not None
    assert result["status"] == "diverged"
    assert result["steps"] < 100


def test_run_that_cannot_be_begun_again_is_left_as_it_is(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(short("trainer.max_steps=12"), run_dir)
    before = content(run_dir)
    with pytest.raises(UserError, match="device=cuda:99: not on this machine"):
        resume([run_dir], ResumeOptions(restart=True, device="cuda:99"))
    for options, name in (
        (ResumeOptions(stop=True), "stop"),
        (ResumeOptions(detach=True), "detach"),
        (ResumeOptions(n_jobs=2), "n_jobs"),
        (ResumeOptions(retry_failed=True), "retry_failed"),
    ):
        with pytest.raises(UserError, match=f"^{name}=.*: is about a sweep, and .* is a run"):
            resume([run_dir], options)
    assert content(run_dir) == before
    assert read_result(run_dir)


def test_run_that_begins_again_loses_what_measured_its_old_weights(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run(short("trainer.max_steps=12"), run_dir)
    before = content(run_dir)
    evaluation = run_dir / "metrics-fast.json"
    evaluation.write_text("{}")
    resume([run_dir], ResumeOptions(restart=True))
    assert content(run_dir) == before
    assert not evaluation.exists()


def test_checkpoint_of_other_networks_is_named_and_changes_nothing(tmp_path: Path) -> None:
    """The code of a model may change after a run has ended."""
    run_dir = tmp_path / "run"
    run(short("trainer.max_steps=12"), run_dir)
    saved = load_newest_checkpoint(run_dir)
    assert saved
    for role in ("generator", "discriminator"):
        name = list(saved[role])[-1]
        saved[role][name] = torch.zeros(3)
    save_checkpoint(run_dir, saved)
    before = content(run_dir)
    named = r"run: the generator's weight '.*' has shape \(3,\) there and \(.*\) here; the code"
    with pytest.raises(UserError, match=named):
        resume([run_dir], ResumeOptions(max_steps=20))
    with pytest.raises(UserError, match=named):
        load_generator(run_dir)
    assert content(run_dir) == before
    result = read_result(run_dir)
    assert result
    assert (result["status"], read_config(run_dir).trainer.max_steps) == ("completed", 12)
