"""TensorBoard as scripts/board.py starts it, in a browser."""

import re
import sys
import time
from pathlib import Path

import pytest
from chromium import chromium
from runs import SCRIPTS, short
from sweep_cases import Begin

from gan.train import run

# TensorBoard keeps what it shows in shadow trees.
TEXT = """
const text = (root) => [...root.childNodes].map((node) =>
    node.nodeType === 3 ? node.textContent
    : ["STYLE", "SCRIPT"].includes(node.tagName) ? ""
    : (node.shadowRoot ? text(node.shadowRoot) : "") + text(node)).join(" ");
return text(document.body);
"""


@pytest.mark.browser
def test_runs_are_rows_with_their_swept_keys_and_curves_are_laid_out(
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
        found = (re.search(r"http://127\.0\.0\.1:\d+/", line) for line in process.stderr)
        address = next(match[0] for match in found if match)
        for tab, wanted in {
            "hparams": ["lr=0.0001", "lr=0.0003", "optimizer.lr", "best/sliced_wasserstein"],
            "custom_scalars": ["Losses", "D(x) and D(G(z))", "Quality"],
            "images": ["samples"],
            "graphs": ["GAN"],
        }.items():
            browser.get("about:blank")
            browser.get(f"{address}#{tab}")
            until = time.monotonic() + 60
            while any(text not in browser.execute_script(TEXT) for text in wanted):
                assert time.monotonic() < until, f"{tab} does not show {wanted}"
                time.sleep(0.5)
        complaints = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert complaints == []
    finally:
        browser.quit()
        process.terminate()
