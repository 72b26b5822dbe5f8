"""From a command line to the jobs that are run, with runs that end at once."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from sweep_commands import compose_sweep, execute, sweep_command

from gan.config.compose import explain
from gan.config.loader import as_given
from gan.config.schema import CONF_DIR
from gan.errors import JobsFailed, NoAnswer, UserError
from gan.run.result import Status, write_result
from gan.sweep.directory import Sweep, owned, read_sweep
from gan.sweep.report import print_failures
from gan.sweep.space import read_space
from gan.sweep.sweep import Candidates, raise_failure, run_sweep


class InstantRuns:
    """A stand-in for a launcher: each job ends at once, with its seed as the objective."""

    def __init__(self, status: Status = Status.COMPLETED) -> None:
        self.status = status
        self.names: list[str] = []
        """The jobs that were to be run."""

    def __call__(self, sweep: Sweep, names: list[str]) -> None:
        self.names = names
        for name in names:
            sweep.run_dir(name).mkdir()
            seed = sweep.jobs[name].config["seed"]
            result = {"status": self.status.value, "objective": seed, "steps": 1, "seconds": 10.0}
            result["objective_name"] = "sliced_wasserstein"
            write_result(sweep.run_dir(name), result)


def sweep_instantly(
    path: Path, *overrides: str, runs: InstantRuns | None = None, conf: Path = CONF_DIR
) -> Sequence[JobReturn]:
    """Run the sweep of a command line with runs that end at once; return one result per point."""
    master, loader = compose_sweep(*overrides, f"hydra.sweep.dir={path}", conf=conf)
    space = read_space(loader, as_given(master.hydra.overrides.task), {})
    candidates = Candidates(list(space.points()), space.keys)
    return run_sweep(master, loader, candidates, runs or InstantRuns())


def names_of_runs(path: Path, *overrides: str, conf: Path = CONF_DIR) -> list[str]:
    """Run the sweep of a command line with runs that end at once; return the names of the runs."""
    runs = InstantRuns()
    sweep_instantly(path, *overrides, runs=runs, conf=conf)
    return runs.names


def stored_sweep(path: Path) -> Sweep:
    """Return the sweep that is stored in a directory."""
    sweep = read_sweep(path)
    assert sweep
    return sweep


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the directory of the sweep, which is not made yet."""
    return tmp_path / "sweep"


def test_every_combination_is_run_once(path: Path) -> None:
    names = names_of_runs(path, "optimizer.lr=1e-4,2e-4", "model.hidden_dim=32,64", "seed=1")
    assert names == [
        "hidden_dim=32,lr=0.0001",
        "hidden_dim=64,lr=0.0001",
        "hidden_dim=32,lr=0.0002",
        "hidden_dim=64,lr=0.0002",
    ]


def test_equal_points_are_run_once(path: Path) -> None:
    runs = InstantRuns()
    returned = sweep_instantly(path, "optimizer.lr=1e-4,0.0001,2e-4", runs=runs)
    assert runs.names == ["lr=0.0001", "lr=0.0002"]
    assert [job.return_value for job in returned] == [0, 0, 0]


