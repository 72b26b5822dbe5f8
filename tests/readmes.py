"""The READMEs of this project, and the code and commands in them."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
READMES = sorted(
    path
    for path in ROOT.rglob("README.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
NAMES = [str(path.relative_to(ROOT)) for path in READMES]


def blocks(text: str, language: str) -> list[str]:
    """Return the code of a language in a text; the blocks may be indented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def commands(readme: Path) -> Iterator[str]:
    """Yield every command of a README as it is written, one of several on a line alone."""
    for block in blocks(readme.read_text(encoding="utf-8"), "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            parts = (command.strip() for command in line.split(" && "))
            yield from (command for command in parts if command and command[0] != "#")
