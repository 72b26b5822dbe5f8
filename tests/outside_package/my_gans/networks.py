"""Networks with attention over patches, and perceptrons with RMSNorm."""

import math

from torch import nn


class Attention(nn.Module):
    """Self-attention over the rows of an image (batch, rows, features)."""

    def __init__(self, features, heads):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)

    def forward(self, x):
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


def attention_pair(*, image_shape: tuple[int, ...], latent_dim: int, width: int, heads: int = 2):
    """Return two networks whose tokens are the rows of an image."""
    rows = image_shape[0] * image_shape[1]
    columns = math.prod(image_shape) // rows
    generator = nn.Sequential(
        nn.Linear(latent_dim, rows * width),
        nn.Unflatten(1, (rows, width)),
        Attention(width, heads),
        nn.Linear(width, columns),
        nn.Tanh(),
        nn.Flatten(),
        nn.Unflatten(1, image_shape),
    )
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Unflatten(1, (rows, columns)),
        nn.Linear(columns, width),
        Attention(width, heads),
        nn.Flatten(),
        nn.Linear(rows * width, 1),
    )
    return generator, discriminator


def rms_pair(*, image_shape: tuple[int, ...], latent_dim: int, hidden_dim: int):
    """Return perceptrons with RMSNorm, whose means over the width forbid padding."""
    values = math.prod(image_shape)

    def hidden(inputs):
        return [nn.Linear(inputs, hidden_dim), nn.RMSNorm(hidden_dim), nn.ReLU()]

    generator = nn.Sequential(
        *hidden(latent_dim), nn.Linear(hidden_dim, values), nn.Unflatten(1, image_shape), nn.Tanh()
    )
    discriminator = nn.Sequential(nn.Flatten(), *hidden(values), nn.Linear(hidden_dim, 1))
    return generator, discriminator