def test_point_is_repeated_over_seeds_and_returns_the_median(path: Path) -> None:
    runs = InstantRuns()
    returned = sweep_instantly(path, "optimizer.lr=1e-4,2e-4", "seed=3", "sweep.seeds=3", runs=runs)
    assert runs.names[:3] == ["lr=0.0001,seed=3", "lr=0.0001,seed=4", "lr=0.0001,seed=5"]
    assert [job.return_value for job in returned] == [4, 4]
    job = stored_sweep(path).jobs["lr=0.0001,seed=5"]
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
        (["optimizer.betas={a:1},{b:2}"], "^optimizer.betas.a=1: optimizer.betas is a list"),
        (["seed=range(5,5)"], r"^seed=range\(5,5\): has no values"),
        (["optimizer.lr=interval(0,1)"], "a grid needs values"),
        (["seed=1,2", "sweep.seeds=2"], r"^sweep\.seeds=2: the seed is swept as well"),
        (["seed=1,2", "sweep.seeds=0"], r"^sweep\.seeds=0: must be at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused(path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sweep_instantly(path, *overrides)
    assert not path.exists()


def test_a_sweep_over_nothing_is_one_run(path: Path) -> None:
    assert [job.status for job in sweep_instantly(path, "seed=3")] == [JobStatus.COMPLETED]
    assert [job.name for job in stored_sweep(path).jobs.values()] == ["run"]


def test_a_key_that_only_swept_options_have_is_set(path: Path) -> None:
    sweep_instantly(path, "optimizer=rmsprop,sgd", "optimizer.momentum=0.5")
    momenta = [job.config["optimizer"]["momentum"] for job in stored_sweep(path).jobs.values()]
    assert momenta == [0.5, 0.5]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer=adam,sgd", "optimizer.momentum=0.5"], "optimizer=adam has no key"),
        (["optimizer=sgd,adam", "optimizer.momentun=0.5"], "did you mean 'optimizer.momentum'"),
        # Hydra 1.4 refuses it by itself.
        (
            ["experiment=mlp,zoo"],
            r"sets hydra\.sweeper\.params|'hydra\.sweeper' must be configured",
        ),
        (["seed=1,2", "hydra.sweep.subdir=x"], r"^hydra\.sweep\.subdir=x: has no effect"),
    ],
)
def test_what_some_points_lack_or_a_sweep_ignores_is_refused(
    path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sweep_instantly(path, *overrides)
    assert not path.exists()


def test_points_know_the_values_of_hydra(path: Path) -> None:
    sweep_instantly(path, "optimizer.lr=1e-4,2e-4", "seed=${hydra:job.num}")
    jobs = stored_sweep(path).jobs.values()
    assert [job.config["seed"] for job in jobs] == [0, 1]
    assert [text for job in jobs for text in job.overrides if "seed" in text] == [
        "seed=0",
        "seed=1",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.lrr=1,2",
            "optimizer.lrr=1: unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?",
        ),
        ("optimizer.lr=1e-3,abc", "optimizer.lr=abc: must be a number"),
        (
            "hydra.launcher.n_jbs=1",
            "unknown key 'hydra.launcher.n_jbs'; did you mean 'hydra.launcher.n_jobs'?",
        ),
        ("model=small,larg", "model=larg: no such option; allowed: base, dcgan"),
    ],
)
def test_typo_is_refused_with_the_nearest_name(path: Path, override: str, message: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException, UserError)) as error:
        sweep_instantly(path, "seed=1,2", override)
    text = str(error.value)
    if not isinstance(error.value, UserError):
        text = explain(error.value, ["seed=1,2", override])
    assert message in text
    assert not path.exists()


def test_command_with_a_typo_prints_one_line_and_starts_nothing(path: Path) -> None:
    code, out, err = execute(sweep_command(path, "optimizer.lrr=1,2"))
    assert (code, out) == (2, "")
    assert err == "optimizer.lrr=1: unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?\n"
    assert not path.exists()


def test_completed_jobs_are_not_run_again(path: Path) -> None:
    assert len(names_of_runs(path, "seed=1,2")) == 2
    assert names_of_runs(path, "seed=1,2") == []


def test_failed_jobs_are_run_again_on_request_only(path: Path) -> None:
    returned = sweep_instantly(path, "seed=1,2", runs=InstantRuns(Status.FAILED))
    assert all(job.status == JobStatus.FAILED for job in returned)
    with pytest.raises(JobsFailed, match="2 of 2 runs failed"):
        raise_failure(returned)
    assert names_of_runs(path, "seed=1,2") == []
    sweep = stored_sweep(path)
    assert sweep.pending(list(sweep.jobs), retry_failed=True) == ["seed=1", "seed=2"]


