"""Sample from a run's checkpoint: python scripts/generate.py RUN_DIR n=64 seed=1 out=digits.png

out=NAME.png makes a grid, out=NAME.npz an array of images, out=NAME.gif an endless walk through
n latents, and any other name a folder of n PNG files. With interpolate=true, a PNG holds n - 1
rows that lead from each latent to the next.
"""

from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import script
from gan.errors import UserError
from gan.launchers.startup import lasting


@dataclass
class Options:
    n: int = 64
    seed: int = 0
    out: str = "samples.png"
    label: int | None = None
    interpolate: bool = False
    frames: int = 12
    weights: str = "auto"
    device: str = "auto"


def generate(paths: list[Path], options: Options) -> None:
    if len(paths) != 1:
        raise UserError("usage: python scripts/generate.py RUN_DIR n=64 seed=1 out=digits.png")
    with lasting():
        from gan.commands.generate import write

    write(
        paths[0],
        Path(options.out),
        count=options.n,
        seed=options.seed,
        label=options.label,
        interpolate=options.interpolate,
        frames=options.frames,
        weights=options.weights,
        device=options.device,
    )
    print(options.out)


if __name__ == "__main__":
    script(generate, Options)
