"""Objects whose state is saved with a run and restored, such as modules."""

from typing import Any, Protocol


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