def test_new_points_extend_a_sweep(path: Path) -> None:
    steps = "trainer.max_steps=7"
    names_of_runs(path, "optimizer.lr=1e-4,2e-4", steps)
    assert names_of_runs(path, "optimizer.lr=1e-4,4e-4", steps) == ["lr=0.0004"]
    assert names_of_runs(path, "optimizer.lr=8e-4", steps) == ["lr=0.0008"]
    names = names_of_runs(path, "optimizer.lr=1e-4,2e-4", steps, "seed=0,1")
    assert names == ["lr=0.0001,seed=1", "lr=0.0002,seed=1"]
    assert len(stored_sweep(path).jobs) == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
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
def test_another_value_of_a_key_that_is_not_swept_is_refused(
    path: Path, overrides: list[str], message: str
) -> None:
    names_of_runs(path, "optimizer.lr=1e-4,2e-4", "trainer.max_steps=7")
    before = (path / "jobs.jsonl").read_bytes()
    with pytest.raises(UserError, match=message):
        sweep_instantly(path, "optimizer.lr=1e-4,4e-4", *overrides)
    assert (path / "jobs.jsonl").read_bytes() == before


def test_keys_that_do_not_change_the_result_may_change(path: Path) -> None:
    names_of_runs(path, "seed=1,2")
    others = ["device=cpu", "logging=quiet", "notes=again"]
    assert names_of_runs(path, "seed=1,2,3", *others) == ["seed=3"]
    assert [job.config["device"] for job in stored_sweep(path).jobs.values()] == ["cpu"] * 3


def test_trackers_of_planned_runs_may_be_added_and_left_out(path: Path) -> None:
    tracker = [
        "+logging.trackers.own._target_=fake_trackers.Notebook",
        f"+logging.trackers.own.folder={path.parent}",
    ]
    for words in ([], tracker, []):
        names_of_runs(path, "seed=1,2", *words)
        found = [job.config["logging"]["trackers"] for job in stored_sweep(path).jobs.values()]
        assert [[*trackers] for trackers in found] == [["own"] if words else []] * 2


