"""A run is turned back into a command line or an experiment that gives it again."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from fake_runs import make_run
from omegaconf import OmegaConf
from runs import SCRIPTS
from sweep_commands import execute

import gan.compare.repeat
import gan.config.compose
import gan.config.schema
from gan.commands.compare import BEST, Options, compare
from gan.compare import query
from gan.compare.frame import read_table
from gan.compare.read import StoredRun, read_run
from gan.compare.repeat import best_run, changed_keys, command, difference_from_default, export
from gan.config.checks import flatten
from gan.config.compose import compose
from gan.errors import UserError
from gan.sweep.plan import identity
from gan.system.invocation import command as command_words

FAR_FROM_DEFAULT = (
    "model=small",
    "loss=relativistic",
    "penalty=wgan_gp",
    "penalty.weight=3.0",
    "optimizer=rmsprop",
    "optimizer.lr=1e-5",
    "data=ring8",
    "metrics=points",
    "trainer.max_steps=null",
    "trainer.max_epochs=3",
    "trainer.augment=[]",
    "name=far",
    "seed=12",
)


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of conf/ that tests may write to."""
    folder = tmp_path / "conf"
    shutil.copytree(gan.config.schema.CONF_DIR, folder)
    monkeypatch.setattr(gan.config.compose, "CONF_DIR", folder)
    monkeypatch.setattr(gan.compare.repeat, "CONF_DIR", folder)
    return folder


def test_the_best_run_is_a_completed_one(tmp_path: Path) -> None:
    for name, value, status in (
        ("a", 0.3, "completed"),
        ("b", 0.1, "diverged"),
        ("c", 0.2, "completed"),
        ("d", 0.05, None),
    ):
        make_run(tmp_path / name, value=value, status=status)
    table = query.ordered(read_table([tmp_path]), "sliced_wasserstein")
    assert Path(best_run(table, "sliced_wasserstein").path).name == "c"
    with pytest.raises(UserError, match="no run is completed"):
        best_run(query.where(table, "status != 'completed'"), "sliced_wasserstein")


def test_the_best_point_is_repeated_as_a_sweep_over_its_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lr, values in (("0.1", [0.1, 0.9, 0.8]), ("0.2", [0.5, 0.4, 0.3])):
        for seed, value in enumerate(values):
            words = f"optimizer.lr={lr}", f"seed={seed}"
            make_run(tmp_path / f"lr={lr},seed={seed}", *words, value=value)
    compare([tmp_path, BEST], Options(group="seed"))
    printed = capsys.readouterr()
    expected = [*command_words("train"), "-m", "optimizer.lr=0.2", "seed=0,1,2"]
    assert shlex.split(printed.out) == expected
    assert "lr=0.2; the median sliced_wasserstein of its 3 runs is 0.4" in printed.err
    compare([tmp_path, BEST], Options())
    assert shlex.split(capsys.readouterr().out)[-2:] == ["optimizer.lr=0.1", "seed=0"]
    with pytest.raises(UserError, match="an experiment is one run"):
        compare([tmp_path, BEST], Options(group="seed", export=Path("conf/experiment/best.yaml")))


def test_runs_of_an_experiment_that_is_a_sweep_are_repeated_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe in ("lab", "minimax"):
        for seed in range(3):
            words = ["experiment=zoo", "model=base", f"recipe={recipe}", f"seed={seed}"]
            make_run(tmp_path / f"{recipe}-{seed}", *words, value=0.1 if recipe == "lab" else 0.2)
    point = ["experiment=zoo", "model=base", "recipe=lab"]
    compare([tmp_path, BEST], Options(sort="sliced_wasserstein"))
    words = shlex.split(capsys.readouterr().out)
    assert words == [*command_words("train"), *point, "seed=0", "hydra.mode=RUN"]
    compare([tmp_path, BEST], Options(group="seed", sort="sliced_wasserstein"))
    words = shlex.split(capsys.readouterr().out)
    program = len(command_words("train"))
    assert words[program:] == ["-m", *point, "sweep.seeds=1", "seed=0,1,2"]
    # What is printed plans the same runs.
    train = [sys.executable, str(SCRIPTS / "train.py"), *words[program:]]
    code, out, err = execute([*train, "sweep.dry_run=true", f"hydra.sweep.dir={tmp_path / 'new'}"])
    assert code == 0, err
    assert "3 runs, 0 done, 3 to run" in out


def test_a_single_run_is_no_best_point_beside_groups_of_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "alone", "optimizer.lr=0.1", "seed=0", value=0.1)
    for seed in range(3):
        make_run(tmp_path / str(seed), "optimizer.lr=0.2", f"seed={seed}", value=0.2)
    compare([tmp_path, BEST], Options(group="seed"))
    printed = capsys.readouterr()
    assert "optimizer.lr=0.2" in printed.out
    assert "others with fewer than 3 runs look better" in printed.err
    compare([tmp_path / "alone", tmp_path / "0", BEST], Options(group="lr"))
    assert "of its 2 runs is 0.15; that is too few" in capsys.readouterr().err


def test_an_export_at_the_root_of_the_disk_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    with pytest.raises(UserError, match="must be FOLDER/experiment/NAME"):
        compare([tmp_path, BEST], Options(export=Path("/x.yaml")))


