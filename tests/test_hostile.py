"""Directories from somebody else: they run nothing here, and change nothing outside of themselves.

Each test is a way that was tried. A text that begins with `touch` is a command of the shell, and
the module `canary` makes the same file when it is imported or called.
"""

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_runs import make_run
from omegaconf import DictConfig
from PIL import Image
from sweep_commands import SCRIPTS, finish, start

from gan import load_generator
from gan.commands import clean, compare, evaluate, generate, resume
from gan.compare.frame import read_table
from gan.compare.page import page_data
from gan.compare.repeat import command, export
from gan.config import trust
from gan.config.compose import compose
from gan.config.schema import TARGET_GROUPS
from gan.errors import UserError
from gan.run.directory import claimed, read_config
from gan.run.export import export as export_generator
from gan.sweep.directory import read_sweep
from gan.sweep.sweep import resume_sweep, search_command
from gan.train import run as train

SMALL = (
    "data=digits",
    "model.hidden_dim=8",
    "trainer.max_steps=4",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=2",
    "metrics.samples=64",
    "logging.tensorboard=false",
    "logging.every=2",
    "logging.samples_every=2",
    "logging.samples=4",
    "threads=1",
)
TARGETS = (
    "os.system",
    "posix.system",
    "shutil.os.system",
    "subprocess.run",
    "subprocess.getoutput",
    "subprocess.Popen",
    "builtins.exec",
    "builtins.eval",
    "pandas.read_pickle",
    "pickle.load",
    "torch.load",
    "torch.hub.load",
    "joblib.load",
    "numpy.load",
    "shutil.rmtree",
    "importlib.import_module",
    "runpy.run_path",
    "timeit.timeit",
    "pty.spawn",
    "code.interact",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "gan.system.files.write_text",
    "gan.run.checkpoint.load_checkpoint",
    "canary.touch",
)
"""Functions that a stored configuration has named."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that was trained."""
    path = tmp_path_factory.mktemp("trained") / "run"
    train(compose(*SMALL), path, overrides=SMALL)
    return path


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a file that is there as soon as something was run, and check that it is not."""
    file = tmp_path / "was-run"
    module = (
        f"from pathlib import Path\ndef touch(*_, **__): Path({str(file)!r}).touch()\ntouch()\n"
    )
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/canary.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    yield file
    assert not file.exists()
    assert "canary" not in sys.modules


@pytest.fixture
def hostile(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the run, which has one step left to do."""
    path = tmp_path / "hostile"
    shutil.copytree(trained, path)
    (path / "result.json").unlink()
    return path


def edit(run_dir: Path, key: str, value: Any) -> None:
    """Set a dotted key in the configuration of a run."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    node = config
    *above, last = key.split(".")
    for name in above:
        node = node.setdefault(name, {})
    node[last] = value
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))


@cache
def evaluation_settings() -> DictConfig:
    """Return what a run is measured with."""
    settings: DictConfig = evaluate.measuring_config(evaluate.Options("fast", samples=64)).metrics
    return settings


def commands(run_dir: Path) -> dict[str, Callable[[], object]]:
    """Return everything that builds what a run's configuration names."""
    out = run_dir.parent
    evaluation = evaluation_settings()
    return {
        "resume": lambda: resume.resume([run_dir], resume.Options()),
        "generate": lambda: generate.write_samples(run_dir, out / "a.png", count=4, seed=0),
        "evaluate": lambda: list(
            evaluate.measure_runs([run_dir], evaluation, name="x", weights="auto", device="cpu")
        ),
        "export": lambda: export_generator(load_generator(run_dir), out / "a.safetensors"),
        "sample": lambda: load_generator(run_dir),
    }


def refused(run_dir: Path, text: str) -> None:
    """Check that every command refuses a run in one line, which says how to allow it."""
    for name, run in commands(run_dir).items():
        with pytest.raises(UserError) as error:
            run()
        assert text in str(error.value), name
        assert f"to {trust.record_file()}" in str(error.value), name
        assert str(error.value).isprintable(), name


