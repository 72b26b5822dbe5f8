"""The content of functions and objects: what a loss or a penalty remembers between two steps."""

import collections
import functools
import hashlib
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

import torch
from torch import Tensor

Contents = dict[str, str]
"""Values by the place where they are kept, such as `generator.count`. Large ones are hashed."""

PLAIN = (bool, int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device)


def contents(value: Any) -> Contents:
    """Return everything that a function or an object can remember.

    These are the values in closures, default arguments, attributes, items, iterators, and variables
    of the module that a function names, however deep they lie. Two functions of the same code with
    equal contents compute the same from now on, except for files and state in compiled code.
    """
    return dict(_walk(value, "", {}))


def changed(before: Contents, after: Contents) -> str | None:
    """Return the place of the first difference between two contents, None if they are equal."""
    names = (name for name in before | after if before.get(name) != after.get(name))
    return next(names, None)


def _walk(value: Any, place: str, seen: dict[int, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(value, PLAIN):
        yield place, repr(value)
        return
    if isinstance(value, type | types.ModuleType) or id(value) in seen:
        return
    # The object is kept, so that no other one gets its identity.
    seen[id(value)] = value
    if isinstance(value, Tensor):
        yield place, f"{value.dtype} {tuple(value.shape)} {_hash(value)}"
        return
    if isinstance(value, torch.Generator):
        yield place, _hash(value.get_state())
        return
    yield place, type(value).__name__
    for name, part in _parts(value):
        yield from _walk(part, f"{place}.{name}".strip("."), seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, by names that are the same in an equal object."""
    if isinstance(value, Mapping):
        # Tensors are keys of an optimizer's state. Their place is all that can be compared.
        for index, (key, item) in enumerate(value.items()):
            yield str(key) if isinstance(key, PLAIN) else str(index), item
    elif isinstance(value, set | frozenset):
        yield "items", sorted(repr(item) for item in value if isinstance(item, PLAIN))
    elif isinstance(value, list | tuple | collections.deque):
        names = getattr(value, "_fields", map(str, range(len(value))))
        yield from zip(names, value, strict=True)
    elif isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("function", value.__func__))
    elif isinstance(value, types.BuiltinMethodType):
        yield "self", value.__self__
    elif isinstance(value, functools.partial):
        yield from (("function", value.func), ("arguments", value.args), ("named", value.keywords))
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, types.GeneratorType):
        yield from (("line", value.gi_frame and value.gi_frame.f_lasti),)
        yield from (value.gi_frame.f_locals if value.gi_frame else {}).items()
    else:
        yield from getattr(value, "__dict__", {}).items()
        yield from _slots(value)
        for owner in type(value).__mro__:
            yield from _variables(vars(owner))
        if getattr(type(value), "__reduce__", None) is not object.__reduce__:
            # Iterators, counters, arrays and random generators say how to make an equal one.
            with suppress(Exception):
                yield "state", value.__reduce_ex__(4)[1:]


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        # A cell is empty until its variable has a value.
        if cell != types.CellType():
            yield name, cell.cell_contents
    yield from vars(function).items()
    yield "defaults", function.__defaults__
    yield "keyword defaults", function.__kwdefaults__
    variables = function.__globals__
    named = {name: variables[name] for name in _names(function.__code__) if name in variables}
    yield from _variables(named)
    for name, item in named.items():
        if isinstance(item, types.FunctionType) and item.__module__ == function.__module__:
            yield name, item


def _names(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function and those within it look up in their module."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _variables(named: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the data among the variables of a module or of a class."""
    data = (*PLAIN, list, dict, set, Tensor, torch.nn.Module, types.SimpleNamespace)
    for name, item in named.items():
        if isinstance(item, data) and not name.startswith("__"):
            yield name, item


def _slots(value: Any) -> Iterator[tuple[str, Any]]:
    for owner in type(value).__mro__:
        names = vars(owner).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if hasattr(value, name):
                yield name, getattr(value, name)


def _hash(tensor: Tensor) -> str:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()
