"""The garbage collector while a program starts."""

import gc
from collections.abc import Iterator

import pytest

from gan.startup import fast_imports


@pytest.fixture(autouse=True)
def _restore_collector() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_ignores_what_an_import_creates() -> None:
    before = gc.get_freeze_count()
    with fast_imports():
        assert not gc.isenabled()
        created: list[list[int]] = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - before > len(created)
    assert not any(thing is created for thing in gc.get_objects())


def test_a_failed_import_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), fast_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with fast_imports():
        pass
    assert not gc.isenabled()