@pytest.mark.parametrize("target", TARGETS)
def test_stored_targets_are_not_called(hostile: Path, canary: Path, target: str) -> None:
    content = hostile.joinpath("config.yaml").read_text()
    nested = ("model.hidden_dim", "data.extra", "loss.parts.first", "logging.trackers.mine")
    for key in (*TARGET_GROUPS, *nested):
        arguments = {"_target_": target, "command": f"touch {canary}", "args": [f"touch {canary}"]}
        edit(hostile, key, arguments)
        with pytest.raises(UserError, match=f"_target_={target},"):
            resume.resume([hostile], resume.Options())
        hostile.joinpath("config.yaml").write_text(content)
    edit(hostile, "data", [{"_target_": target}])
    refused(hostile, target)


def test_run_goes_on_where_its_user_has_named_the_target(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/my_own_loss.py").write_text("from gan.losses import hinge as own\n")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    edit(hostile, "loss", {"_target_": "my_own_loss.own"})
    refused(hostile, "loss._target_=my_own_loss.own")
    with pytest.raises(UserError) as error:
        load_generator(hostile)
    line = str(error.value).partition("add the line ")[2].partition(" to ")[0]
    record = trust.record_file()
    before = record.read_text() if record.exists() else ""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(f"{before}{line}\n")
    load_generator(hostile)
    record.write_text(before)
    refused(hostile, "loss._target_=my_own_loss.own")
    own = ("loss._target_=my_own_loss.own", "~loss.label_smoothing")
    train(compose(*SMALL, *own), tmp_path / "own", overrides=own)
    load_generator(hostile)
    assert trust.untrusted(["loss._target_=my_own_loss.own"]) == []


def test_user_without_a_home_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "home", fail)
    for home in (None, "relative"):
        if home:
            monkeypatch.setenv("XDG_CONFIG_HOME", home)
        else:
            monkeypatch.delenv("XDG_CONFIG_HOME")
        trust.trust([f"loss._target_=mine.{home}"])
        assert trust.untrusted([f"loss._target_=mine.{home}"]) == []
        assert not trust.record_file().exists()
    assert list(tmp_path.iterdir()) == []


