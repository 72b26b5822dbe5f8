"""Normalization layers by name: none, batch (arXiv:1502.03167) or layer (arXiv:1607.06450)."""

from collections.abc import Callable

from torch import nn

_Layers = dict[str, Callable[[int], list[nn.Module]]]

_1D: _Layers = {
    "none": lambda width: [],
    "batch": lambda width: [nn.BatchNorm1d(width)],
    "layer": lambda width: [nn.LayerNorm(width)],
}
_2D: _Layers = {
    "none": lambda channels: [],
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
    # Over channels and space together.
    "layer": lambda channels: [nn.GroupNorm(1, channels)],
}


def norm_1d(name: str, width: int) -> list[nn.Module]:
    """The layers, one or none, that normalize (batch, width).

    Raises:
        ValueError: there is no norm of that name.
    """
    return _named(_1D, name)(width)


def norm_2d(name: str, channels: int) -> list[nn.Module]:
    """The layers, one or none, that normalize (batch, channels, height, width).

    Raises:
        ValueError: there is no norm of that name.
    """
    return _named(_2D, name)(channels)


def _named(layers: _Layers, name: str) -> Callable[[int], list[nn.Module]]:
    if name not in layers:
        raise ValueError(f"norm={name}: must be one of {', '.join(layers)}")
    return layers[name]
