"""Signals while runs are open and while they are being closed."""

import signal
import threading
from collections.abc import Iterator

import pytest

from pipeline.common import signals as interrupts


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts._ending.clear()
    yield
    interrupts._ending.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_sigterm_exits_like_a_shell_reports_it() -> None:
    interrupts.end_in_good_order()
    with pytest.raises(SystemExit) as error:
        signal.raise_signal(signal.SIGTERM)
    assert error.value.code == 143
    assert interrupts.ended_by_signal(error.value)


@pytest.mark.parametrize(
    ("error", "by_signal"),
    [
        (KeyboardInterrupt(), True),
        (SystemExit(130), True),
        (SystemExit(2), False),
        (SystemExit("text"), False),
        (SystemExit(None), False),
        (ValueError("x"), False),
    ],
)
def test_ended_by_signal(error: BaseException, by_signal: bool) -> None:
    assert interrupts.ended_by_signal(error) is by_signal


def test_a_signal_does_not_cut_closing_short() -> None:
    steps = []

    def close() -> None:
        with interrupts.deferred():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append("closed")
        steps.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        close()
    assert steps == ["closed"]


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts.deferred():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_just_run() -> None:
    done = []

    def work() -> None:
        with interrupts.deferred():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
