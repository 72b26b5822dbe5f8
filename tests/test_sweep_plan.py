"""Planning: what a command line asks for, before any run starts."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from sweep_cases import composed

from gan.config.compose import CONF_DIR, explain
from gan.errors import JobsFailed, UserError
from gan.run.result import write_result
from gan.sweep.composer import Composer, plain
from gan.sweep.directory import Sweep, owned, read_sweep
from gan.sweep.grid import grid
from gan.sweep.launch import launch, raise_failure


class Runs:
    """Stands in for running: each job completes, with its seed as the objective."""

    def __init__(self, status: str = "completed") -> None:
        self.status = status
        self.names: list[str] = []

    def __call__(self, sweep: Sweep, names: list[str]) -> None:
        self.names = names
        for name in names:
            sweep.run_dir(name).mkdir()
            seed = sweep.jobs[name].config["seed"]
            result = {"status": self.status, "objective": seed, "steps": 1, "seconds": 10.0}
            write_result(sweep.run_dir(name), result)


def sweep(
    path: Path, *overrides: str, runs: Runs | None = None, conf: Path = CONF_DIR
) -> Sequence[JobReturn]:
    """What a sweeper gets for a command line."""
    master, loader = composed(*overrides, f"hydra.sweep.dir={path}", conf=conf)
    points = grid(loader, list(master.hydra.overrides.task), {})
    return launch(master, loader, points, runs or Runs())


def names(path: Path, *overrides: str, conf: Path = CONF_DIR) -> list[str]:
    """The jobs that are run for a command line."""
    runs = Runs()
    sweep(path, *overrides, runs=runs, conf=conf)
    return runs.names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


def test_composer_agrees_with_hydra() -> None:
    master, loader = composed()
    composer = Composer(loader, master)
    points = [
        ["optimizer.lr=1e-3", "model=small", "model.hidden_dim=7"],
        ["model.hidden_dim=7", "model=large", "optimizer=sgd", "optimizer.momentum=0.5"],
        ["experiment=lab", "optimizer.betas=[0.1,0.2]", "trainer.max_epochs=2", "tags=[a,b]"],
        ["penalty=none", "notes='a, b'", "trainer={max_steps:5,batch_size:3}", "name=x"],
    ]
    for point in points * 2:
        expected = loader.load_sweep_config(master, point)
        del expected.__dict__["_content"]["hydra"]
        assert plain(composer.compose(point)) == plain(expected)


def test_every_combination_once(path: Path) -> None:
    found = names(path, "optimizer.lr=1e-4,2e-4", "model.hidden_dim=32,64", "seed=1")
    assert found == [
        "hidden_dim=32,lr=0.0001",
        "hidden_dim=64,lr=0.0001",
        "hidden_dim=32,lr=0.0002",
        "hidden_dim=64,lr=0.0002",
    ]


def test_the_grid_is_of_the_command_line_and_the_settings() -> None:
    _, loader = composed()
    points = grid(loader, ["a=1", "b=range(2)"], {"c": "x,y", "b": "7,8", "d": 3})
    assert points == [[f"c={c}", "d=3", "a=1", f"b={b}"] for c in "xy" for b in (0, 1)]


def test_the_same_run_asked_for_twice_runs_once(path: Path) -> None:
    runs = Runs()
    returned = sweep(path, "optimizer.lr=1e-4,0.0001,2e-4", runs=runs)
    assert runs.names == ["lr=0.0001", "lr=0.0002"]
    assert [job.return_value for job in returned] == [0, 0, 0]


def test_seeds_repeat_a_point_and_the_sweeper_sees_the_median(path: Path) -> None:
    runs = Runs()
    returned = sweep(path, "optimizer.lr=1e-4,2e-4", "seed=3", "sweep.seeds=3", runs=runs)
    assert runs.names[:3] == ["lr=0.0001,seed=3", "lr=0.0001,seed=4", "lr=0.0001,seed=5"]
    assert [job.return_value for job in returned] == [4, 4]
    stored = read_sweep(path)
    assert stored
    job = stored.jobs["lr=0.0001,seed=5"]
    assert job.config["seed"] == 5
    assert job.overrides == ["optimizer.lr=0.0001", "seed=5"]
    assert "sweep" not in job.config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.lr=0,1e-4"], r"^optimizer\.lr=0\.0: must be above 0$"),
        (["device=cpu,cuda"], "^device: cannot be swept over, a run ends the same"),
        (["logging=quiet,tensorboard"], "^logging: cannot be swept over"),
        (["data.root=a,b"], r"^data\.root: cannot be swept over"),
        (["seed=range(5,5)"], "^an empty sweep"),
        (["seed=3"], "^nothing is swept"),
        (["optimizer.lr=interval(0,1)"], "a grid needs values"),
        (["seed=1,2", "sweep.seeds=2"], r"^sweep\.seeds=2: the seed is swept as well"),
        (["seed=1,2", "sweep.seeds=0"], r"^sweep\.seeds=0: must be at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused(path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweep(path, *overrides)
    assert not path.exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lrr=1,2", "optimizer.lrr=1,2: unknown key 'optimizer.lrr'; did you mean 'lr'?"),
        ("optimizer.lr=1e-3,abc", "optimizer.lr=abc: must be a number"),
        ("hydra.launcher.n_jbs=1", "unknown key 'hydra.launcher.n_jbs'; did you mean 'n_jobs'?"),
        ("model=small,larg", "model=larg: no such option; allowed: base, dcgan"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(path: Path, override: str, message: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)) as error:
        sweep(path, "seed=1,2", override)
    assert message in explain(error.value, ["seed=1,2", override])
    assert not path.exists()


def test_done_jobs_are_not_run_again(path: Path) -> None:
    assert len(names(path, "seed=1,2")) == 2
    assert names(path, "seed=1,2") == []


def test_a_failed_job_is_run_again_on_request(path: Path) -> None:
    returned = sweep(path, "seed=1,2", runs=Runs("failed"))
    assert all(job.status == JobStatus.FAILED for job in returned)
    with pytest.raises(JobsFailed, match="2 of 2 runs failed"):
        raise_failure(returned)
    assert names(path, "seed=1,2") == []
    stored = read_sweep(path)
    assert stored
    assert stored.pending(list(stored.jobs), retry_failed=True) == ["seed=1", "seed=2"]


def test_new_points_extend_a_sweep(path: Path) -> None:
    names(path, "optimizer.lr=1e-4,2e-4", "trainer.max_steps=7")
    assert names(path, "optimizer.lr=1e-4,4e-4", "trainer.max_steps=7") == ["lr=0.0004"]
    assert names(path, "optimizer.lr=8e-4", "trainer.max_steps=7") == ["lr=0.0008"]
    seeds = ["optimizer.lr=1e-4,2e-4", "trainer.max_steps=7", "seed=0,1"]
    assert names(path, *seeds) == ["lr=0.0001,seed=1", "lr=0.0002,seed=1"]
    stored = read_sweep(path)
    assert stored
    assert len(stored.jobs) == 6


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (
            ["trainer.max_steps=8"],
            "trainer.max_steps=8: the sweep in .* trainer.max_steps=7, not 8",
        ),
        (["trainer.max_steps=7", "model=small"], "model=small: .* model.hidden_dim=256, not 128"),
        (["trainer.max_steps=7", "optimizer.eps=1e-7"], "optimizer.eps=1e-07: "),
        ([], "trainer.max_steps=default: .* trainer.max_steps=7, not "),
    ],
)
def test_another_fixed_value_is_refused(path: Path, overrides: list[str], key: str) -> None:
    names(path, "optimizer.lr=1e-4,2e-4", "trainer.max_steps=7")
    before = (path / "jobs.jsonl").read_bytes()
    with pytest.raises(UserError, match=key):
        sweep(path, "optimizer.lr=1e-4,4e-4", *overrides)
    assert (path / "jobs.jsonl").read_bytes() == before


def test_keys_that_leave_the_result_alone_may_change(path: Path) -> None:
    names(path, "seed=1,2")
    assert names(path, "seed=1,2,3", "device=cpu", "logging=quiet", "notes=again") == ["seed=3"]
    stored = read_sweep(path)
    assert stored
    assert [job.config["device"] for job in stored.jobs.values()] == ["cpu"] * 3


def test_a_changed_yaml_does_not_leak_in(path: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    names(path, "seed=1,2", "model=small", conf=conf)
    for name in ("model/small", "optimizer/adam", "trainer/default"):
        file = conf / f"{name}.yaml"
        changed = file.read_text().replace("hidden_dim: 128", "hidden_dim: 999")
        changed = changed.replace("2e-4", "9e-4").replace("batch_size: 128", "batch_size: 9")
        assert changed != file.read_text()
        file.write_text(changed)
    assert names(path, "seed=1,2", "model=small", conf=conf) == []
    assert names(path, "seed=1,2,3", "model=small", conf=conf) == ["seed=3"]
    stored = read_sweep(path)
    assert stored
    for job in stored.jobs.values():
        assert job.config["model"]["hidden_dim"] == 128
        assert job.config["optimizer"]["lr"] == 2e-4
        assert job.config["trainer"]["batch_size"] == 128


def test_dry_run_tells_and_leaves_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(path, "seed=1,2", "sweep.dry_run=true") == []
    assert not path.exists()
    out = capsys.readouterr().out
    assert "2 runs, 0 settled, 2 to run" in out
    assert "no finished run to estimate" in out
    names(path, "seed=1,2", "hydra.launcher.n_jobs=1")
    capsys.readouterr()
    before = (path / "sweep.json").read_bytes()
    names(path, "seed=1,2,3,4", "sweep.dry_run=true", "hydra.launcher.n_jobs=1")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["seed=1", "done"] in rows
    assert ["seed=4", "new", "run"] in rows
    assert "2 to run: about 20 s, 1 at a time" in " ".join(rows[-1])
    assert (path / "sweep.json").read_bytes() == before


def test_a_directory_that_is_no_sweep_is_refused(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not a sweep directory and not empty"):
        sweep(path, "seed=1,2")
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]


def test_a_sweep_of_another_version_is_refused(path: Path) -> None:
    names(path, "seed=1,2")
    facts = json.loads((path / "sweep.json").read_text())
    (path / "sweep.json").write_text(json.dumps(facts | {"version": "0.0.1"}))
    with pytest.raises(UserError, match=r"made by gan-sweeps 0\.0\.1"):
        sweep(path, "seed=1,2")
    (path / "sweep.json").write_text("[]")
    with pytest.raises(UserError, match="is not one of gan-sweeps"):
        sweep(path, "seed=1,2")


def test_a_second_process_is_refused_and_told_the_owner(path: Path) -> None:
    with owned(path), pytest.raises(UserError, match=r"process \d+ on .* is at work"):
        sweep(path, "seed=1,2")
    assert names(path, "seed=1,2") == ["seed=1", "seed=2"]


@pytest.mark.parametrize("left", [[], ["multirun.yaml"], ["jobs.jsonl", "conf", ".lock"]])
def test_an_empty_directory_or_one_just_begun_will_do(path: Path, left: list[str]) -> None:
    path.mkdir()
    for name in left:
        (path / name).touch() if "." in name else (path / name).mkdir()
    assert len(names(path, "seed=1,2")) == 2
