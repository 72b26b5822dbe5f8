"""Penalties that see features, and that keep a state."""

from torch.nn.functional import relu

from gan.augment import augment, draw
from gan.penalties import Penalty

MOVES = ["translation"]


def consistency(*, weight: float) -> Penalty:
    """Keep logits and features as they are when real samples move (arXiv:1910.12027)."""

    def term(discriminator, real, fake, real_logits, fake_logits, *numbers):
        moved = augment(real, MOVES, numbers)
        logits = (discriminator(moved) - real_logits).square().mean()
        features = discriminator.features(moved) - discriminator.features(real)
        return weight * (logits + features.square().mean())

    return Penalty(
        term=term, draw=lambda real, noise: draw(real.shape, MOVES, noise), uses_features=True
    )


class LeCam:
    """Keep logits near the moving averages of the other kind's logits (arXiv:2104.03310)."""

    def __init__(self, *, weight: float, decay: float):
        self.weight, self.decay, self.real, self.fake = weight, decay, 0.0, 0.0

    def term(self, discriminator, real, fake, real_logits, fake_logits):
        self.real = self.decay * self.real + (1 - self.decay) * real_logits.detach().mean()
        self.fake = self.decay * self.fake + (1 - self.decay) * fake_logits.detach().mean()
        above, below = relu(real_logits - self.fake), relu(self.real - fake_logits)
        return self.weight * (above.square().mean() + below.square().mean())

    def state_dict(self):
        return {"real": self.real, "fake": self.fake}

    def load_state_dict(self, state):
        self.real, self.fake = state["real"], state["fake"]
