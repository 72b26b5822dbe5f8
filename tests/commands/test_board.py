"""TensorBoard in a browser, started by scripts/board.py."""

import re
import sys
import time
from pathlib import Path

import pytest
from chromium import chromium
from runs import SCRIPTS, short
from sweep_commands import Begin

from gan.train import run

# TensorBoard shows its content in shadow trees, which innerText leaves out.
TEXT = """
const text = (root) => [...root.childNodes].map((node) =>
    node.nodeType === 3 ? node.textContent
    : ["STYLE", "SCRIPT"].includes(node.tagName) ? ""
    : (node.shadowRoot ? text(node.shadowRoot) : "") + text(node)).join(" ");
return text(document.body);
"""


@pytest.mark.browser
def test_tensorboard_shows_a_row_for_each_run_curves_samples_and_networks(
    tmp_path: Path, begin: Begin
) -> None:
    for rate in ("0.0001", "0.0003"):
        override = f"optimizer.lr={rate}"
        run(short(override), tmp_path / "sweep" / f"lr={rate}", overrides=[override])
    browser = chromium(tmp_path / "profile")
    command = [sys.executable, str(SCRIPTS / "board.py"), str(tmp_path / "sweep"), "port=0"]
    process = begin(command)
    try:
        assert process.stderr
        matches = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in process.stderr)
        address = next(match[0] for match in matches if match)
        for tab, texts in {
            "hparams": ["lr=0.0001", "lr=0.0003", "optimizer.lr", "best/sliced_wasserstein"],
            "custom_scalars": ["Losses", "D(x) and D(G(z))", "Quality"],
            "images": ["samples"],
            "graphs": ["GAN"],
        }.items():
            browser.get("about:blank")
            browser.get(f"{address}#{tab}")
            until = time.monotonic() + 60
            while any(text not in browser.execute_script(TEXT) for text in texts):
                assert time.monotonic() < until, f"{tab} does not show {texts}"
                time.sleep(0.5)
        complaints = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert complaints == []
    finally:
        browser.quit()
        process.terminate()
