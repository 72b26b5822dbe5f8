"""The commands of this program, as the user can type them here."""

import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

COMMANDS = {
    "train": "train one run, or a sweep of runs",
    "resume": "continue an interrupted run or sweep",
    "generate": "write samples of a run",
    "export": "write the generator of a run for other programs",
    "evaluate": "measure runs from their checkpoints",
    "compare": "compare runs: tables, rankings, a page, pictures",
    "board": "open TensorBoard on runs",
    "clean": "remove checkpoints and runs that are no longer needed",
    "train-classifier": "train the classifier behind lenet_fid and other metrics",
}
"""Every command of the program, and what it does."""


def command(name: str) -> list[str]:
    """Return the words that start a command of this program in the user's shell.

    A process that a script of a checkout started gets the path of the script's sibling. Any other
    gets the program `gan`, or its path where the shell would find another program of that name.
    """
    script = Path(sys.argv[0])
    sibling = script.with_name(f"{name.replace('-', '_')}.py")
    if script.absolute().parent.name == "scripts" and script.suffix == ".py" and sibling.is_file():
        return [_word("python", Path(sys.executable)), str(sibling)]
    program = script if script.name == "gan" else Path(sysconfig.get_path("scripts"), "gan")
    if program.is_file():
        return [_word("gan", program), name]
    return [_word("python", Path(sys.executable)), "-m", "gan", name]


def command_line(name: str, *arguments: object) -> str:
    """Return a command with its arguments in one line, quoted for the user's shell."""
    return shlex.join([*command(name), *map(str, arguments)])


def commands(*purposes: tuple[object, ...]) -> str:
    """Return what can be done next, one purpose and its command after the other.

    Args:
        purposes: each the purpose in words, the name of a command, and its arguments. An empty
            purpose is that of the command before.
    """
    lines = ["", "next:"]
    for purpose, name, *arguments in purposes:
        lines += [f"  {purpose}:"] if purpose else []
        lines.append(f"    {command_line(str(name), *arguments)}")
    return "\n".join(lines)


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command of a new process that runs a module.

    `python -m` would look into the working directory first, where a gan.py or a queue.py of the
    user's may lie. It does so if this process looks there as well.
    """
    if {"", str(Path.cwd())} & {*sys.path}:
        return [sys.executable, "-m", module, *arguments]
    leave_out = "import sys; sys.path[:1] = filter(None, sys.path[:1])"
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"{leave_out}; {run}", *arguments]


def as_seen_here(path: Path) -> Path:
    """Return a path as short as it can be typed here: relative if it lies below this folder."""
    here = Path.cwd()
    absolute = here / path
    return absolute.relative_to(here) if here in absolute.parents else path


def as_typed_here(text: str) -> str:
    """Return a text with `gan COMMAND` replaced by the words that start the command here."""
    names = "|".join(map(re.escape, COMMANDS))
    return re.sub(rf"\bgan ({names})\b(?!-)", lambda found: command_line(found[1]), text)


def _word(name: str, program: Path) -> str:
    """Return the name of a program if the shell finds that one by it, and its path otherwise."""
    found = shutil.which(name)
    # Interpreters of several environments may be links to one file, so the folder counts as well.
    is_same = found and Path(found).parent == program.parent and Path(found).samefile(program)
    return name if is_same else str(program)
