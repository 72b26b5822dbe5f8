"""What every metric of two feature sets asks of them."""

from torch import Tensor


def check_features(real: Tensor, fake: Tensor) -> None:
    """
    Raises:
        ValueError: these are not two (n, width) sets of one width with finite values.
    """
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"need two (n, width) sets of one width, got {shapes}")
    for name, features in (("real", real), ("fake", fake)):
        if not features.isfinite().all():
            raise ValueError(f"{name} features hold NaN or infinity")
