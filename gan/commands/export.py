"""Write the generator of a run for other programs: gan export RUN_DIR out=generator.safetensors

out=NAME.safetensors holds weights and configuration, and gan.load_generator rebuilds the network
from it. out=NAME.pt2 is a program of torch.export, and out=NAME.onnx one of ONNX, which needs
pip install "gan-sweeps[onnx]". Samples of the file are compared with the run's before it is there.
"""

from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import run_command
from gan.commands.help import CHECKPOINT, STANDING, WEIGHTS, option
from gan.errors import UserError
from gan.system.invocation import command_line
from gan.system.startup import fast_imports


@dataclass
class Options:
    """Options of `gan export`."""

    out: Path = option(
        Path("generator.safetensors"),
        "file to write: NAME.safetensors, NAME.pt2 or NAME.onnx",
    )
    standing: int = option(0, STANDING)
    weights: str = option("auto", WEIGHTS)
    checkpoint: str = option("newest", CHECKPOINT)


def main() -> None:
    """Run the command line."""
    run_command(export, Options)


def export(paths: list[Path], options: Options) -> None:
    """Write the generator of one run, and print how far the file's samples are from the run's.

    Raises:
        UserError: there is no generator, an option is wrong, or the file cannot be written.
    """
    if len(paths) != 1:
        usage = f"{command_line('export')} RUN_DIR out=generator.safetensors"
        raise UserError(f"usage: {usage}")
    # torch takes seconds to import. Help and mistakes on the command line need none of it.
    with fast_imports():
        from gan.run.export import export
        from gan.run.trained import load_generator, take_standing_statistics

    trained = load_generator(paths[0], options.weights, options.checkpoint)
    take_standing_statistics(trained, options.standing)
    difference = export(trained, options.out)
    print(
        f"{options.out}: {trained.weights} weights of step {trained.step}; "
        f"its samples differ from the run's by at most {difference:.2g}"
    )
