"""A copy of a run is no further repetition of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run, make_sweep

from gan.compare.figures import write_figures
from gan.compare.frame import load, read_table
from gan.compare.importance import importance
from gan.compare.page import page_data
from gan.compare.rank import rank


def set_result(run: Path, **facts: Any) -> None:
    """Change entries of a run's result.json."""
    path = run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_sweep_compared_with_its_own_copy_has_the_statistics_of_the_sweep(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep", seeds=5)
    copy = shutil.copytree(sweep, tmp_path / "copy")
    alone, both = read_table([sweep]), read_table([sweep, copy])
    before, after = (rank(table, "seed", "sliced_wasserstein") for table in (alone, both))
    assert before.frame.equals(after.frame)
    assert after.frame["n"].tolist() == [5, 5, 5, 5]
    assert importance(both) == importance(alone)
    for table, name in ((alone, "a"), (both, "b")):
        write_figures(table, tmp_path / name, "sliced_wasserstein")
    for figure in (tmp_path / "a").iterdir():
        assert figure.read_bytes() == (tmp_path / "b" / figure.name).read_bytes()
    page = page_data(both, "")
    assert page["ranking"]["rows"] == page_data(alone, "")["ranking"]["rows"]
    assert [page["rows"][row][0].split("/")[0] for row in page["copies"]] == ["copy"] * 20
    (note,) = both.notes
    assert note in page["notes"]
    assert note.startswith(f"20 of 40 runs, such as {copy}")
    assert not alone.notes


def test_the_table_names_the_run_that_a_copy_repeats(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / "a" / str(seed), f"seed={seed}")
    make_run(tmp_path / "b" / "again", "seed=1", "name=other", "device=cpu")
    with pytest.warns(UserWarning, match="1 of 4 runs, such as .*again, repeat"):
        frame = load(tmp_path).set_index("run")
    assert frame["copy_of"]["again"] == str(tmp_path / "a" / "1")
    assert frame["copy_of"].isna().sum() == 3
    assert "copy_of" not in load(tmp_path / "a")


def test_one_directory_under_two_names_is_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    assert len(load(run, tmp_path / "link", tmp_path / ".." / tmp_path.name)) == 1


def test_a_finished_run_counts_rather_than_its_unfinished_copy(tmp_path: Path) -> None:
    make_run(tmp_path / "a", status="interrupted", points=2)
    make_run(tmp_path / "b", status=None, points=4)
    make_run(tmp_path / "c", data_hash="1")
    make_run(tmp_path / "d", data_hash="1")
    frame = read_table([tmp_path]).frame.set_index("run")
    assert frame["copy_of"].isna().to_dict() == {"a": False, "b": False, "c": True, "d": False}
    shutil.rmtree(tmp_path / "c")
    shutil.rmtree(tmp_path / "d")
    frame = read_table([tmp_path]).frame.set_index("run")
    assert frame["copy_of"].isna().to_dict() == {"a": False, "b": True}


def test_a_repetition_with_another_result_is_told_and_not_averaged(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / "cpu" / str(seed), f"seed={seed}", value=0.1, device="cpu")
        make_run(tmp_path / "gpu" / str(seed), f"seed={seed}", value=0.2, device="cuda:0")
    table = read_table([tmp_path])
    frame = rank(table, "seed", "sliced_wasserstein").frame
    assert frame[["n", "median"]].values.tolist() == [[3, 0.1]]
    assert "3 of these had another result" in table.notes[1]
    assert "gpu/0 (device cuda:0) beside" in table.notes[1]
    assert table.notes[1].endswith("cpu/0 (device cpu)")


def test_runs_on_other_data_are_no_repetitions_and_have_ranks_of_their_own(tmp_path: Path) -> None:
    for content in ("old", "new"):
        for seed in range(3):
            make_run(tmp_path / content / str(seed), f"seed={seed}", data_hash=content)
    table = read_table([tmp_path])
    assert "copy_of" not in table.frame
    frame = rank(table, "seed", "sliced_wasserstein").frame
    assert frame.set_index("data_hash")["n"].to_dict() == {"new": 3, "old": 3}


def test_runs_whose_configuration_is_lost_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run = make_run(tmp_path / name)
        (run / "config.yaml").write_text("model: [")
    assert "copy_of" not in load(tmp_path)
