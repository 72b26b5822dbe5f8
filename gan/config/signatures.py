"""Types and ranges of settings, read from the signature of the function that takes them.

A signature is read from the source, without importing it: a module of networks or losses imports
torch, which takes seconds. A function whose source cannot be read is imported.
"""

import ast
import builtins
import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import annotated_types
from annotated_types import Ge, Gt, Le, Lt

from gan.errors import UserError, nearest
from gan.settings import Stacking

SAME_PARAMETERS = {"cache", "lru_cache", "no_grad", "inference_mode", "deprecated"}
"""Names of decorators that leave the parameters of a function as they are."""
LIGHT = {*sys.stdlib_module_names, "annotated_types", "typing_extensions"}
"""Modules that are imported to read annotations."""


class UNTYPED:
    """Stands for the type of a parameter that has neither an annotation nor a default."""


class Setting(NamedTuple):
    """A parameter that a configuration may set."""

    type: Any
    """A type for OmegaConf: int, float, bool, str, list, dict, perhaps with None; Any if the
    annotation says something else, UNTYPED if there is no annotation."""
    limits: dict[str, Any]
    """See `gan.config.schema.key`."""
    is_required: bool
    stacking: Stacking | None = None


class Signature(NamedTuple):
    """The parameters of a function or a class."""

    settings: dict[str, Setting]
    takes_any: bool
    """True if it takes keyword arguments of any name."""


class _Parameter(NamedTuple):
    """A parameter as it is written or found; an absent annotation or default is `_EMPTY`."""

    name: str
    annotation: Any
    default: Any


_EMPTY = inspect.Parameter.empty


def read_signature(target: str) -> Signature:
    """Return the parameters of the function or class with a dotted name.

    Raises:
        UserError: there is no such function. The message is to be read after the key of the
            target and its value.
    """
    return _read(target) if is_in_notebook(target) else _read_once(target)


def is_in_notebook(target: str | None) -> bool:
    """Return whether a cell of a notebook may define a target anew, so that nothing is kept."""
    return target is not None and target.startswith("__main__.")


def _read(target: str) -> Signature:
    try:
        parameters, takes_any = _from_source(target)
    except _NotReadable:
        parameters, takes_any = _from_import(target)
    settings = {}
    for name, annotation, default in parameters:
        if annotation is _EMPTY:
            # A default shows the type as well.
            annotation = UNTYPED if default is _EMPTY else type(default)
        kind, metadata = _plain_type(annotation)
        stacking = next((item for item in metadata if isinstance(item, Stacking)), None)
        settings[name] = Setting(kind, _limits(metadata), default is _EMPTY, stacking)
    return Signature(settings, takes_any)


_read_once = lru_cache(maxsize=1024)(_read)


class _NotReadable(Exception):
    """The source does not say what the parameters are."""


class _Unknown(type):
    """Stands for a type that only an import of its module would give, such as a tensor's."""

    def __getattr__(cls, name: str) -> "_Unknown":
        if name.startswith("__"):
            raise AttributeError(name)
        return UNKNOWN

    def __getitem__(cls, item: object) -> "_Unknown":
        return UNKNOWN

    def __call__(cls, *given: object, **named: object) -> "_Unknown":
        return UNKNOWN


UNKNOWN = _Unknown("UNKNOWN", (), {})


@dataclass(frozen=True)
class _Module:
    """The source of a module: what its names stand for."""

    name: str
    is_package: bool
    bindings: Mapping[str, ast.AST]
    """The last statement at the top level that gives each name its meaning."""

    def source_of(self, statement: ast.ImportFrom) -> str:
        """Return the full name of the module that a statement imports from."""
        above = self.name.split(".")
        above = above[: len(above) - statement.level + self.is_package] if statement.level else []
        return ".".join([*above, *([statement.module] if statement.module else [])])


