"""The trained generator of a run, and what it is sampled with."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan.arithmetic import exact_matmul
from gan.build import build_networks
from gan.config.checks import as_config, plain
from gan.config.trust import powers, refuse_untrusted
from gan.data import Scaling
from gan.errors import UserError, nearest
from gan.run.checkpoint import load_best_checkpoint, load_newest_checkpoint, load_weights
from gan.run.directory import read_trusted_config
from gan.run.evaluation import LatentGrid, arrange_latents, draw_latents, generate
from gan.seeds import derive_seed

WEIGHTS = ("auto", "average", "generator")
"""Values of the option `weights`."""
CHECKPOINTS = ("newest", "best")
"""Values of the option `checkpoint`."""
SUFFIX = ".safetensors"
"""The ending of a file that holds a generator and its configuration."""


class TrainedGenerator(nn.Module):
    """A generator with trained weights, in evaluation mode.

    Call it with latents (n, latent_dim), and with int64 labels (n,) if it is conditional. It
    returns images (n, channels, height, width) in [-1, 1], or other samples (n, *image_shape).
    """

    def __init__(
        self,
        cfg: DictConfig,
        image_shape: Sequence[int],
        data_classes: int,
        step: int,
        weights: str,
        state: dict[str, Tensor],
        origin: Path,
        scaling: Scaling | None = None,
        data_hash: str | None = None,
    ):
        """Build the network of a configuration on the CPU, and load its weights.

        Args:
            image_shape: the shape of one sample.
            data_classes: the number of classes of the data.
            step: the number of training steps that the weights have seen.
            weights: "average" or "generator", whichever `state` holds.
            state: the state of the network.
            origin: the place that the weights come from, for an error.
            scaling: the way from raw samples to the data's own units; None if they are in these.
            data_hash: the hash of the data that it was trained on, if it is known.

        Raises:
            UserError: the weights do not fit the network.
        """
        super().__init__()
        self.cfg = cfg
        self.image_shape = tuple(image_shape)
        self.data_classes = data_classes
        self.step = step
        self.weights = weights
        self.scaling, self.data_hash = scaling, data_hash
        self.network, _ = build_networks(cfg, self.image_shape, data_classes, cfg.trainer.pac)
        load_weights(self.network, "generator", state, str(origin))
        self.eval()

    @property
    def latent_dim(self) -> int:
        """The number of latents of one sample."""
        return int(self.cfg.model.latent_dim)

    @property
    def classes(self) -> int:
        """The number of labels that it takes; 0 if it is not conditional."""
        return self.data_classes if self.cfg.model.conditional else 0

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        samples: Tensor = self.network(z) if labels is None else self.network(z, labels)
        return samples


def load_generator(
    path: str | Path, weights: str = "auto", checkpoint: str = "newest"
) -> TrainedGenerator:
    """Return the generator of one of a run's checkpoints, or of a .safetensors file.

    Only a function that a config group of this installation names, or that this user has used
    before, builds the network (see `gan.config.trust`).

    Args:
        path: a run's directory, or a file that `gan export` wrote.
        weights: "average", "generator", or "auto", which takes the average if the run has one.
        checkpoint: "newest", the newest one that is readable, or "best", by `trainer.keep_best`.

    Raises:
        UserError: the directory is not a run's, or has no checkpoint or no such weights; or the
            file holds no generator.
    """
    path = Path(path)
    if weights not in WEIGHTS:
        hint = nearest(weights, WEIGHTS)
        raise UserError(f"weights={weights}: must be one of {', '.join(WEIGHTS)}{hint}")
    if checkpoint not in CHECKPOINTS:
        hint = nearest(checkpoint, CHECKPOINTS)
        raise UserError(f"checkpoint={checkpoint}: must be one of {', '.join(CHECKPOINTS)}{hint}")
    if path.is_file() or path.suffix == SUFFIX:
        if checkpoint == "best":
            raise UserError(f"checkpoint=best: {path} is a file, with the weights of one step")
        return _from_file(path, weights)
    cfg = read_trusted_config(path)
    saved = load_best_checkpoint(path) if checkpoint == "best" else load_newest_checkpoint(path)
    if saved is None:
        raise UserError(f"{path}: has no checkpoint yet")
    if weights == "average" and saved["average"] is None:
        raise UserError(f"weights=average: {path} kept no average (trainer.ema_half_life=null)")
    chosen = "average" if weights != "generator" and saved["average"] else "generator"
    shape, classes, step = saved["image_shape"], saved["classes"], saved["step"]
    # Checkpoints of earlier versions hold neither a scaling nor a hash.
    scaling = Scaling(**saved["scaling"]) if saved.get("scaling") else None
    return TrainedGenerator(
        cfg, shape, classes, step, chosen, saved[chosen], path, scaling, saved.get("data_hash")
    )


def layers_with_statistics(trained: TrainedGenerator, batches: int) -> list[_BatchNorm]:
    """Return the layers of batch norm whose statistics may be taken from so many batches.

    Raises:
        UserError: there is none, and the number is not 0; or it is negative.
    """
    if batches < 0:
        raise UserError(f"standing={batches}: must be at least 0")
    norms = [layer for layer in trained.modules() if isinstance(layer, _BatchNorm)]
    layers = [layer for layer in norms if layer.running_mean is not None]
    if batches and not layers:
        raise UserError(f"standing={batches}: must be 0, as the generator has no batch norm")
    return layers


def take_standing_statistics(
    trained: TrainedGenerator, batches: int, truncation: float | None = None
) -> None:
    """Replace the statistics of batch norm by those of the generator as it is (arXiv:1809.11096).

    Training keeps moving averages, which lag behind its weights and are not those of averaged
    weights. The means and variances are averaged over so many batches of the size of training,
    of random classes.

    Args:
        batches: number of batches; 0 changes nothing.
        truncation: of the latents, see `draw_latents`.

    Raises:
        UserError: there is no batch norm, or the number is negative.
    """
    layers = layers_with_statistics(trained, batches)
    if not batches:
        return
    size, cfg = int(trained.cfg.trainer.batch_size), trained.cfg
    device = next(trained.parameters()).device
    z = draw_latents(batches * size, trained.latent_dim, cfg.seed, "standing", truncation)
    generator = torch.Generator().manual_seed(derive_seed(cfg.seed, "standing labels"))
    labels = torch.randint(max(trained.classes, 1), (len(z),), generator=generator)
    given = (z, labels) if trained.classes else (z,)
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        # None gives each batch the same weight.
        layer.momentum = None
        layer.train()
    try:
        with torch.no_grad(), exact_matmul():
            for batch in zip(*(part.split(size) for part in given), strict=True):
                trained(*(part.to(device) for part in batch))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


def inputs(
    trained: TrainedGenerator,
    n: int,
    seed: int,
    labels: int | Sequence[int] | None = None,
    truncation: float | None = None,
) -> LatentGrid:
    """Return the latents and labels of n samples, on the CPU.

    Args:
        labels: the class of all samples, or n classes. None gives a conditional generator a row
            for each class, the same latents in every row, as many as fit into n.
        truncation: see `draw_latents`.

    Raises:
        UserError: n or the truncation is not positive, or labels are no classes of the generator
            or not n of them.
    """
    if n < 1:
        raise UserError(f"n={n}: must be at least 1")
    z = draw_latents(n, trained.latent_dim, seed, truncation=truncation)
    if labels is None:
        return arrange_latents(z, trained.classes)
    chosen = [int(label) for label in torch.as_tensor(labels).flatten()]
    chosen = chosen * n if len(chosen) == 1 else chosen
    if len(chosen) != n:
        raise UserError(f"labels: must be one class, or {n} of them, not {len(chosen)}")
    for label in chosen:
        if not trained.classes:
            raise UserError(f"label={label}: the run is not conditional (model.conditional=false)")
        if not 0 <= label < trained.classes:
            raise UserError(f"label={label}: must be a class from 0 to {trained.classes - 1}")
    return LatentGrid(z, torch.tensor(chosen), None)


def sample(
    trained: TrainedGenerator,
    n: int,
    seed: int = 0,
    labels: int | Sequence[int] | None = None,
    truncation: float | None = None,
) -> Tensor:
    """Return samples, drawn where the generator is: see `inputs` and `generate`.

    Samples of data with a scaling are in the data's own units, float64 on the CPU.
    """
    z, chosen, _ = inputs(trained, n, seed, labels, truncation)
    device = next(trained.parameters()).device
    raw = generate(trained, z.to(device), None if chosen is None else chosen.to(device), seed=seed)
    return trained.scaling.to_own_units(raw) if trained.scaling else raw


def describe(trained: TrainedGenerator) -> dict[str, str]:
    """Return the texts in the header of a .safetensors file that rebuild the generator."""
    facts = {
        "image_shape": trained.image_shape,
        "data_classes": trained.data_classes,
        "step": trained.step,
        "weights": trained.weights,
        "scaling": trained.scaling and [part.tolist() for part in trained.scaling],
        "data_hash": trained.data_hash,
    }
    # Other settings, such as those of trackers, are nobody's business who gets the file.
    cfg = OmegaConf.masked_copy(trained.cfg, ["seed", "data", "model"])
    config = plain(cfg) | {
        "trainer": {name: trained.cfg.trainer[name] for name in ("pac", "batch_size")}
    }
    return {"config": json.dumps(config), "generator": json.dumps(facts)}


def _from_file(path: Path, weights: str) -> TrainedGenerator:
    if not path.exists():
        raise UserError(f"{path}: does not exist")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config, facts = json.loads(header["config"]), json.loads(header["generator"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        reason = str(error) if isinstance(error, OSError) else "is damaged or holds no generator"
        raise UserError(f"{path}: {reason}") from error
    refuse_untrusted(path, powers({"model": config["model"]}))
    if weights not in ("auto", facts["weights"]):
        raise UserError(f"weights={weights}: {path} holds {facts['weights']}")
    if facts["scaling"]:
        facts["scaling"] = Scaling(
            *(torch.tensor(part, dtype=torch.float64) for part in facts["scaling"])
        )
    return TrainedGenerator(as_config(config), **facts, state=state, origin=path)
