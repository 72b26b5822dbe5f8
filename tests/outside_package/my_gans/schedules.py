"""A schedule of the learning rate."""


def halve_every(*, total_steps: int, parts: int):
    """Halve the learning rates at the end of each of so many parts of the training."""
    return lambda step: 0.5 ** (step * parts // total_steps)