def test_line_that_somebody_added_without_its_end_stays_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for before in ("", "hydra.run.dir=mine", "hydra.run.dir=mine\n"):
        trust.record_file().parent.mkdir(parents=True, exist_ok=True)
        trust.record_file().write_text(before)
        trust.trust([f"loss._target_=mine.after_{len(before)}"])
        lines = [*before.splitlines(), f"loss._target_=mine.after_{len(before)}"]
        assert trust.record_file().read_text() == "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("notes", "${oc.env:TOKEN}"),
        ("model.hidden_dim", "${oc.decode:${oc.env:TOKEN}}"),
        ("name", "${${notes}:TOKEN}"),
        ("tags", ["${oc.env:TOKEN}"]),
        ("logging.trackers.mlflow.tracking_uri", "http://collector.example"),
        ("hydra.callbacks.mine._target_", "canary.touch"),
    ],
)
def test_stored_texts_are_not_resolved(
    hostile: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t")
    edit(hostile, key, value)
    refused(hostile, key)
    for path in hostile.rglob("*"):
        assert path.is_dir() or b"s3cr3t" not in path.read_bytes()


def test_header_of_a_safetensors_file_calls_nothing(
    hostile: Path, canary: Path, tmp_path: Path
) -> None:
    loaded = load_generator(hostile)
    loaded.cfg.model = {"_target_": "canary.touch"}
    from safetensors.torch import save_file

    from gan.run.trained import describe

    save_file(dict(loaded.network.state_dict()), tmp_path / "a.safetensors", describe(loaded))
    with pytest.raises(UserError, match=r"model\._target_=canary\.touch"):
        load_generator(tmp_path / "a.safetensors")


def test_checkpoint_that_is_a_pickle_of_code_is_not_loaded(hostile: Path, canary: Path) -> None:
    import torch

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (canary,)

    for path in (hostile / "checkpoints").iterdir():
        torch.save({"step": Payload()}, path)
    for run in commands(hostile).values():
        with pytest.raises(UserError, match=r"cannot be read, it holds other values"):
            run()


# Sweeps and searches


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a search of two trials."""
    pytest.importorskip("optuna")
    path = tmp_path_factory.mktemp("swept") / "search"
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.launcher.n_jobs=1"]
    words += ["optimizer.lr=interval(1e-4,1e-3)", f"hydra.sweep.dir={path}"]
    code, out, err = finish(
        start([sys.executable, str(SCRIPTS / "train.py"), "-m", *SMALL, *words])
    )
    assert code == 0, out + err
    return path


@pytest.fixture
def sweep(swept: Path, tmp_path: Path) -> Path:
    """Return a copy of that search."""
    shutil.copytree(swept, tmp_path / "sweep")
    return tmp_path / "sweep"


def edit_json(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first line of a file of JSON lines, or the whole file of JSON."""
    is_lines = file.suffix == ".jsonl"
    first, *others = file.read_text().splitlines() if is_lines else [file.read_text()]
    content = json.loads(first)
    change(content)
    file.write_text("\n".join([json.dumps(content), *others, ""]))


def test_search_of_this_user_can_be_resumed(sweep: Path) -> None:
    assert "hydra.sweeper.n_trials=2" in search_command(sweep)


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.mine._target_=canary.touch",
        "++hydra.callbacks.mine={_target_: canary.touch}",
        "hydra.callbacks.check._target_=canary.touch",
        "hydra.sweeper._target_=canary.touch",
        "hydra.launcher._target_=canary.touch",
        "+hydra.job_logging.handlers.x={'()': canary.touch}",
        "hydra/job_logging=../../../hostile",
        "hydra.sweeper.storage=sqlite:////tmp/elsewhere.db",
        "hydra.run.dir=/tmp/elsewhere",
        "hydra.mode=RUN",
        "+hydra.job.env_set.PATH=/tmp",
        "loss._target_=canary.touch",
        "+logging.trackers.x._target_=canary.touch",
        "experiment=../../../../tmp/hostile",
        "+experiment=${oc.env:HOME}",
        "notes=${oc.env:TOKEN}",
        "data.root=${hydra:runtime.cwd}",
        "optimizer.lr=${oc.decode:'1'}",
    ],
)
def test_stored_words_of_a_search_run_nothing(sweep: Path, canary: Path, word: str) -> None:
    facts = json.loads((sweep / "sweep.json").read_text())
    facts["commands"][-1]["arguments"].append(word)
    (sweep / "sweep.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="you have not used before"):
        search_command(sweep)


@pytest.mark.parametrize("place", ["--config-dir={}", "--config-path={}", "hydra.searchpath=[{}]"])
def test_folders_that_a_sweep_names_are_not_read(
    sweep: Path, canary: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "evil/loss").mkdir(parents=True)
    (tmp_path / "evil/loss/minimax.yaml").write_text("_target_: canary.touch\n")
    for folder in (tmp_path / "evil", "evil", "../evil"):
        word = place.format(folder)
        facts = json.loads((sweep / "sweep.json").read_text()) | {"sources": [word]}
        (sweep / "sweep.json").write_text(json.dumps(facts))
        with pytest.raises(UserError, match="you have not used before"):
            search_command(sweep)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_target_", "canary.touch"),
        ("setup", ["touch canary"]),
        ("sbatch", {"account": "x\ntouch canary"}),
        ("mem", "1GB\ntouch canary"),
        ("address", "cluster.example:6379"),
    ],
)
def test_stored_settings_of_a_launcher_run_nothing(
    sweep: Path, canary: Path, key: str, value: Any
) -> None:
    edit_json(sweep / "sweep.json", lambda facts: facts["launcher"].update({key: value}))
    with pytest.raises(UserError, match=r"hydra\.launcher"):
        resume_sweep(sweep, retry_failed=True)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../outside"},
        {"name": ".."},
        {"name": "."},
        {"name": ""},
        {"name": "/tmp/outside"},
        {"name": "a/b"},
        {"name": "a\x1b[2Jb"},
        {"overrides": ["+hydra.callbacks.mine._target_=canary.touch"]},
        {"overrides": ["notes=${oc.env:TOKEN}"]},
        {"overrides": ["loss=../../hostile"]},
        {"config": {"loss": {"_target_": "canary.touch"}}},
        {"config": {"logging": {"trackers": {"x": {"_target_": "canary.touch"}}}}},
        {"config": {"notes": "${oc.env:TOKEN}"}},
    ],
)
def test_stored_jobs_run_nothing_and_stay_in_the_directory(
    sweep: Path, canary: Path, change: dict[str, Any]
) -> None:
    edit_json(sweep / "jobs.jsonl", lambda job: job.update(change))
    before = sorted(sweep.parent.rglob("*"))
    for use in (search_command, read_sweep):
        with pytest.raises(UserError, match=r"jobs\.jsonl"):
            use(sweep)
    assert sorted(sweep.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("loss/minimax.yaml", "_target_: canary.touch\n"),
        ("loss/minimax.yaml", '_target_: "can\\x61ry.touch"\n'),
        ("experiment/new.yaml", "# @package _global_\nloss: {_target_: canary.touch}\n"),
        ("experiment/new.yaml", "# @package _global_\nhydra: {job: {env_set: {A: b}}}\n"),
        ("experiment/new.yaml", "defaults: [/loss: ../../../evil]\n"),
        ("experiment/new.yaml", '# @package _global_\nnotes: "\\x24{oc.env:TOKEN}"\n'),
        ("experiment/new.yaml", "notes: 2001-99-99\nloss: {_target_: canary.touch}\n"),
        ("data/digits.yaml", "_target_: gan.data.digits\nroot: ${oc.env:TOKEN}\n"),
        ("data/digits.yaml", "a: &x {b: *x}\n_target_: canary.touch\n"),
        ("data/digits.yaml", "a: &x [*x]\n_target_: canary.touch\n"),
    ],
)
def test_copies_of_yaml_files_in_a_sweep_name_nothing_new(
    sweep: Path, canary: Path, file: str, content: str
) -> None:
    (sweep / "conf/0" / file).write_text(content)
    with pytest.raises(UserError, match="conf/0"):
        trust.refuse_untrusted_copies(sweep / "conf")