def test_sweep_does_not_see_later_changes_of_its_yaml_files(path: Path, tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(CONF_DIR, conf)
    names_of_runs(path, "seed=1,2", "model=small", conf=conf)
    for name in ("model/small", "optimizer/adam", "trainer/default"):
        file = conf / f"{name}.yaml"
        changed = file.read_text().replace("hidden_dim: 128", "hidden_dim: 999")
        changed = changed.replace("2e-4", "9e-4").replace("batch_size: 128", "batch_size: 9")
        assert changed != file.read_text()
        file.write_text(changed)
    assert names_of_runs(path, "seed=1,2", "model=small", conf=conf) == []
    assert names_of_runs(path, "seed=1,2,3", "model=small", conf=conf) == ["seed=3"]
    for job in stored_sweep(path).jobs.values():
        assert job.config["model"]["hidden_dim"] == 128
        assert job.config["optimizer"]["lr"] == 2e-4
        assert job.config["trainer"]["batch_size"] == 128


def test_dry_run_prints_the_plan_and_writes_nothing(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names_of_runs(path, "seed=1,2", "sweep.dry_run=true") == []
    assert not path.exists()
    out = capsys.readouterr().out
    assert "2 runs, 0 done, 2 to run" in out
    assert "no finished run to estimate" in out
    names_of_runs(path, "seed=1,2", "hydra.launcher.n_jobs=1")
    capsys.readouterr()
    before = (path / "sweep.json").read_bytes()
    names_of_runs(path, "seed=1,2,3,4", "sweep.dry_run=true", "hydra.launcher.n_jobs=1")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["seed=1", "done"] in rows
    assert ["seed=4", "new", "run"] in rows
    assert "2 to run: about 20 s, 1 at a time" in " ".join(rows[-1])
    assert (path / "sweep.json").read_bytes() == before


def test_directory_that_holds_something_else_is_refused(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not a sweep directory and not empty"):
        sweep_instantly(path, "seed=1,2")
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]


def test_sweep_of_another_version_is_refused(path: Path) -> None:
    names_of_runs(path, "seed=1,2")
    facts = json.loads((path / "sweep.json").read_text())
    (path / "sweep.json").write_text(json.dumps(facts | {"version": "0.0.1"}))
    with pytest.raises(UserError, match=r"made by gan-sweeps 0\.0\.1"):
        sweep_instantly(path, "seed=1,2")
    (path / "sweep.json").write_text("[]")
    with pytest.raises(UserError, match="is not one of gan-sweeps"):
        sweep_instantly(path, "seed=1,2")


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("sweep.json", lambda text: text[:-10], "is not one of gan-sweeps, or damaged"),
        ("jobs.jsonl", lambda text: text[:-10], "is damaged"),
        ("jobs.jsonl", lambda text: text + "\0", "is damaged"),
        ("jobs.jsonl", lambda text: text.partition("\n")[2], "lacks the run seed=1"),
        ("jobs.jsonl", lambda text: "", "lacks the run seed=1"),
    ],
)
def test_damaged_plan_is_refused_with_the_name_of_its_file(
    path: Path, name: str, change: Callable[[str], str], problem: str
) -> None:
    names_of_runs(path, "seed=1,2")
    (path / name).write_text(change((path / name).read_text()))
    for points in ("seed=1,2", "seed=1,2,3"):
        with pytest.raises(UserError) as caught:
            sweep_instantly(path, points)
        assert str(caught.value).startswith(f"{path / name}: {problem}; restore it")


def test_new_points_are_not_composed_from_damaged_copies(path: Path) -> None:
    names_of_runs(path, "seed=1,2")
    (path / "conf" / "0" / "optimizer" / "adam.yaml").write_text("lr: 1.0\n")
    assert names_of_runs(path, "seed=1,2") == []
    with pytest.raises(UserError, match="conf: its YAML files are not those that the sweep began"):
        sweep_instantly(path, "seed=1,2,3")