def test_the_command_is_the_one_that_started_the_run(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", "model=small", "optimizer.betas=[0.0,0.9]"))
    words, remarks = command(run)
    assert words == [*command_words("train"), "model=small", "optimizer.betas=[0.0,0.9]"]
    assert not [remark for remark in remarks if "committed" not in remark]
    run.config["threads"] = 2
    assert command(run)[0][-1] == "threads=2"


def test_values_that_conf_has_changed_are_set_and_remarked_on(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", "model=small"))
    run.config |= {"model.hidden_dim": 100, "trainer.old": None}
    del run.config["trainer.pac"]
    words, remarks = command(run)
    assert words[len(command_words("train")) :] == ["model=small", "model.hidden_dim=100"]
    text = "\n".join(remarks)
    assert "model.hidden_dim was 100, and conf/ gives 128" in text
    assert "trainer.old=null is not there any more" in text
    assert "trainer.pac=1 was not there then" in text
    run.config |= {"trainer.old": 1}
    with pytest.raises(UserError, match=r"cannot be repeated, trainer\.old was 1"):
        command(run)


def test_overrides_that_are_not_understood_are_replaced(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", "loss=hinge", "optimizer.lr=1e-5", "seed=12"))
    run.overrides = ["modle=small"]
    words, remarks = command(run)
    assert "not understood" in "\n".join(remarks)
    again = compose(*words[len(command_words("train")) :])
    assert identity(flatten(again)) == identity(run.config)
    run.config = {}
    with pytest.raises(UserError, match="cannot be read"):
        command(run)


@pytest.mark.parametrize(
    ("overrides", "choices", "values"),
    [
        ([], {}, {}),
        (["optimizer.lr=1e-3"], {}, {"optimizer.lr": 1e-3}),
        (["model=small", "seed=3"], {"model": "small"}, {"seed": 3}),
        (["loss=hinge", "penalty=r1", "penalty.gamma=1"], {"loss": "hinge"}, {"penalty.gamma": 1}),
        (["penalty=none", "device=cpu"], {"penalty": "none"}, {}),
    ],
)
def test_the_difference_from_the_default_is_minimal(
    overrides: list[str], choices: dict[str, str], values: dict[str, object]
) -> None:
    run = StoredRun("", flatten(compose(*overrides)), overrides)
    assert difference_from_default(run) == (choices, values)


def test_options_of_groups_are_recognized_without_the_command_line() -> None:
    run = StoredRun("", flatten(compose("penalty=wgan_gp", "penalty.weight=3", "model=small")))
    assert difference_from_default(run) == (
        {"penalty": "wgan_gp"},
        {"model.hidden_dim": 128, "penalty.weight": 3},
    )


def test_an_export_composes_to_the_same_run(tmp_path: Path, conf: Path) -> None:
    run = read_run(make_run(tmp_path / "run", *FAR_FROM_DEFAULT))
    path = conf / "experiment" / "far.yaml"
    export(run, path)
    again = flatten(compose("experiment=far"))
    assert not list(changed_keys(run.config, again))
    assert identity(again) == identity(run.config)
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    assert "override /penalty: wgan_gp" in [
        f"{key}: {value}" for entry in content["defaults"] for key, value in entry.items()
    ]
    assert content["penalty"] == {"weight": 3.0}
    assert content["optimizer"] == {"lr": 1e-5}
    assert set(content) <= {"defaults", "name", "penalty", "optimizer", "trainer", "seed"}


def test_an_export_that_would_not_compose_leaves_nothing(tmp_path: Path, conf: Path) -> None:
    run = read_run(make_run(tmp_path / "run"))
    folder = conf / "experiment"
    before = sorted(conf.rglob("*"))
    for path, expected in (
        (tmp_path / "x.yaml", r"must be .*experiment/NAME\.yaml"),
        (folder / "x.yml", "must be"),
        (folder / "a b.yaml", "letters, digits"),
        (folder / "lab.yaml", "is there already"),
    ):
        with pytest.raises(UserError, match=expected):
            export(run, path)
    run.config["trainer.old"] = 1
    with pytest.raises(UserError, match=r"trainer\.old was 1 and would be nothing"):
        export(run, folder / "x.yaml")
    run.config["trainer.batch_size"] = 0
    with pytest.raises(UserError, match=r"trainer\.batch_size=0"):
        export(run, folder / "x.yaml")
    assert sorted(conf.rglob("*")) == before


def test_another_commit_and_other_versions_are_remarked_on(tmp_path: Path) -> None:
    run = read_run(
        make_run(
            tmp_path / "run",
            git={"commit": "0123456789abcdef", "dirty": True},
            versions={"torch": "1.0", "python": "2.7"},
        )
    )
    text = "\n".join(command(run)[1])
    assert "made with torch 1.0, this is 2." in text
    assert "made with python 2.7, this is 3." in text
    assert "commit 0123456789" in text
    assert "not committed" in text


def test_text_with_commas_is_one_value_of_the_sweep_that_repeats_a_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        given = ("notes=a,b", "optimizer.betas=[0,0.9]", f"seed={seed}")
        make_run(tmp_path / str(seed), *given)
    compare([tmp_path, BEST], Options(group="seed"))
    (line,) = capsys.readouterr().out.splitlines()
    words = shlex.split(line)
    assert "-m" in words
    assert {"notes='a,b'", "optimizer.betas=[0,0.9]", "seed=0,1,2"} <= {*words}
