"""Train one GAN, or a sweep of them with -m: python scripts/train.py [KEY=VALUE ...]"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan.commands.command_line import run_with_hydra
from gan.startup import fast_imports


def main() -> None:
    """Run the command line."""
    run_with_hydra(train)


def train(cfg: DictConfig) -> float:
    """Train one run in the directory that Hydra chose, and return its objective."""
    # torch takes seconds to import. Help, a printed configuration and errors need none of it.
    with fast_imports():
        from gan.train import run

    hydra = HydraConfig.get()
    return run(cfg, hydra.runtime.output_dir, overrides=list(hydra.overrides.task))