def test_failed_run_points_at_a_log_that_exists(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_instantly(path, "seed=1,2", runs=InstantRuns(Status.FAILED))
    (path / "seed=2" / "train.log").write_text("what happened")
    sweep = stored_sweep(path)
    assert sweep.log("seed=1") is None
    assert sweep.log("seed=2") == path / "seed=2" / "train.log"
    print_failures((name, "gone", sweep.log(name)) for name in ("seed=1", "seed=2"))
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert lines == [
        "failed: seed=1: gone",
        f"failed: seed=2: gone; log: {path / 'seed=2' / 'train.log'}",
    ]
    (path / "workers.log").touch()
    assert sweep.log("seed=1") == path / "workers.log"


def test_second_process_is_refused_with_the_name_of_the_first(path: Path) -> None:
    with owned(path), pytest.raises(UserError, match=r"process \d+ on .* is at work"):
        sweep_instantly(path, "seed=1,2")
    assert names_of_runs(path, "seed=1,2") == ["seed=1", "seed=2"]


@pytest.mark.parametrize("left", [[], ["multirun.yaml"], ["jobs.jsonl", "conf", ".lock"]])
def test_directory_that_is_empty_or_was_just_begun_is_used(path: Path, left: list[str]) -> None:
    path.mkdir()
    for name in left:
        (path / name).touch() if "." in name else (path / name).mkdir()
    assert len(names_of_runs(path, "seed=1,2")) == 2


@pytest.mark.parametrize("words", [["seed=1,2"], ["model=nosuch,base"]])
def test_folder_of_the_users_with_the_name_of_the_copies_is_left_alone(
    tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / ".git").mkdir()
    own = tmp_path / "conf" / "model" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("hidden_dim: 3\n")
    with pytest.raises(UserError, match="not a sweep directory and not empty"):
        sweep_instantly(tmp_path, *words)
    assert own.read_text() == "hidden_dim: 3\n"
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == [".git", "conf"]


def test_copies_that_a_killed_process_left_are_made_anew(path: Path) -> None:
    (path / "conf" / "0" / "model").mkdir(parents=True)
    (path / "conf" / "0" / "model" / "base.yaml").write_text("hidden_dim: 3\n")
    assert len(names_of_runs(path, "seed=1,2")) == 2
    assert (path / "conf" / ".checksum").exists()


class RefusingLauncher(InstantRuns):
    """A launcher that refuses the sweep, before any run has begun or after some have."""

    def __init__(self, error: Exception, *, after_runs: bool = False) -> None:
        super().__init__()
        self._error, self._after_runs = error, after_runs

    def __call__(self, sweep: Sweep, names: list[str]) -> None:
        sweep.workers_log.touch()
        if self._after_runs:
            super().__call__(sweep, names)
        raise self._error


def test_new_sweep_that_its_launcher_refuses_leaves_nothing_behind(path: Path) -> None:
    with pytest.raises(UserError, match="no such partition"):
        sweep_instantly(path, "seed=1,2", runs=RefusingLauncher(UserError("no such partition")))
    assert not path.exists()


def test_sweep_that_has_begun_or_whose_cluster_is_silent_is_kept(path: Path) -> None:
    silence = RefusingLauncher(NoAnswer("Slurm does not answer"))
    with pytest.raises(NoAnswer):
        sweep_instantly(path, "seed=1,2", runs=silence)
    assert list(stored_sweep(path).jobs) == ["seed=1", "seed=2"]
    shutil.rmtree(path)
    begun = RefusingLauncher(UserError("no such partition"), after_runs=True)
    with pytest.raises(UserError, match="no such partition"):
        sweep_instantly(path, "seed=1,2", runs=begun)
    assert (path / "seed=1" / "result.json").exists()
    # A sweep that was planned before stays, too.
    with pytest.raises(UserError, match="no such partition"):
        sweep_instantly(path, "seed=3", runs=RefusingLauncher(UserError("no such partition")))
    assert "seed=1" in stored_sweep(path).jobs


def test_command_that_is_given_again_after_another_one_means_what_it_says(path: Path) -> None:
    def every() -> set[int]:
        return {job.config["logging"]["every"] for job in stored_sweep(path).jobs.values()}

    for number in (5, 10, 5):
        sweep_instantly(path, "seed=1,2", f"logging.every={number}")
        assert every() == {number}
    assert len(stored_sweep(path).jobs) == 2


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ("5", "hydra.sweeper.points=5: must be a list of points such as"),
        ("[['seed'],['seed=3']]", "hydra.sweeper.points: ['seed'] is no point"),
        ("['loss=hinge','loss=minimax']", "hydra.sweeper.points: loss=hinge is no point"),
        ("[['loss=hinge,minimax']]", "loss=hinge,minimax has several values; give a point each"),
        ("[['seed=3']]", "seed=3 sets seed, which is swept over too"),
    ],
)
def test_wrong_points_are_refused_in_one_line(points: str, message: str, path: Path) -> None:
    command = sweep_command(path, "seed=1,2", f"hydra.sweeper.points={points}")
    code, _, err = execute(command)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not path.exists()


def test_key_that_came_later_is_named_by_its_values(path: Path) -> None:
    names = names_of_runs(path, "trainer.flip=true,false", "seed=1")
    assert sorted(names) == ["flip=false", "flip=true"]
    with pytest.raises(UserError, match=r"the sweep in .* has trainer\.augment_p=1\.0, not 0\.3"):
        sweep_instantly(path, "trainer.flip=true,false", "seed=1", "trainer.augment_p=0.3")
