"""The README's Python runs as written."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_every_block_of_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    # One trains, and another reads what it left.
    for block in sorted(blocks, key=lambda block: "load(" in block):
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "outputs/notebook/result.json").exists()
