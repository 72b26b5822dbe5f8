"""Runs whose files are not as they were left: what is kept, what is said, what is refused."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import content, fail_at, interrupt_at
from sweep_commands import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan.commands import resume
from gan.config.compose import compose
from gan.errors import UserError
from gan.run.checkpoint import checkpoint_paths, load_newest_checkpoint, save_checkpoint
from gan.run.directory import read_config
from gan.run.result import read_records, read_result
from gan.run.tensorboard import event_files
from gan.train import run

OVERRIDES = [*TINY, "model.hidden_dim=8", "logging.tensorboard=true", "logging.every=5"]
Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A finished run of 30 steps."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    run(compose(*OVERRIDES), path, overrides=OVERRIDES)
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """The same run, stopped after step 27. Its checkpoints are those of steps 10 and 20."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    fail_at(28, compose(*OVERRIDES), path, OVERRIDES)
    return path


@pytest.fixture
def run_dir(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def go_on(run_dir: Path, *, restart: bool = False) -> None:
    """Resume a run in this process."""
    resume.resume([run_dir], resume.Options(restart=restart))


def everything(run_dir: Path) -> dict[Path, bytes]:
    """Return the content of every file of a run but its log."""
    paths = (path for path in run_dir.rglob("*") if path.is_file() and path.name != "train.log")
    return {path: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        (lambda old: b"", [25, 30]),
        (lambda old: old[: len(old) // 2], [5, 10, 25, 30]),
        (lambda old: old[: len(old) // 2] + b"\xff\0" * len(old), [5, 10, 25, 30]),
        (lambda old: old.replace(b'"step": 10,', b'"step": x,'), [5, 15, 20, 25, 30]),
    ],
)
def test_damaged_records_are_left_out_with_a_line_and_the_run_ends(
    run_dir: Path, caplog: pytest.LogCaptureFixture, change: Change, steps: list[int]
) -> None:
    metrics = run_dir / "metrics.jsonl"
    metrics.write_bytes(change(metrics.read_bytes()))
    go_on(run_dir)
    assert f"{metrics}: was damaged before step 20" in caplog.text
    assert [record["step"] for record in read_records(run_dir)] == steps
    assert metrics.read_text().count("\n") == len(steps)
    result = read_result(run_dir)
    assert result is not None
    assert (result["status"], result["steps"]) == ("completed", 30)


def test_records_that_were_mended_are_not_repeated_by_the_next_resume(
    run_dir: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = run_dir / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-1000])

    def stop() -> None:
        raise RuntimeError("stop")

    with monkeypatch.context() as patch:
        interrupt_at(patch, 8, stop)  # step 28
        with pytest.raises(RuntimeError, match="stop"):
            go_on(run_dir)
    go_on(run_dir)
    steps = [record["step"] for record in read_records(run_dir)]
    assert steps == sorted(set(steps))
    assert read_records(run_dir)[-2:] == read_records(undisturbed)[-2:]


@pytest.mark.parametrize("damage", ["all are damaged", "all are gone"])
def test_run_begins_again_only_when_told_if_no_checkpoint_is_left(
    run_dir: Path, undisturbed: Path, damage: str
) -> None:
    for path in checkpoint_paths(run_dir):
        path.write_bytes(path.read_bytes()[:-200]) if "damaged" in damage else path.unlink()
    # The log says so as well, and a failed run has a result.
    before = {path: old for path, old in everything(run_dir).items() if path.name != "result.json"}
    with pytest.raises(UserError, match=r"restart=true") as caught:
        go_on(run_dir)
    assert "\n" not in str(caught.value)
    assert str(run_dir) in str(caught.value)
    assert before.items() <= everything(run_dir).items()
    go_on(run_dir, restart=True)
    assert content(run_dir) == content(undisturbed)


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), MemoryError(), OSError(5, "I/O")])
def test_fault_that_passes_is_no_damage(
    run_dir: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: object, **settings: object) -> object:
        raise error

    before = {path: old for path, old in everything(run_dir).items() if path.name != "result.json"}
    for place in ("torch.load", "gan.run.checkpoint._refuse_damage"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            with pytest.raises(UserError, match=r"step-00000020\.pt: cannot be read \(.*again"):
                go_on(run_dir)
        assert before.items() <= everything(run_dir).items()
    go_on(run_dir)
    assert content(run_dir) == content(undisturbed)


def test_changed_bit_anywhere_in_a_checkpoint_is_noticed(run_dir: Path) -> None:
    newest = checkpoint_paths(run_dir)[0]
    whole = newest.read_bytes()
    random = torch.Generator().manual_seed(0)
    end = len(whole) - len("gan-sweeps crc32 01234567")
    for place in [*torch.randint(end, (40,), generator=random).tolist(), end - 1]:
        newest.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        loaded = load_newest_checkpoint(run_dir)
        assert loaded is not None
        assert loaded["step"] == 10, place


def test_checkpoint_of_an_earlier_version_goes_on_bit_for_bit(
    run_dir: Path, undisturbed: Path
) -> None:
    name_of_events = event_files(run_dir)[0].name
    for path in checkpoint_paths(run_dir):
        old = torch.load(path, weights_only=True)
        old["marks"] = {name: size for name, (size, _) in old["marks"].items()}
        torch.save(old, path)
    for name in ("config.yaml", "overrides.yaml"):
        first, _, rest = (run_dir / name).read_text().partition("\n")
        assert first.startswith("# ")
        (run_dir / name).write_text(rest)
    go_on(run_dir)
    assert content(run_dir) == content(undisturbed)
    assert event_files(run_dir)[0].name == name_of_events


@pytest.mark.parametrize("size", [0, 0.1, 0.3, 0.6, 0.9, 1.0])
def test_damaged_event_file_is_written_again_from_the_records(
    run_dir: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture, size: float
) -> None:
    (path,) = event_files(run_dir)
    old = path.read_bytes()
    path.write_bytes(old[: int(size * len(old))])
    if size == 1.0:
        path.write_bytes(old[:5000] + b"\0" * 10 + old[5010:])
    go_on(run_dir)
    (again,) = event_files(run_dir)
    if size != 0.9:  # The last steps before the stop are written again in any case.
        assert f"{run_dir}: has no whole event file up to step 20" in caplog.text
    seen, right = (EventAccumulator(str(path)) for path in (again, undisturbed))
    seen.Reload()
    right.Reload()
    tags = set(right.Tags()["scalars"]) - {"images_per_second"}
    assert set(seen.Tags()["scalars"]) - {"images_per_second"} == tags
    for tag in tags:
        values = [[(e.step, e.value) for e in events.Scalars(tag)] for events in (seen, right)]
        assert dict(values[0]).items() >= dict(values[1]).items(), tag
        steps = [step for step, _ in values[0]]
        assert steps == sorted({*steps}), tag
    steps = [event.step for event in seen.Images("samples")]
    assert steps == [event.step for event in right.Images("samples")] == [0, 10, 20, 30]
    assert seen.Graph()


def test_event_file_that_is_lost_at_the_end_is_whole_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    (run_dir / "result.json").unlink()
    event_files(run_dir)[0].unlink()
    go_on(run_dir)
    events = EventAccumulator(str(event_files(run_dir)[0]))
    events.Reload()
    assert [event.step for event in events.Scalars("D and G/loss of G")] == [5, 10, 15, 20, 25, 30]
    assert events.Graph()
    assert content(run_dir) == content(undisturbed)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace("lr: 0.0002", "lr: 0.0003"), "the checksum of another content"),
        (lambda text: text[: len(text) // 2], "is damaged; restore it"),
        (lambda text: text.partition("\n")[2][: len(text) // 2], "is damaged; restore it"),
        (lambda text: "", "is damaged; restore it"),
        (lambda text: text.partition("\n")[2] + "\0", "is damaged; restore it"),
    ],
)
def test_damaged_configuration_is_refused_and_nothing_is_changed(
    run_dir: Path, change: Callable[[str], str], problem: str
) -> None:
    path = run_dir / "config.yaml"
    path.write_text(change(path.read_text()))
    before = everything(run_dir)
    for go in (go_on, lambda at: run(compose(*OVERRIDES), at)):
        with pytest.raises(UserError, match=re.escape(str(path))) as caught:
            go(run_dir)
        assert problem in str(caught.value)
    assert everything(run_dir) == before


def test_configuration_that_someone_changed_counts_without_its_checksum(run_dir: Path) -> None:
    path = run_dir / "config.yaml"
    text = path.read_text().partition("\n")[2]
    path.write_text(text.replace("notes: ''", "notes: mine"))
    assert read_config(run_dir).notes == "mine"


def test_history_without_a_configuration_is_neither_continued_nor_changed(run_dir: Path) -> None:
    (run_dir / "config.yaml").unlink()
    before = everything(run_dir)
    for overrides in ([], ["optimizer.lr=1e-3"]):
        with pytest.raises(UserError, match=r"config\.yaml: is missing"):
            run(compose(*OVERRIDES, *overrides), run_dir, overrides=overrides)
    assert everything(run_dir) == before


def test_overrides_real_samples_and_those_of_untrained_networks_are_written_again(
    run_dir: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(run_dir / "overrides.yaml", 100)
    (run_dir / "samples" / "real.png").write_bytes(b"")
    os.truncate(run_dir / "samples" / "step-000000.png", 100)
    run(compose(*OVERRIDES), run_dir, overrides=OVERRIDES)
    assert "overrides.yaml: was missing or damaged; it is written again" in caplog.text
    for name in ("overrides.yaml", "samples/real.png", "samples/step-000000.png"):
        assert (run_dir / name).read_bytes() == (undisturbed / name).read_bytes()


def test_lost_pictures_are_named(run_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost, cut = (run_dir / "samples" / f"step-0000{step}.png" for step in (10, 20))
    lost.unlink()
    os.truncate(cut, 100)
    go_on(run_dir)
    for path in (lost, cut):
        assert f"{path}: is missing or was damaged, and is not drawn again" in caplog.text
        assert not path.exists()


def test_whole_checkpoint_of_other_values_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"step": 1})
    newest = checkpoint_paths(tmp_path)[0]
    torch.save({"step": Path("x")}, newest)
    with pytest.raises(UserError, match="other values than tensors"):
        load_newest_checkpoint(tmp_path)