def test_copies_of_yaml_files_are_no_links(sweep: Path, tmp_path: Path) -> None:
    shutil.move(sweep / "conf/0/loss", tmp_path / "loss")
    (sweep / "conf/0/loss").symlink_to(tmp_path / "loss")
    with pytest.raises(UserError, match="is a link"):
        trust.refuse_untrusted_copies(sweep / "conf")


def test_study_that_holds_a_pickle_of_code_is_refused(canary: Path) -> None:
    pytest.importorskip("cmaes")
    from gan.sweep.cmaes import CmaEs

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (canary,)

    sampler = CmaEs(seed=0, warn_independent_sampling=False)
    with pytest.raises(UserError, match="no part of a sampler"):
        sampler._concat_optimizer_attrs({"cma:optimizer:0": pickle.dumps(Payload()).hex()})


def test_cma_es_goes_on_from_its_study() -> None:
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("cmaes")
    from gan.sweep.cmaes import CmaEs

    values = []
    for sampler in (optuna.samplers.CmaEsSampler, CmaEs):
        study = optuna.create_study(sampler=sampler(seed=0, warn_independent_sampling=False))
        study.optimize(lambda t: t.suggest_float("a", 0, 1) + t.suggest_float("b", 0, 1), 30)
        values.append([trial.value for trial in study.trials])
    assert values[0] == values[1]


# Links


