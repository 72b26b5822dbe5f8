"""The program `gan`, and one module for each of its commands."""

import sys
from importlib import import_module

from gan import __version__
from gan.errors import nearest
from gan.system.invocation import COMMANDS
from gan.system.startup import start_program

COMPLETION = ["-sc", "query=bash"]
"""The arguments with which the shell asks for words that may come next."""


def main() -> None:
    """Run the command that the command line names.

    A name that is no command ends the process with one line on standard error and exit code 2.
    """
    start_program()
    name, *arguments = sys.argv[1:] or ["--help"]
    if sys.argv[1:] == COMPLETION:
        from gan.commands.completion import print_words

        print_words()
    elif name in COMMANDS:
        sys.argv[1:] = arguments
        import_module(f"gan.commands.{name.replace('-', '_')}").main()
    elif name in ("-h", "--help", "help"):
        print(_help())
    elif name in ("-V", "--version"):
        print(f"gan-sweeps {__version__}")
    else:
        hint = nearest(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        print(f"gan {name}: no such command{hint}", file=sys.stderr)
        raise SystemExit(2)


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {about}" for name, about in COMMANDS.items()]
    return "\n".join(
        [
            "Train generative adversarial networks: gan COMMAND [ARGUMENTS]",
            "",
            *rows,
            "",
            "gan COMMAND --help prints the arguments of a command.",
            'eval "$(gan train -sc install=bash)" lets the Tab key complete them in bash.',
        ]
    )
