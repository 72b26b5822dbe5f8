"""The tensors of many runs in one piece each, of which every run holds its own part."""

from collections.abc import Sequence

from gan.functional.tensors import Tensors


def stack(members: Sequence[Tensors]) -> Tensors:
    """Tensors (members, ...) of which the members' own become parts, until they are released.

    Where members differ in size, the narrower ones are padded with zeros at the end of each
    dimension. Training leaves these at zero: what is zero and sees zeros has no gradient.
    """
    stacked = {}
    for name, first in members[0].items():
        shapes = [member[name].shape for member in members]
        size = [max(sizes) for sizes in zip(*shapes, strict=True)]
        stacked[name] = first.detach().new_zeros(len(members), *size)
    for index, member in enumerate(members):
        put(member, stacked, index)
    return stacked


def put(member: Tensors, stacked: Tensors, index: int) -> bool:
    """Give a run a place in a stack; False, and nothing is changed, if it does not fit."""
    for name, tensor in member.items():
        sizes = zip(tensor.shape, stacked[name].shape[1:], strict=True)
        if any(own > there for own, there in sizes):
            return False
    for name, tensor in member.items():
        place = stacked[name][index]
        place.zero_()
        part = place[tuple(map(slice, tensor.shape))]
        part.copy_(tensor.detach())
        tensor.data = part
    return True


def release(member: Tensors) -> None:
    """Give a run's tensors memory of their own again."""
    for tensor in member.values():
        tensor.data = tensor.detach().clone()
