"""Runs in MLflow, Weights & Biases and Trackio, read back from there."""

import importlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from runs import content, interrupt_at, short
from sweep_commands import (
    Begin,
    checkpoint_steps,
    execute,
    finish,
    kill,
    resume_command,
    sweep_command,
    training_processes,
    wait_until,
)

from gan.errors import Interrupted
from gan.run.provenance import read_provenance
from gan.run.result import read_records
from gan.train import run

pytestmark = pytest.mark.crosscheck


def train_twice(run_dir: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> list[int]:
    """Train a run that is interrupted once; return the steps of its records."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 23, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(short(*overrides), run_dir)
    run(short(*overrides), run_dir)
    run(short(), run_dir.with_name("alone"))
    assert content(run_dir) == content(run_dir.with_name("alone"))
    assert "WARNING" not in (run_dir / "train.log").read_text()
    return [record["step"] for record in read_records(run_dir)]


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """Return the address of an MLflow server on this machine."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: _answers(f"{address}/health"))
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_killed_sweep_goes_on_in_the_same_runs_of_an_mlflow_server(
    mlflow_server: str, tmp_path: Path, begin: Begin
) -> None:
    from mlflow import MlflowClient

    sweep = tmp_path / "sweep"
    tracked = ["logging=mlflow", f"logging.trackers.mlflow.tracking_uri={mlflow_server}"]
    swept = ["seed=0,1,2", "optimizer.lr=1e-4,1e-3", "trainer.max_steps=1000"]
    process = begin(sweep_command(sweep, *swept, *tracked))
    client = MlflowClient(mlflow_server)

    def stored() -> list[Any]:
        experiment = client.get_experiment_by_name("sweep")
        return list(client.search_runs([experiment.experiment_id])) if experiment else []

    wait_until(lambda: len(stored()) >= 2 and any(checkpoint_steps(sweep).values()))
    for pid in [process.pid, *training_processes(sweep).values()]:
        kill(pid)
    finish(process)
    before = {r.info.run_id for r in stored()}
    code, _, err = execute(resume_command(sweep))
    assert code == 0, err
    assert before <= {r.info.run_id for r in stored()}
    assert len(stored()) == 6
    for each in stored():
        assert each.info.status == "FINISHED"
        assert each.data.tags["status"] == "completed"
        records = read_records(sweep / each.info.run_name)
        assert each.data.params["optimizer.lr"] in ("0.0001", "0.001")
        for name in ("epoch", "loss/generator"):
            history = client.get_metric_history(each.info.run_id, name)
            assert {m.step: m.value for m in history} == {r["step"]: r[name] for r in records}
            assert len(history) == len(records)
        assert len(client.list_artifacts(each.info.run_id, "samples")) == 100


def test_a_run_goes_on_in_the_local_store_of_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.chdir(tmp_path)
    store = f"sqlite:///{tmp_path}/mlflow.db"
    steps = train_twice(
        tmp_path / "run",
        monkeypatch,
        "logging=mlflow",
        f"logging.trackers.mlflow.tracking_uri={store}",
    )
    client = mlflow.MlflowClient(store)
    (stored,) = client.search_runs([client.get_experiment_by_name("gan").experiment_id])
    assert stored.info.status == "FINISHED"
    assert sorted(m.step for m in client.get_metric_history(stored.info.run_id, "epoch")) == steps


def wandb_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a .wandb file, which has the format of LevelDB's logs."""
    header, block, place, record = 7, 32768, 7, b""
    while place + header <= len(content):
        if block - place % block < header:
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + header : place + header + length]
        place += header + length
        # A record is whole, or begins, goes on and ends.
        if kind in (1, 4):
            yield record
            record = b""


def test_a_run_goes_on_under_its_id_in_weights_and_biases_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    steps = train_twice(
        tmp_path / "run", monkeypatch, "logging=wandb", "logging.trackers.wandb.mode=offline"
    )
    provenance = read_provenance(tmp_path / "run")
    assert provenance
    files = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*/run-{provenance['id']}.wandb"))
    assert len(files) == 2
    logged = []
    for file in files:
        for data in wandb_records(file.read_bytes()):
            history = messages.Record.FromString(data).history
            values = {item.key or item.nested_key[0]: item.value_json for item in history.item}
            if "epoch" in values:
                logged.append(int(values["_step"]))
    assert logged == steps


def test_a_run_goes_on_in_the_local_store_of_trackio(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="the extra trackio is not installed")
    # Trackio reads TRACKIO_DIR once in each process.
    code = (
        "import os, signal, sys; from pathlib import Path; import pytest;"
        "from test_trackers_crosscheck import train_twice;"
        "print(train_twice(Path(sys.argv[1]), pytest.MonkeyPatch(), 'logging=trackio'))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        env=os.environ | {"TRACKIO_DIR": str(tmp_path / "store"), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout.splitlines()[-1])
    with sqlite3.connect(tmp_path / "store" / "gan.db") as store:
        rows = store.execute("select step, metrics, run_id from metrics order by id").fetchall()
    assert [step for step, metrics, _ in rows if b"epoch" in metrics] == steps
    assert len({run_id for _, _, run_id in rows}) == 1
    shutil.rmtree(tmp_path / "store")
