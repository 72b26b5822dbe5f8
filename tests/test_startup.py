"""What lasts is no work for the garbage collector."""

import gc
from collections.abc import Iterator

import pytest

from gan.launchers.startup import lasting


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_what_a_block_makes_is_passed_over() -> None:
    before = gc.get_freeze_count()
    with lasting():
        assert not gc.isenabled()
        made: list[list[int]] = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - before > len(made)
    assert not any(thing is made for thing in gc.get_objects())


def test_an_error_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), lasting():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with lasting():
        pass
    assert not gc.isenabled()
