"""Types for functions that a configuration names: their settings, and the state they keep.

`Annotated` limits are read from a signature and checked before a run begins. They have no effect
where the function is called from Python.
"""

from enum import Enum
from typing import Annotated, Any, Literal, Protocol

from annotated_types import Ge, Gt, Lt


class Stacking(Enum):
    """Ways in which runs that are trained in one program may differ in a setting."""

    AS_TENSOR = "as tensor"
    """The function also takes the setting as a scalar tensor, one value for each run."""
    PADDED = "padded"
    """Zeros fill up the smaller networks, which changes nothing that they compute."""


Count = Annotated[int, Ge(1)]
"""A whole number above 0."""
Width = Annotated[int, Ge(1), Stacking.PADDED]
"""A number of units or channels that zeros may fill up."""
NonNegative = Annotated[float, Ge(0)]
"""A number that is not negative."""
Positive = Annotated[float, Gt(0)]
"""A number above 0."""
Share = Annotated[float, Ge(0), Lt(1)]
"""A number from 0 to below 1."""
Norm = Literal["none", "batch", "layer"]
"""Normalization of hidden layers: none, batch (arXiv:1502.03167) or layer (arXiv:1607.06450)."""
GeneratorNorm = Literal["none", "batch", "layer", "conditional_batch"]
"""The same, or conditional_batch: batch norm with a scale and a shift for each class
(arXiv:1707.00683)."""


class Stateful(Protocol):
    """An object that remembers something from one training step to the next."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from a state that `state_dict` returned. Its tensors are on the run's device."""


def state_of(made: Any) -> Stateful | None:
    """Return an object if its state can be saved and restored, else None."""
    can_be_saved = hasattr(made, "state_dict") and hasattr(made, "load_state_dict")
    return made if can_be_saved else None
