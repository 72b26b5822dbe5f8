"""Progress of a run on the terminal."""

import io
import logging
import re
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from gan.run.progress import bar_line, counted, duration, progress

RECORD = {
    "step": 100,
    "epoch": 3.2,
    "loss/discriminator": 0.958,
    "loss/generator": 0.967,
    "prob/real": 0.65,
    "prob/fake": 0.402,
}
VALUES = "D loss 0.958  G loss 0.967  D(x) 0.650  D(G(z)) 0.402"
METRICS = ("lenet_fid", "lenet_kid", "precision", "recall", "density", "coverage")


def drawn(width: int) -> str:
    """Return the bar of a run of 15,000 steps at step 4,000."""
    console = Console(file=io.StringIO(), width=width)
    now = 0.0
    bar = Progress(console=console, get_time=lambda: now)
    task = bar.add_task("", total=15000, completed=0, values=VALUES)
    for number in range(1, 41):
        now = float(number)
        bar.update(task, completed=100 * number)
    console.print(bar_line(bar.tasks[0], width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().removesuffix("\n")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_the_bar_is_one_line_with_step_and_time_left_at_every_width(width: int) -> None:
    line = drawn(width)
    assert "\n" not in line
    assert len(line) <= width
    assert " 4000/15000 ━━━━" in line
    assert "1:50 left" in line


def test_a_narrow_bar_leaves_out_the_values_and_then_the_rate() -> None:
    assert "steps/s" not in drawn(40)
    assert "100 steps/s" in drawn(80)
    assert VALUES not in drawn(80)
    assert f"100 steps/s  {VALUES}" in drawn(120)


def test_lines_of_values_break_between_values(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with progress(0, 15000, enabled=True) as show:
        show(100, RECORD | dict.fromkeys(METRICS, 0.123456))
    first, *others = caplog.messages
    assert first == f"step   100/15000  {VALUES}"
    assert [f"{name} 0.1235" for name in METRICS] == [
        value for line in others for value in line.removeprefix("step   100/15000  ").split("  ")
    ]
    assert len(others) == 2
    assert all(len(line) <= 80 for line in caplog.messages)


def test_log_lines_stay_whole_above_the_bar_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    logger, handler = logging.getLogger("gan"), logging.StreamHandler(sys.stdout)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    stream = handler.stream
    with progress(0, 200, enabled=True) as show:
        show(100, RECORD)
        logger.warning("something is odd")
    assert handler.stream is stream
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    lines = re.split(r"[\r\n]+", plain)
    assert f"step 100/200  {VALUES}" in lines
    assert "something is odd" in lines
    assert any(line.startswith("100/200 ━") for line in lines)


def test_numbers_have_their_nouns_and_times_their_units() -> None:
    assert (counted(1, "thread"), counted(15000, "step")) == ("1 thread", "15,000 steps")
    assert [duration(s) for s in (-1, 12.4, 151, 3751)] == ["0 s", "12 s", "2:31", "1:02:31"]
