"""TensorBoard in a browser, started by scripts/board.py."""

import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from chromium import chromium
from fake_runs import make_run
from runs import SCRIPTS, short
from sweep_commands import Begin

from gan.commands.board import Options, board, linked
from gan.errors import UserError
from gan.train import run

# TensorBoard shows its content in shadow trees, which innerText leaves out.
TEXT = """
const text = (root) => [...root.childNodes].map((node) =>
    node.nodeType === 3 ? node.textContent
    : ["STYLE", "SCRIPT"].includes(node.tagName) ? ""
    : (node.shadowRoot ? text(node.shadowRoot) : "") + text(node)).join(" ");
return text(document.body);
"""


WIDTHS = """
const images = (root) => [...root.querySelectorAll("*")].flatMap((element) =>
    (element.tagName === "IMG" ? [element.naturalWidth] : [])
    .concat(element.shadowRoot ? images(element.shadowRoot) : []));
return images(document.body);
"""
"""Returns the widths of all pictures of the page, in pixels of their files."""

SHOW_SAMPLES = """
const buttons = [...document.querySelectorAll("button")];
const closed = buttons.find((one) => one.getAttribute("aria-checked") === "false"
    && one.textContent.trim() === "Image") || buttons.find((one) =>
    one.getAttribute("aria-label") === "Expand group" && one.textContent.includes("samples"));
if (closed) closed.click();
"""
"""Clicks on Image in TIME SERIES, and then on the group of the samples, which is closed."""


@pytest.fixture
def address(tmp_path: Path, begin: Begin) -> Iterator[str]:
    """Train two runs, start TensorBoard on both, and return its address."""
    for rate in ("0.0001", "0.0003"):
        override = f"optimizer.lr={rate}"
        run(short(override), tmp_path / "sweep" / f"lr={rate}", overrides=[override])
    command = [sys.executable, str(SCRIPTS / "board.py"), str(tmp_path / "sweep"), "port=0"]
    process = begin(command)
    assert process.stderr
    matches = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in process.stderr)
    yield next(match[0] for match in matches if match)
    process.terminate()


def test_tensorboard_has_every_sample_grid(address: str) -> None:
    query = urlencode({"run": "lr=0.0001", "tag": "samples", "sample": 0})
    images: list[dict[str, int]] = []
    until = time.monotonic() + 60
    # TensorBoard answers before it has read the files.
    while not images and time.monotonic() < until:
        time.sleep(0.2)
        with urlopen(f"{address}data/plugin/images/images?{query}") as answer:
            images = json.load(answer)
    assert [image["step"] for image in images] == [0, 10, 20, 30, 40]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Path]]:
    """Return a list that gets the runs of each folder which TensorBoard would be started on, with
    the directories in which they lie."""
    folders: list[dict[str, Path]] = []

    def serve(folder: Path, port: int) -> None:
        found = {str(path.relative_to(folder)): path.resolve() for path in folder.glob("*/*")}
        folders.append(found)

    monkeypatch.setattr("gan.commands.board._serve", serve)
    return folders


def test_board_shows_the_newest_or_the_best_runs_by_the_names_that_they_have(
    tmp_path: Path, served: list[dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for number, value in enumerate((0.4, 0.1, 0.3, 0.2)):
        run_dir = make_run(tmp_path / "sweep" / f"seed={number}", f"seed={number}", value=value)
        if number != 1:
            (run_dir / "events.out.tfevents.1").touch()
        for path in run_dir.rglob("*"):
            os.utime(path, (1e9 + number,) * 2)
    board([tmp_path], Options(best=2))
    board([tmp_path], Options(last=1))
    best = {name: tmp_path / name for name in ("sweep/seed=2", "sweep/seed=3")}
    assert served == [best, {"sweep/seed=3": tmp_path / "sweep/seed=3"}]
    assert not any(temporary.iterdir()), "links are left behind"
    for options in (Options(last=0), Options(best=1, last=1), Options(sort="lr")):
        with pytest.raises(UserError, match=r"(last|best|sort)="):
            board([tmp_path], options)


@pytest.mark.parametrize("count", [40, 41])
def test_board_says_why_nothing_is_ticked_above_40_runs(
    tmp_path: Path, served: list[dict[str, Path]], capsys: pytest.CaptureFixture[str], count: int
) -> None:
    for number in range(count):
        (tmp_path / f"sweep/{number}").mkdir(parents=True)
        (tmp_path / f"sweep/{number}/events.out.tfevents.1").touch()
    board([tmp_path], Options())
    assert len(served[0]) == count
    advice = capsys.readouterr().err
    for text in ("41 runs", "TOGGLE ALL RUNS", "last=20", "best=20", "html=report.html"):
        assert (text in advice) == (count == 41)


@pytest.mark.browser
def test_tensorboard_shows_a_row_for_each_run_curves_samples_and_networks(
    tmp_path: Path, address: str
) -> None:
    browser = chromium(tmp_path / "profile")
    try:
        for tab, texts in {
            "timeseries": ["/loss of D", "/mean D on real", "Metrics"],
            "hparams": ["lr=0.0001", "lr=0.0003", "optimizer.lr", "best/sliced_wasserstein"],
            "custom_scalars": ["Losses", "D(x) and D(G(z))", "Quality"],
            "images": ["samples"],
            "graphs": ["generator", "discriminator"],
        }.items():
            browser.get("about:blank")
            browser.get(f"{address}#{tab}")
            until = time.monotonic() + 60
            while any(text not in browser.execute_script(TEXT) for text in texts):
                assert time.monotonic() < until, f"{tab} does not show {texts}"
                time.sleep(0.5)
        for tab in ("images", "timeseries"):
            browser.get("about:blank")
            browser.get(f"{address}#{tab}")
            until = time.monotonic() + 60
            while not any(width > 0 for width in browser.execute_script(WIDTHS)):
                browser.execute_script(SHOW_SAMPLES)
                assert time.monotonic() < until, f"{tab} shows no picture"
                time.sleep(0.5)
        complaints = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert complaints == []
    finally:
        browser.quit()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=rf"port={port}: cannot be used .*; port=0 takes"):
            board([tmp_path], Options(port=port))


def test_a_run_is_linked_where_its_own_directory_is_shown(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "events.out.tfevents.1").touch()
    with linked(run_dir, [run_dir]) as shown:
        assert [path.name for path in (shown / "run").iterdir()] == ["events.out.tfevents.1"]
