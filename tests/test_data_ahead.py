"""Reading ahead: what is made when, how errors arrive, and how the thread ends."""

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gan.data.ahead import Ahead


class Source:
    """Squares, as far as `allowed`; it notes what it was asked for and by whom."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.allowed = threading.Event()
        self.allowed.set()

    def __call__(self, number: int) -> int:
        self.asked.append(number)
        self.threads.add(threading.current_thread())
        assert self.allowed.wait(30)
        if number == 7:
            raise OSError("disk")
        return number * number

    @property
    def thread(self) -> threading.Thread:
        (thread,) = self.threads
        return thread


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_values_are_made_in_order_and_so_far_ahead_as_said() -> None:
    source = Source()
    ahead = Ahead(source, depth=3)
    assert ahead.get(0) == 0
    until(lambda: len(source.asked) == 4)
    for number in range(1, 7):
        assert ahead.get(number) == number * number
        until(lambda number=number: len(source.asked) == number + 4)  # type: ignore[misc]
    time.sleep(0.01)
    assert source.asked == list(range(10))
    assert source.thread is not threading.main_thread()


def test_who_asks_waits_for_a_slow_source() -> None:
    source = Source()
    source.allowed.clear()
    ahead = Ahead(source, depth=1)
    timer = threading.Timer(0.05, source.allowed.set)
    timer.start()
    assert ahead.get(5) == 25
    assert source.allowed.is_set()


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_any_number_can_be_had_at_any_time(depth: int) -> None:
    ahead = Ahead(lambda number: -number, depth)
    for number in (100, 101, 101, 3, 104, 105, 2, 3, 0):
        assert ahead.get(number) == -number


def test_what_is_no_longer_wanted_is_not_made() -> None:
    source = Source()
    source.allowed.clear()
    ahead = Ahead(source, depth=3)
    threading.Timer(0.05, source.allowed.set).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", lambda future: None)
        ahead.get(0)
    until(lambda: source.asked == [0])
    assert ahead.get(50) == 2500
    assert source.asked[:2] == [0, 50]


def test_an_error_comes_with_the_value_that_it_concerns() -> None:
    source = Source()
    ahead = Ahead(source, depth=4)
    for number in range(3, 7):
        assert ahead.get(number) == number * number
    until(lambda: 10 in source.asked)
    with pytest.raises(OSError, match="disk"):
        ahead.get(7)
    assert ahead.get(8) == 64
    with pytest.raises(OSError, match="disk"):
        ahead.get(7)


def test_the_thread_ends_with_its_owner() -> None:
    source = Source()
    ahead = Ahead(source, depth=2)
    ahead.get(0)
    thread = source.thread
    assert thread.is_alive()
    # Without the help of the collector of cycles, which comes when it likes.
    gc.disable()
    try:
        del ahead
        thread.join(30)
    finally:
        gc.enable()
    assert not thread.is_alive()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, this process perhaps among it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interruption_while_waiting_ends_all() -> None:
    source = Source()
    source.allowed.clear()
    ahead = Ahead(source, depth=2)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ahead.get(0)
    timer.join()
    del ahead
    source.allowed.set()
    source.thread.join(30)
    assert not source.thread.is_alive()
    assert source.asked == [0]