class _Names(dict[str, Any]):
    """The names of a module, with the values that they have in annotations."""

    def __init__(self, module: _Module):
        super().__init__()
        self._module = module

    def __missing__(self, name: str) -> Any:
        binding = self._module.bindings.get(name)
        if isinstance(binding, ast.ImportFrom):
            return self._imported(binding, name)
        if isinstance(binding, ast.Import):
            alias = next(alias for alias in binding.names if _bound_name(alias) == name)
            return _import(alias.name if alias.asname else name)
        # Python has type aliases from 3.12 on.
        is_alias = type(binding).__name__ == "TypeAlias"
        value = getattr(binding, "value", None)
        if value and (is_alias or isinstance(binding, ast.Assign | ast.AnnAssign)):
            return _evaluate(value, self._module)
        if binding is None and "*" in self._module.bindings and not hasattr(builtins, name):
            # It may come from a module all of whose names are imported.
            raise _NotReadable
        return UNKNOWN if binding else getattr(builtins, name, UNKNOWN)

    def _imported(self, binding: ast.ImportFrom, name: str) -> Any:
        alias = next(alias for alias in binding.names if (alias.asname or alias.name) == name)
        source = self._module.source_of(binding)
        if _is_light(source):
            return getattr(importlib.import_module(source), alias.name, UNKNOWN)
        if _is_light(f"{source}.{alias.name}"):
            return importlib.import_module(f"{source}.{alias.name}")
        module = _read_module(source)
        return _Names(module)[alias.name] if module else UNKNOWN


def _from_source(target: str) -> tuple[list[_Parameter], bool]:
    """Return the parameters as the source has them, and whether it takes any keyword."""
    module_name, _, name = target.rpartition(".")
    module = _read_module(module_name)
    if module is None or module_name in ("", "__main__"):
        raise _NotReadable
    function, module, is_method = _find_function(module, name)
    arguments = function.args
    if arguments.posonlyargs or arguments.vararg:
        raise _NotReadable
    positional = arguments.args
    none: list[Any] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*none, *arguments.defaults, *arguments.kw_defaults]
    parameters = [
        _Parameter(
            argument.arg,
            _evaluate(argument.annotation, module) if argument.annotation else _EMPTY,
            _default(default, module) if default else _EMPTY,
        )
        for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True)
    ]
    # The first one is the object, or the class.
    return parameters[is_method:], arguments.kwarg is not None


def _find_function(
    module: _Module, name: str, depth: int = 8
) -> tuple[ast.FunctionDef, _Module, bool]:
    """Return the definition that a name of a module stands for, the module that has it, and True
    if it is a method."""
    binding = module.bindings.get(name)
    if isinstance(binding, ast.FunctionDef) and all(map(_keeps_parameters, binding.decorator_list)):
        return binding, module, False
    if isinstance(binding, ast.ClassDef) and not binding.decorator_list:
        methods = [node for node in binding.body if isinstance(node, ast.FunctionDef)]
        made = [node for node in methods if node.name in ("__init__", "__new__")]
        if len(made) == 1:
            return made[0], module, True
    if isinstance(binding, ast.ImportFrom) and depth:
        alias = next(alias for alias in binding.names if (alias.asname or alias.name) == name)
        source = _read_module(module.source_of(binding))
        if source:
            return _find_function(source, alias.name, depth - 1)
    raise _NotReadable


