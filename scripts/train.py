"""Train one GAN, or a sweep of them with -m: python scripts/train.py [KEY=VALUE ...]"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gan.commands.command_line import hydra_app
from gan.launchers.startup import lasting


def train(cfg: DictConfig) -> float:
    with lasting():
        from gan.train import run

    hydra = HydraConfig.get()
    return run(cfg, hydra.runtime.output_dir, overrides=list(hydra.overrides.task))


if __name__ == "__main__":
    hydra_app(train)
