"""Which images make up each batch."""

import torch
from torch import Tensor

from gan.seeds import stream


class Sampler:
    """Batches of indices, each epoch a fresh permutation whose incomplete last batch is dropped.

    A batch depends on the seed and its number alone: a resumed run needs no saved position.
    """

    def __init__(self, size: int, batch_size: int, seed: int, device: torch.device):
        self.size, self.batch_size, self.seed, self.device = size, batch_size, seed, device
        self.batches_per_epoch = size // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, number: int) -> Tensor:
        """The indices (batch_size,) of batch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(stream(self.seed, "order", epoch))
            self._order = torch.randperm(self.size, generator=generator).to(self.device)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]
