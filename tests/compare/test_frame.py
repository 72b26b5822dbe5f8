"""Runs become a table whose columns are what differs between them."""

import os
from pathlib import Path

import pytest
from fake_runs import make_run, make_sweep

from gan.compare.figures import write_figures
from gan.compare.frame import load, read_table
from gan.compare.page import write_page
from gan.config.compose import chosen_options, compose_unchecked
from gan.errors import UserError


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("compare") / "sweep")


def test_a_table_has_a_row_for_each_run_and_a_column_for_what_differs(sweep: Path) -> None:
    frame = load(sweep)
    assert list(frame)[:5] == ["run", "hidden_dim", "lr", "seed", "status"]
    assert len(frame) == 12
    row = frame.set_index("run").loc["hidden_dim=128,lr=0.001,seed=2"]
    assert (row["hidden_dim"], row["lr"], row["seed"]) == (128, 0.001, 2)
    assert row["sliced_wasserstein"] == row["best/sliced_wasserstein"] == pytest.approx(0.12)
    assert (row["steps"], row["images"], row["seconds"]) == (600, 76800, 12.0)
    assert row["images_per_second"] == 6400
    assert row["path"] == str(sweep / row.name)
    assert frame["status"].value_counts().to_dict() == {"completed": 11, "diverged": 1}


def test_further_keys_become_columns_on_demand(sweep: Path) -> None:
    frame = load(sweep, keys=["trainer.batch_size", "max_epochs"])
    assert set(frame["trainer.batch_size"]) == {128}
    assert frame["max_epochs"].isna().all()
    with pytest.raises(UserError, match="did you mean 'batch_size'"):
        load(sweep, keys=["batch_siz"])


def test_config_groups_and_lists_become_columns(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "loss=hinge", "optimizer.betas=[0.0,0.9]", "tags=[first]")
    make_run(tmp_path / "b", "penalty=none", "optimizer.betas=[0.5,0.9]", "device=cpu", "threads=1")
    frame = load(tmp_path)
    columns = list(frame)[: list(frame).index("status")]
    assert columns == ["run", "loss", "betas.0", "penalty", "penalty.interval", "tags"]
    assert list(frame["loss"]) == ["hinge", "non_saturating"]
    assert list(frame["penalty"]) == ["r1", "none"]
    assert list(frame["betas.0"]) == [0.0, 0.5]
    assert list(frame["tags"]) == ['["first"]', "[]"]


def chosen(*overrides: str) -> dict[str, str]:
    """Return the options that a command line chooses, as a result keeps them."""
    return chosen_options(compose_unchecked(overrides, with_hydra=True).hydra)


def test_what_was_chosen_by_name_is_shown_by_its_name(tmp_path: Path) -> None:
    for recipe in ("lab", "wgan_gp"):
        for model in ("small", "large"):
            overrides = [f"recipe={recipe}", f"model={model}"]
            make_run(tmp_path / recipe / model, *overrides, choices=chosen(*overrides))
    frame = load(tmp_path)
    assert list(frame)[:4] == ["run", "recipe", "model", "status"]
    assert sorted(zip(frame["recipe"], frame["model"], strict=True)) == [
        ("lab", "large"),
        ("lab", "small"),
        ("wgan_gp", "large"),
        ("wgan_gp", "small"),
    ]


def test_a_key_that_does_not_follow_from_what_was_chosen_is_shown(tmp_path: Path) -> None:
    for name, overrides in {
        "base": ["loss=hinge", "model=small"],
        "given": ["loss=wasserstein", "model=large", "model.hidden_layers=3"],
        "later": ["loss=wasserstein", "model=large"],
    }.items():
        make_run(tmp_path / name, *overrides, choices=chosen(*overrides))
    # As if the option had been edited between two runs.
    config = tmp_path / "later" / "config.yaml"
    config.write_text(config.read_text().replace("latent_dim: 100", "latent_dim: 50"))
    frame = load(tmp_path).set_index("run")
    assert list(frame)[:4] == ["loss", "model", "hidden_layers", "latent_dim"]
    assert frame["loss"].to_dict() == {
        "base": "hinge",
        "given": "wasserstein",
        "later": "wasserstein",
    }


def test_a_learning_rate_that_follows_another_is_not_a_column(tmp_path: Path) -> None:
    for lr in ("1e-3", "1e-4"):
        make_run(tmp_path / "same" / lr, f"optimizer.lr={lr}")
        make_run(tmp_path / "own" / lr, f"optimizer.lr={lr}", "discriminator_optimizer.lr=0.001")
    assert "lr" in load(tmp_path / "same")
    assert "discriminator_optimizer.lr" in load(tmp_path)
    assert "optimizer.lr" in load(tmp_path)


def test_later_measurements_are_columns(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics-fast.json").write_text('{"values": {"lenet_fid": 4.5}}')
    (run / "metrics-bad.json").write_text('{"values": 3')
    assert load(run)["fast/lenet_fid"].tolist() == [4.5]


def test_a_run_whose_name_is_not_utf8_is_shown_beside_the_others(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "plain", "seed=1")
    make_run(tmp_path / "runs" / os.fsdecode(b"r\xff"), "seed=2", "notes='\udcff'")
    table = read_table([tmp_path / "runs"])
    assert set(table.frame["run"]) == {"plain", "r\\udcff"}
    assert set(table.column("notes")) == {"", "\\udcff"}
    write_page(table, tmp_path / "page.html", "all")
    assert "udcff" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert write_figures(table, tmp_path / "figures", table.objective)


@pytest.mark.parametrize("time", [-5e9, 9e9, 14e9])
def test_a_clock_that_was_wrong_when_a_run_ended_harms_no_table(
    tmp_path: Path, time: float
) -> None:
    run = make_run(tmp_path / "wrong")
    make_run(tmp_path / "right", "seed=1")
    for path in run.iterdir():
        os.utime(path, (time, time))
    assert len(read_table([tmp_path]).frame) == 2


def test_a_verdict_is_a_column_if_any_run_has_one(tmp_path: Path) -> None:
    make_run(tmp_path / "good", "optimizer.lr=1e-4", verdict=None)
    assert "verdict" not in load(tmp_path)
    text = "samples are nearly alike since step 250: mode collapse; try penalty=r1"
    verdict = {"problem": "mode collapse", "since": 250, "text": text}
    make_run(tmp_path / "bad", "optimizer.lr=1e-3", verdict=verdict)
    table = read_table([tmp_path])
    columns = list(table.frame)
    assert columns[columns.index("status") + 1] == "verdict"
    assert table.frame["verdict"].fillna("").tolist() == ["mode collapse", ""]
    assert [run.remark for run in table.runs] == [text, None]


def test_a_run_that_still_trains_is_judged_by_its_records(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "penalty=none", status=None)
    lines = [
        f'{{"step": {step}, "samples/diversity": 0.01, "share/digit_1": 1.0}}\n'
        for step in (500, 1000, 1500)
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines))
    frame = load(tmp_path)
    assert frame["verdict"].tolist() == ["mode collapse"]
    assert "samples/diversity" in frame
    assert "share/digit_1" not in frame
    # A configuration that no run of this program has does no harm.
    config = (tmp_path / "run" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace("pac: 1", "pac: [x]"))
    assert len(load(tmp_path)) == 1
