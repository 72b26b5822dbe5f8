"""Types and ranges of settings come from signatures, whose modules are not imported."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conf_options import OPTIONS, composed

import gan.config.signatures as signatures
from gan.config.schema import TARGET_GROUPS
from gan.config.signatures import UNTYPED, read_signature
from gan.errors import UserError
from gan.settings import Stacking

TARGETS = {
    composed(choice)[choice.partition("=")[0]]._target_
    for choice in OPTIONS
    if choice.partition("=")[0] in TARGET_GROUPS
} - {None}
OPTIMIZERS = {
    f"torch.optim.{name}"
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer)
} - {"torch.optim.Optimizer"}


def settings(parameters: Any) -> dict[str, Any]:
    """Return the type and limits of each parameter that has an annotation."""
    return {
        name: signatures._plain_type(annotation)
        for name, annotation, _ in parameters
        if annotation is not inspect.Parameter.empty
    }


@pytest.mark.parametrize("target", sorted(TARGETS | OPTIMIZERS))
def test_source_says_the_same_as_the_imported_function(target: str) -> None:
    written, takes_any = signatures._from_source(target)
    imported, imported_takes_any = signatures._from_import(target)
    assert [p.name for p in written] == [p.name for p in imported]
    assert takes_any == imported_takes_any
    required = [
        [p.name for p in ps if p.default is inspect.Parameter.empty] for ps in (written, imported)
    ]
    assert required[0] == required[1]
    theirs = settings(imported)
    for name, found in settings(written).items():
        assert found == theirs[name], name


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a module `strangers.parts`, whose import fails."""
    package = tmp_path / "strangers"
    package.mkdir()
    (package / "__init__.py").write_text("from strangers.parts import made_here as exported\n")
    (package / "kinds.py").write_text(
        "from typing import Annotated, Literal\nfrom annotated_types import Interval\n"
        "Mode = Literal['fast', 'slow']\nWeight = Annotated[float, Interval(ge=0, le=2)]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    signatures._read_once.cache_clear()
    signatures._read_module.cache_clear()
    path = package / "parts.py"
    path.write_text(
        "from __future__ import annotations\n"
        "import torch\n"
        "from torch import Tensor as T\n"
        "from .kinds import Mode, Weight\n"
        "raise RuntimeError('must not be imported')\n"
        "def made_here(given, *, mode: Mode, weight: 'Weight' = 1, rate: float | T = 1e-3,\n"
        "              steps: tuple[int, int] = (1, 2), names: list[str] = [],\n"
        "              size: int | None = 3, guessed=0.5, odd: torch.Tensor = None): ...\n"
        "class Made:\n    def __init__(self, rate: float, **others): ...\n"
        "class New:\n    def __new__(cls, *, rate: float): ...\n"
        "def lists(*, pairs: list[tuple[int, int]], weights: list[Weight],\n"
        "          deep: list[list[Weight]]): ...\n"
        "def untyped(*, width): ...\n"
    )
    return path


def test_types_and_ranges_are_read_without_importing_the_module(module: Path) -> None:
    for target in ("strangers.parts.made_here", "strangers.exported"):
        found, takes_any = read_signature(target)
        assert not takes_any
        assert found["mode"][:3] == (str, {"choices": ("fast", "slow")}, True)
        assert found["weight"][:3] == (float, {"min": 0, "max": 2}, False)
        assert found["rate"].type is float
        assert found["steps"][:2] == (list[int], {"length": 2})
        assert found["names"].type == list[str]
        assert found["size"].type == int | None
        assert (found["guessed"].type, found["odd"].type) == (float, Any)
    found, takes_any = read_signature("strangers.parts.Made")
    assert list(found) == ["rate"]
    assert takes_any
    assert list(read_signature("strangers.parts.New").settings) == ["rate"]
    lists = read_signature("strangers.parts.lists").settings
    assert {name: setting[:2] for name, setting in lists.items()} == {
        "pairs": (list[list[int]], {}),
        "weights": (list[float], {"min": 0, "max": 2}),
        "deep": (list[list[float]], {}),
    }
    assert read_signature("strangers.parts.untyped").settings["width"].type is UNTYPED
    assert "strangers" not in sys.modules


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("margin", "dotted name"),
        ("no_such_package.margin", "there is no module 'no_such_package'"),
        ("gan.losses.hinges", "gan.losses has no function 'hinges'; did you mean 'hinge'?"),
        ("strangers.parts.nothing", "the import of strangers.parts fails with RuntimeError: must"),
    ],
)
def test_target_that_is_not_there_is_explained(module: Path, target: str, message: str) -> None:
    with pytest.raises(UserError, match="^" + message if target != "margin" else message):
        read_signature(target)


def test_a_method_is_a_target_and_a_module_with_an_error_is_told_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "holders.py").write_text(
        "class Holder:\n    @classmethod\n    def make(cls, *, width: float = 1.0): return width\n"
    )
    (tmp_path / "unclosed.py").write_text("x = 1\ndef f(:\n")
    assert list(read_signature("holders.Holder.make").settings) == ["width"]
    assert signatures.import_target("holders.Holder.make")(width=2.0) == 2.0
    with pytest.raises(UserError, match=r"^holders\.Holder has no function 'mak'"):
        read_signature("holders.Holder.mak")
    with pytest.raises(UserError, match=r"unclosed\.py, line 2: invalid syntax$"):
        read_signature("unclosed.f")


def test_a_function_of_a_notebook_is_read_again_when_it_is_defined_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import __main__

    def margin(*, width: float = 1.0) -> None: ...
    def wider(*, width: float = 1.0, shift: float = 0.0) -> None: ...

    for function, names in ((margin, ["width"]), (wider, ["width", "shift"])):
        monkeypatch.setattr(__main__, "margin", function, raising=False)
        assert list(read_signature("__main__.margin").settings) == names


def test_ways_of_stacking_are_declared_by_our_functions_only() -> None:
    assert (
        read_signature("gan.losses.minimax").settings["label_smoothing"].stacking
        is Stacking.AS_TENSOR
    )
    assert read_signature("gan.models.mlp_pair").settings["hidden_dim"].stacking is Stacking.PADDED
    assert read_signature("gan.models.mlp_pair").settings["hidden_layers"].stacking is None
    assert read_signature("torch.optim.Adam").settings["lr"].stacking is None


def test_signatures_of_torch_are_read_without_torch() -> None:
    code = (
        "import sys; from gan.config.signatures import read_signature;"
        "print(read_signature('torch.optim.Adam').settings['lr'].type, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "<class 'float'> False\n"
