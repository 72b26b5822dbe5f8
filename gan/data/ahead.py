"""Reading ahead."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """The values of a function of a number, made by a thread before they are asked for.

    The thread begins at the first number asked for, keeps `depth` values ready beyond it, and
    begins anew where numbers are not asked for in order. It ends with this object.
    """

    def __init__(self, make: Callable[[int], T], depth: int):
        """
        Args:
            make: called in the thread alone. It must not refer to the owner of this object, which
                would then live as long as there is something to make.
        """
        self._make, self._depth = make, depth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming: dict[int, Future[T]] = {}
        weakref.finalize(self, self._thread.shutdown, wait=False, cancel_futures=True)

    def get(self, number: int) -> T:
        """The value of `number`, or the error that making it gave."""
        wanted = range(number, number + 1 + self._depth)
        for other in [other for other in self._coming if other not in wanted]:
            self._coming.pop(other).cancel()
        for other in wanted:
            if other not in self._coming:
                self._coming[other] = self._thread.submit(self._make, other)
        return self._coming.pop(number).result()
