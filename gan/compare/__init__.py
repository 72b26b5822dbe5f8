"""Read many runs, rank them and show them in tables, pictures and an HTML page."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan.compare.frame import history, load

__all__ = ["history", "load"]


def __getattr__(name: str) -> Any:
    # pandas takes half a second to import, and not every module of this package needs it.
    if name in __all__:
        from gan.compare import frame

        return getattr(frame, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
