"""Words that may come next on a command line, for the Tab key in bash.

Hydra makes the shell function: `eval "$(gan train -sc install=bash)"`. That function calls
`gan -sc query=bash`, which names no command, with the line so far in COMP_LINE.
"""

import itertools
import os
import sys
from importlib import import_module

from gan.commands.help import named_options
from gan.system.invocation import COMMANDS


def print_words() -> None:
    """Print the words that may come next, in one line.

    A line without words lets the shell complete names of files.
    """
    _, *words = os.environ["COMP_LINE"].split(" ")
    words = [word for word in words[:-1] if word] + words[-1:]
    if len(words) < 2:
        print(*COMMANDS)
    elif words[0] == "train":
        # Hydra looks for a folder of options on its own command line only.
        for option, value in itertools.pairwise(words):
            if option in ("--config-dir", "-cd"):
                sys.argv += ["--config-dir", value]
            elif value.startswith("--config-dir="):
                sys.argv.append(value)
        os.environ["COMP_LINE"] = " ".join(["gan", *words[1:]])
        import_module("gan.commands.train").main()
    elif words[0] in COMMANDS:
        module = import_module(f"gan.commands.{words[0].replace('-', '_')}")
        print(*(f"{name}=" for name in named_options(module.Options)))
