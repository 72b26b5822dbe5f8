"""What a run says as it begins and as it ends."""

import shlex
from pathlib import Path

import pytest
from runs import short

from gan.commands.train import conclude
from gan.errors import Diverged
from gan.run.directory import read_config, store_config
from gan.run.notices import next_steps
from gan.run.result import read_result, write_result
from gan.system.invocation import command_line
from gan.train import run

FEW = ("data=digits", "trainer.max_steps=2", "logging=quiet")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps. Tests must not write to it."""
    run_dir = tmp_path_factory.mktemp("runs") / "a run"
    run(short(*FEW), run_dir, choices={"data": "digits", "model": "base", "penalty": "r1"})
    return run_dir


def test_the_start_says_what_is_trained_where_and_for_how_long(finished: Path) -> None:
    log = (finished / "train.log").read_text()
    for line in (
        "training a GAN\n",
        "  data       digits: 1,437 grey images of 28x28 to train on, 360 to test with;\n"
        "             10 classes of 133 to 154 each\n",
        "  networks   base: generator of 15,216 parameters, discriminator of 12,849\n",
        "  loss       non_saturating, penalty r1\n",
        "  length     2 steps of 16 samples: 0.022 epochs\n",
        "  device     cpu, 1 thread\n",
    ):
        assert line in log


def test_the_end_says_which_way_the_objective_is_better_and_where_samples_are(
    finished: Path,
) -> None:
    result = read_result(finished)
    assert result
    log = (finished / "train.log").read_text()
    assert "completed at step 2\n" in log
    value = f"{result['objective']:.4g}"
    assert f"  objective  sliced_wasserstein {value}, lower is better\n" in log
    assert f"  samples    {finished / 'samples' / 'step-000002.png'}\n" in log


def test_next_steps_are_commands_that_a_shell_takes_apart_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parent)
    text = next_steps(finished, read_config(finished))
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    assert lines[0] == command_line("board", "a run")
    last_words = ["a run", "n=64", ".", "trainer.max_steps=4"]
    assert [shlex.split(line)[-1] for line in lines] == last_words
    assert "max_steps" not in next_steps(finished, read_config(finished), of_sweep=True)


def test_a_diverged_run_says_why_it_may_have_and_ends_with_an_error(
    finished: Path, tmp_path: Path
) -> None:
    store_config(tmp_path, short(*FEW, "optimizer.lr=0.1", "penalty=none"), [], dict)
    result = read_result(finished)
    assert result
    ended = {"status": "diverged", "steps": 17, "error": "a loss is not finite"}
    write_result(tmp_path, result | ended)
    with pytest.raises(Diverged) as error:
        conclude(tmp_path)
    assert error.value.exit_code == 1
    assert str(error.value) == (
        f"{tmp_path}: diverged at step 17, a loss is not finite: a learning rate of 0.1 may be too "
        "high; nothing keeps the discriminator smooth; "
        "repeat it with optimizer.lr=0.0002 or penalty=r1"
    )


def test_without_metrics_a_loss_is_no_objective(tmp_path: Path) -> None:
    objective = run(short(*FEW, "metrics=none"), tmp_path)
    assert objective != objective, "it is not a number"
    result = read_result(tmp_path)
    assert result
    assert (result["status"], result["objective"]) == ("completed", None)
    assert "objective  none, since nothing is measured\n" in (tmp_path / "train.log").read_text()
    measure = command_line("evaluate", tmp_path, "metrics=default")
    assert measure in next_steps(tmp_path, read_config(tmp_path))
