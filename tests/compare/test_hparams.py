"""TensorBoard's tab HPARAMS, as `gan board` fills it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import short
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from gan.compare.hparams import VariedHParams
from gan.run.result import read_records
from gan.train import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that trained from start to end."""
    run_dir = tmp_path_factory.mktemp("hparams") / "finished"
    run(short("trainer.max_steps=4"), run_dir, overrides=["optimizer.lr=2e-4", "model=base"])
    return run_dir


def hparams_table(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns and the rows that `gan board` gives to TensorBoard's HPARAMS tab."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(folder))
    plugin = VariedHParams(TBContext(data_provider=provider, logdir=str(folder)))
    apps = plugin.get_plugin_apps()
    client = Client(lambda env, start: apps[env["PATH_INFO"]](env, start))
    experiment = client.post("/experiment", json={}).get_json()
    columns = {info["name"]: info for info in experiment["hparamInfos"]}
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    wanted = [{"hparam": name, "order": "ORDER_ASC"} for name in columns]
    request = {"allowedStatuses": statuses, "colParams": wanted, "startIndex": 0, "sliceSize": 99}
    groups = client.post("/session_groups", json=request).get_json()["sessionGroups"]
    return columns, {group["name"]: group for group in groups}


def test_run_is_one_row_of_the_hparams_table(finished: Path) -> None:
    columns, rows = hparams_table(finished.parent)
    (row,) = rows.values()
    assert row["hparams"]["optimizer.lr"] == 2e-4
    assert row["hparams"]["loss"] == "non_saturating"
    assert row["sessions"][0]["status"] == "STATUS_SUCCESS"
    assert {"optimizer.lr", "model.hidden_dim", "seed"} <= columns.keys() == row["hparams"].keys()
    assert not any(info.get("differs") for info in columns.values())
    values = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
    last = read_records(finished)[-1]
    assert values["Metrics/sliced_wasserstein"] == pytest.approx(last["sliced_wasserstein"])
    assert list(values) == ["Metrics/sliced_wasserstein", "best/sliced_wasserstein"]


def test_hparams_has_a_column_for_what_was_varied_and_names_what_was_chosen(
    tmp_path: Path,
) -> None:
    fixed = ["model.hidden_dim=16", "metrics=none", "trainer.max_steps=2", "logging.every=2"]
    points = [
        ["optimizer.lr=1e-4", "penalty=none"],
        ["optimizer.lr=4e-4", "penalty=none"],
        ["optimizer.lr=1e-4", "penalty=wgan_gp"],
        ["recipe=hinge_sn"],
    ]
    for number, point in enumerate(points):
        cfg = short(*fixed, *point)
        chosen = dict(text.split("=") for text in point if "." not in text)
        choices = {"penalty": "none", "loss": "hinge" if "recipe" in chosen else "non_saturating"}
        words = [*fixed, *point]
        run(cfg, tmp_path / f"{number}", overrides=words, choices=choices | chosen)
    columns, rows = hparams_table(tmp_path)
    assert list(columns) == ["recipe", "penalty", "optimizer.lr"]
    assert all(info["differs"] for info in columns.values())
    assert {*columns["penalty"]["domainDiscrete"]} == {"none", "wgan_gp"}
    assert {*columns["recipe"]["domainDiscrete"]} == {"none", "hinge_sn"}
    assert columns["optimizer.lr"]["domainInterval"]["maxValue"] == 4e-4
    assert set(rows) == {"0", "1", "2", "3"}


def test_copies_of_a_run_have_rows_of_their_own(finished: Path, tmp_path: Path) -> None:
    for name in ("here", "elsewhere/there"):
        shutil.copytree(finished, tmp_path / name)
    assert set(hparams_table(tmp_path)[1]) == {"here", "elsewhere/there"}