def _keeps_parameters(decorator: ast.expr) -> bool:
    """Return whether a function with a decorator is known to take the same parameters."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(named, "attr", getattr(named, "id", "")) in SAME_PARAMETERS


def _from_import(target: str) -> tuple[list[_Parameter], bool]:
    """Return the parameters of an object that is imported, and whether it takes any keyword."""
    found = import_target(target)
    try:
        signature = inspect.signature(found, eval_str=True)
    except (ValueError, TypeError, NameError) as error:
        raise UserError(f"its parameters cannot be read ({error})") from error
    kinds = {p.kind for p in signature.parameters.values()}
    parameters = [
        _Parameter(p.name, p.annotation, p.default)
        for p in signature.parameters.values()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    return parameters, inspect.Parameter.VAR_KEYWORD in kinds


def import_target(target: str) -> Any:
    """Return the function or class with a dotted name.

    Raises:
        UserError: it cannot be imported. The message is to be read after the key of the target
            and its value.
    """
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise UserError("must be the dotted name of a function, such as package.module.function")
    module: Any
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        above, _, name_of_class = module_name.rpartition(".")
        module = getattr(sys.modules.get(above), name_of_class, None)
        # It may be a method of a class.
        if error.name != module_name or not inspect.isclass(module):
            hint = "; is its package installed, or its folder in PYTHONPATH?"
            raise UserError(f"there is no module '{error.name}'{hint}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserError(
            f"the import of {module_name} fails with {type(error).__name__}: {text}"
        ) from error
    if not callable(found := getattr(module, name, None)):
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UserError(f"{module_name} has no function '{name}'{nearest(name, public)}")
    return found


@lru_cache(maxsize=1024)
def _read_module(name: str) -> _Module | None:
    """Return the source of a module, or None if it is not written in Python or is not there."""
    for path in _places(name):
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                try:
                    # Python reads a mark of the order of bytes, and a line that names an encoding.
                    tree = ast.parse(file.read_bytes())
                except (SyntaxError, ValueError) as error:
                    line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
                    text = error.msg if isinstance(error, SyntaxError) else str(error)
                    raise UserError(f"{file}{line}: {text}") from error
                return _Module(name, file.name == "__init__.py", dict(_bindings(tree.body)))
    return None


def find_folder(package: str) -> Path | None:
    """Return the folder of a package, without importing it; None if there is none."""
    return next(filter(Path.is_dir, _places(package)), None)


def _places(name: str) -> Iterator[Path]:
    """Yield the paths that a module or package may have, without a suffix. Nothing is imported."""
    top, *below = name.split(".")
    try:
        spec = find_spec(top)
    except (ValueError, ImportError):
        return
    if spec and spec.submodule_search_locations is not None:
        yield from (Path(location, *below) for location in spec.submodule_search_locations)
    elif spec and spec.origin and not below:
        yield Path(spec.origin).with_suffix("")


def _bindings(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((_bound_name(alias), node) for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from ((t.id, node) for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, ast.If):
            yield from _bindings([*node.orelse, *node.body])
        elif isinstance(node, ast.Try):
            yield from _bindings([*(s for h in node.handlers for s in h.body), *node.body])


def _bound_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _import(name: str) -> Any:
    return importlib.import_module(name) if _is_light(name) else UNKNOWN


def _is_light(module: str) -> bool:
    """Return whether a module takes no time to import."""
    return module == "gan.settings" or module.partition(".")[0] in LIGHT


def _evaluate(node: ast.expr, module: _Module) -> Any:
    """Return the value of an annotation, with UNKNOWN for what would have to be imported."""
    try:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        code = compile(ast.Expression(node), module.name, "eval")
        return eval(code, {"__builtins__": {}}, _Names(module))
    except Exception as error:
        raise _NotReadable from error


def _default(node: ast.expr, module: _Module) -> Any:
    """Return the value of a default, or None if it is not plain."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _plain_type(annotation: Any) -> tuple[Any, list[Any]]:
    """Return the type of the plain values that an annotation allows, and its metadata.

    Members of a union that no YAML file can hold, such as tensors, are left out.
    """
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind, metadata = _plain_type(members[0])
        return kind, [*metadata, *members[1:]]
    if origin in (Union, UnionType):
        found = [_plain_type(member) for member in members if member is not NoneType]
        kinds = {kind for kind, _ in found} - {Any}
        kinds -= {int} if kinds == {int, float} else set()
        if len(kinds) != 1:
            return Any, []
        (kind,) = kinds
        metadata = [item for own, items in found if own == kind for item in items]
        return (kind | None if NoneType in members else kind), metadata
    if origin is Literal:
        kinds = {type(member) for member in members} - {NoneType}
        kind = kinds.pop() if len(kinds) == 1 else Any
        optional = None in members and kind is not Any
        return (kind | None if optional else kind), [("choices", members)]
    if annotation in (int, float, bool, str, UNTYPED):
        return annotation, []
    if annotation is Path:
        return str, [("path", True)]
    if origin is tuple and members and members[-1] is not Ellipsis:
        kind, metadata = _member_types(members)
        return list[kind], [*metadata, ("length", len(members))]  # type: ignore[valid-type]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, Any], []
    if isinstance(origin, type) and issubclass(origin, Iterable) and members:
        kind, metadata = _member_types(members[:1])
        return list[kind], metadata  # type: ignore[valid-type]
    return Any, []


def _member_types(members: Iterable[Any]) -> tuple[Any, list[Any]]:
    """Return the one type of the members of a list, and their metadata."""
    found = [_plain_type(member) for member in members]
    if len({kind for kind, _ in found}) != 1:
        return Any, []
    kind, metadata = found[0]
    # The limits of a list are those of its members. Where these are lists, nothing checks theirs.
    return kind, [] if get_origin(kind) is list else metadata


def _limits(metadata: Iterable[Any]) -> dict[str, Any]:
    """Return the limits that metadata of the package annotated_types set."""
    limits: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, tuple):
            limits |= dict([item])
        elif isinstance(item, annotated_types.GroupedMetadata):
            limits |= _limits(item)
        elif isinstance(item, Ge):
            limits["min"] = item.ge
        elif isinstance(item, Gt):
            limits["above"] = item.gt
        elif isinstance(item, Lt):
            limits["below"] = item.lt
        elif isinstance(item, Le):
            limits["max"] = item.le
    return limits
