"""Train a classifier that metrics take their features from, and write its weights:
python scripts/train_classifier.py data=mnist out=mnist.safetensors

The weights that come with the package, gan/metrics/weights/mnist.safetensors and
fashion_mnist.safetensors, were made with `data=mnist epochs=6` and `data=fashion_mnist epochs=12`
and one thread (OMP_NUM_THREADS=1).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import script
from gan.errors import UserError, nearest

NAMES = ("mnist", "fashion_mnist")


@dataclass
class Options:
    data: str = "mnist"
    out: str = "classifier.safetensors"
    epochs: int = 6
    batch_size: int = 128
    lr: float = 3e-3
    seed: int = 0


def train_classifier(paths: list[Path], options: Options) -> None:
    if paths:
        raise UserError(f"{paths[0]}: no paths are needed; usage: data=mnist out=FILE")
    if options.data not in NAMES:
        hint = nearest(options.data, NAMES)
        raise UserError(f"data={options.data}: must be one of {', '.join(NAMES)}{hint}")
    out = Path(options.out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error
    # Said before the minutes of training, not after them.
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"out={out}: cannot be written")
    from hydra.utils import instantiate

    from gan.commands.train_classifier import save, train
    from gan.config.compose import compose

    data = instantiate(compose(f"data={options.data}").data, _partial_=True)()
    network, accuracy = train(
        data,
        flip=options.data == "fashion_mnist",
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
    )
    save(network, out, data=options.data, accuracy=accuracy)
    print(f"{out}: {accuracy:.2%} of the test images right")


if __name__ == "__main__":
    script(train_classifier, Options)