@pytest.mark.parametrize(
    "name",
    [
        "checkpoints",
        "samples",
        "profile",
        "wandb",
        "metrics.jsonl",
        "train.log",
        "config.yaml",
        "overrides.yaml",
        "result.json",
        "provenance.json",
        "uncommitted.diff",
        ".lock",
        "events.out.tfevents.1.host.1",
        "metrics-fast.json",
        "profile/train.1.pt.trace.json",
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_links_in_a_run_directory_are_not_followed(
    hostile: Path, tmp_path: Path, name: str, is_there: bool
) -> None:
    outside, link = tmp_path / "outside", hostile / name
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        link.rename(outside)
    elif is_there:
        outside.write_text("mine")
    if outside.exists() and not is_there:
        shutil.rmtree(outside) if outside.is_dir() else outside.unlink()
    link.symlink_to(outside)
    before = {path: path.stat() for path in (outside, *outside.rglob("*")) if path.exists()}
    with pytest.raises(UserError) as error:
        resume.resume([hostile], resume.Options())
    assert str(error.value).isprintable()
    with pytest.raises(UserError, match="is a link"), claimed(hostile):
        pass
    after = {path: path.stat() for path in (outside, *outside.rglob("*")) if path.exists()}
    assert [(s.st_size, s.st_mtime_ns) for s in before.values()] == [
        (s.st_size, s.st_mtime_ns) for s in after.values()
    ]
    assert before.keys() == after.keys()


@pytest.mark.parametrize(
    "name",
    [".lock", ".owner", "sweep.json", "jobs.jsonl", "conf", "workers.log", "study.jsonl", "run"],
)
def test_links_in_a_sweep_directory_are_not_followed(
    sweep: Path, tmp_path: Path, name: str
) -> None:
    if name == "run":
        name = json.loads((sweep / "jobs.jsonl").read_text().splitlines()[0])["name"]
    outside, link = tmp_path / "outside", sweep / name
    link.rename(outside) if link.exists() else outside.write_text("mine")
    link.symlink_to(outside)
    before = {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()}
    with pytest.raises(UserError, match="is a link"):
        resume.resume([sweep], resume.Options())
    assert before == {path: path.read_bytes() for path in before}
    assert len(before) == len([p for p in (outside, *outside.rglob("*")) if p.is_file()])


# What is printed and exported


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.mine._target_=canary.touch",
        "hydra.run.dir=/tmp/elsewhere",
        "hydra.sweep.dir=/tmp/elsewhere",
        "hydra/launcher=slurm",
        "loss._target_=canary.touch",
        "notes=${oc.env:TOKEN}",
        "experiment=../../hostile",
        "--config-dir=/tmp/hostile",
        "--config-dir=hostile",
        "hydra.searchpath=[/tmp/hostile]",
        "--info=all",
        "-m",
        "x; touch canary",
        "$(touch canary)",
    ],
)
def test_printed_command_of_a_run_does_nothing_else(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t")
    run = read_table([make_run(tmp_path / "run", "loss=hinge")]).runs[0]
    words, remarks = command(replace(run, overrides=["loss=hinge", word]))
    assert not any(part in " ".join(words[2:]) for part in (word, "hydra", "config-dir", "s3cr3t"))
    assert any(text.startswith("loss") for text in words)
    assert any("not understood" in text for text in remarks)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss._target_", "canary.touch"),
        ("data.root", "${oc.env:TOKEN}"),
        ("penalty.gamma", "${oc.env:TOKEN}"),
        ("logging.trackers.x._target_", "canary.touch"),
    ],
)
def test_stored_values_are_neither_printed_nor_exported_as_code(
    tmp_path: Path, canary: Path, key: str, value: str
) -> None:
    run = read_table([make_run(tmp_path / "run", "loss=hinge")]).runs[0]
    run = replace(run, config=run.config | {key: value})
    file = tmp_path / "mine/experiment/found.yaml"
    file.parent.mkdir(parents=True)
    for use in (command, lambda run: export(run, file)):
        with pytest.raises(UserError, match=r"you have not used before"):
            use(run)
    assert not file.exists()


# Reading many runs


def laughs(levels: int = 9) -> str:
    """Return YAML whose aliases multiply by nine on each level."""
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


