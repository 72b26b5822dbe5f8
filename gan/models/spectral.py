"""Spectral norm (arXiv:1802.05957) whose state is changed in place, so that many networks can
share a program."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

ITERATIONS = 15
"""Of the power method at the start."""


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value, as a matrix (outputs, everything else).

    Args:
        outputs: the dimension of the weight that holds them.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, outputs: int):
        super().__init__()
        self._outputs = outputs
        matrix = self._matrix(weight.detach())
        self.register_buffer("_u", normalize(torch.randn(len(matrix)), dim=0))
        self.register_buffer("_v", normalize(torch.randn(matrix.shape[1]), dim=0))
        for _ in range(ITERATIONS):
            self._iterate(matrix)

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._matrix(weight)
        # Copies, as the next pass changes the state before this one is differentiated.
        u, v = self._iterate(matrix) if self.training else (self._u.clone(), self._v.clone())
        norm = torch.dot(u, torch.mv(matrix, v))
        return weight / norm

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is assigned to the weight is kept as it is."""
        return weight

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        u = normalize(torch.mv(matrix, self._v), dim=0, eps=1e-12)
        v = normalize(torch.mv(matrix.T, u), dim=0, eps=1e-12)
        self._u.copy_(u)
        self._v.copy_(v)
        return u, v

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self._outputs, 0).flatten(1)


def add_spectral_norm(network: nn.Module) -> None:
    """Divide every weight matrix by its largest singular value, which one power iteration at each
    forward pass in training follows."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            norm = SpectralNorm(layer.weight, outputs)
            parametrize.register_parametrization(layer, "weight", norm)
