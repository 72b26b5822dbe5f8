"""Prefetching: when values are computed, how errors arrive, and how the thread ends."""

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gan.data.mapped import Prefetcher


class Source:
    """Function that squares a number once `allowed` is set, and records its calls and threads."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.allowed = threading.Event()
        self.allowed.set()

    def __call__(self, number: int) -> int:
        self.calls.append(number)
        self.threads.add(threading.current_thread())
        assert self.allowed.wait(30)
        if number == 7:
            raise OSError("disk")
        return number * number

    @property
    def thread(self) -> threading.Thread:
        (thread,) = self.threads
        return thread


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_values_are_computed_in_order_and_no_further_ahead_than_the_depth() -> None:
    source = Source()
    prefetcher = Prefetcher(source, depth=3)
    assert prefetcher.get(0) == 0
    wait_until(lambda: len(source.calls) == 4)
    for number in range(1, 7):
        assert prefetcher.get(number) == number * number
        wait_until(lambda number=number: len(source.calls) == number + 4)  # type: ignore[misc]
    time.sleep(0.01)
    assert source.calls == list(range(10))
    assert source.thread is not threading.main_thread()


def test_get_waits_for_a_slow_function() -> None:
    source = Source()
    source.allowed.clear()
    prefetcher = Prefetcher(source, depth=1)
    timer = threading.Timer(0.05, source.allowed.set)
    timer.start()
    assert prefetcher.get(5) == 25
    assert source.allowed.is_set()


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_any_number_can_be_asked_for_at_any_time(depth: int) -> None:
    prefetcher = Prefetcher(lambda number: -number, depth)
    for number in (100, 101, 101, 3, 104, 105, 2, 3, 0):
        assert prefetcher.get(number) == -number


def test_values_that_are_no_longer_wanted_are_not_computed() -> None:
    source = Source()
    source.allowed.clear()
    prefetcher = Prefetcher(source, depth=3)
    threading.Timer(0.05, source.allowed.set).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", lambda future: None)
        prefetcher.get(0)
    wait_until(lambda: source.calls == [0])
    assert prefetcher.get(50) == 2500
    assert source.calls[:2] == [0, 50]


def test_an_error_is_raised_when_its_value_is_asked_for() -> None:
    source = Source()
    prefetcher = Prefetcher(source, depth=4)
    for number in range(3, 7):
        assert prefetcher.get(number) == number * number
    wait_until(lambda: 10 in source.calls)
    with pytest.raises(OSError, match="disk"):
        prefetcher.get(7)
    assert prefetcher.get(8) == 64
    with pytest.raises(OSError, match="disk"):
        prefetcher.get(7)


def test_the_thread_ends_when_the_prefetcher_is_deleted() -> None:
    source = Source()
    prefetcher = Prefetcher(source, depth=2)
    prefetcher.get(0)
    thread = source.thread
    assert thread.is_alive()
    # The garbage collector runs at any time, so the thread must end without its help.
    gc.disable()
    try:
        del prefetcher
        thread.join(30)
    finally:
        gc.enable()
    assert not thread.is_alive()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Enable SIGINT: a process that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_waiting_ends_the_thread_too() -> None:
    source = Source()
    source.allowed.clear()
    prefetcher = Prefetcher(source, depth=2)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        prefetcher.get(0)
    timer.join()
    del prefetcher
    source.allowed.set()
    source.thread.join(30)
    assert not source.thread.is_alive()
    assert source.calls == [0]
