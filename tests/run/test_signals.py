"""Signals that ask a run to stop."""

import os
import signal
from collections.abc import Iterator

import pytest

from gan.run.signals import deferred_stop


class Ended(Exception):
    """The process would have ended."""


@pytest.fixture(autouse=True)
def _exceptions() -> Iterator[None]:
    """Let a signal that acts as usual raise Ended instead of ending the tests."""

    def end(number: int, frame: object) -> None:
        raise Ended

    before = {n: signal.signal(n, end) for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("second", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_closes_may_send_several_signals(second: signal.Signals) -> None:
    with deferred_stop() as stop:
        send(signal.SIGHUP, second, signal.SIGHUP)
        assert stop.signal == signal.SIGHUP
    with pytest.raises(Ended):
        send(signal.SIGHUP)


def test_a_second_request_of_the_user_ends_the_process_at_once() -> None:
    with deferred_stop() as stop:
        send(signal.SIGINT, signal.SIGHUP)
        assert stop.signal == signal.SIGINT
        with pytest.raises(Ended):
            send(signal.SIGINT)


def test_a_process_that_ignores_hangups_goes_on_without_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with deferred_stop() as stop:
        send(signal.SIGHUP)
        assert stop.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