BAD_FILES = (
    ("config.yaml", laughs()),
    ("config.yaml", "a: &a [*a]"),
    ("config.yaml", f"a: {'[' * 500}{']' * 500}"),
    ("config.yaml", f"a: {'[' * 100_000}"),
    ("config.yaml", "seed: " + "9" * 400),
    ("config.yaml", f"notes: {'x' * 2**21}"),
    ("config.yaml", "{[1, 2]: 3}"),
    ("config.yaml", "metrics: {names: [[1], {a: 1}], objective: [1]}"),
    ("config.yaml", "seed: !!python/object/apply:os.system ['touch canary']"),
    ("config.yaml", "\x00\xff"),
    ("overrides.yaml", "[[1], {a: 2}]"),
    ("result.json", "[" * 100_000),
    ("result.json", '{"status": ["failed"]}'),
    ("result.json", '{"status": "completed", "final": 3, "best": []}'),
    ("result.json", '{"status": "completed", "choices": {"recipe": [1]}, "final": {}, "best": {}}'),
    ("result.json", '{"status": "completed", "seconds": ' + "9" * 400 + "}"),
    ("result.json", '{"status": "failed", "error": {"a": [1]}, "measured": [1]}'),
    ("result.json", '{"status": "failed", "error": "\\u001b[2Jgone"}'),
    ("metrics.jsonl", '{"step": 1, "sliced_wasserstein": "x"}\n'),
    ("metrics.jsonl", '{"step": ' + "9" * 400 + ', "sliced_wasserstein": 1e999}\n'),
    ("metrics.jsonl", '{"step": 1, "sliced_wasserstein": ' + "9" * 400 + "}\n"),
    ("metrics.jsonl", "[" * 100_000 + "\n"),
    ("metrics-fast.json", '{"values": {"a": ' + "[" * 100_000),
    ("metrics-fast.json", '{"values": {"lenet_fid": 1}, "samples": [1], "real": {"a": 1}}'),
)
"""Names of files in run directories, and what they may hold."""


def test_bad_runs_do_not_stop_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs/good", "loss=hinge")
    make_run(tmp_path / "runs/other", "loss=hinge", "seed=1")
    for number, (file, content) in enumerate(BAD_FILES):
        bad = make_run(tmp_path / f"runs/bad{number}", "loss=hinge")
        if file == "metrics.jsonl":
            (bad / "result.json").unlink()
        (bad / file).write_text(content)
        compare.compare([bad, tmp_path / "runs/good"], compare.Options())
        out, err = capsys.readouterr()
        assert "\ngood" in out, content[:80]
        assert f"\nbad{number}" in out, content[:80]
        assert "\x1b" not in out + err
    compare.compare([tmp_path / "runs"], compare.Options(html=tmp_path / "page.html"))
    compare.compare([tmp_path / "runs"], compare.Options(group="seed", sort="sliced_wasserstein"))
    clean.clean([tmp_path / "runs"], clean.Options())


def test_pictures_that_cannot_be_read_are_left_out_of_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs/one", image=3)
    first, second, third = sorted((run / "samples").glob("*.png"))
    Image.fromarray(np.zeros((1, 20_000), np.uint8)).save(first)
    Image.new("1", (10_000, 9_000)).save(second)
    third.write_bytes(third.read_bytes()[:100])
    (pictures,) = page_data(read_table([run]), "runs")["samples"]["runs"]
    assert set(pictures) == {"200"}


def test_escape_sequences_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escape = "\x1b]0;owned\x07\x9b31m"
    make_run(tmp_path / "runs" / f"x{escape}", f"notes='{escape}'", status="failed", error=escape)
    make_run(tmp_path / "runs/y", "seed=1")
    for form in ("auto", "table", "csv", "json", "markdown", "latex"):
        compare.compare([tmp_path / "runs"], compare.Options(format=form))
    clean.clean([tmp_path / "runs"], clean.Options())
    out, err = capsys.readouterr()
    assert not {*"\x1b\x07\x9b"} & {*(out + err)}
    assert not {*"\x1b\x07\x9b"} & {*str(UserError(escape))}


def test_trusted_runs_read_as_before(trained: Path) -> None:
    assert read_config(trained).model.hidden_dim == 8
    load_generator(trained)
