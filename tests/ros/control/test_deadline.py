import threading
import time
from collections.abc import Callable

from dql_ros.control.ticking import DeadlineTicker

PERIOD_NS = 2_000_000


def until(count: int, done: threading.Event) -> Callable[[], None]:
    """Return a tick that sets ``done`` when it has run ``count`` times."""
    ticks = iter(range(count - 1, -1, -1))

    def tick() -> None:
        if next(ticks, 0) == 0:
            done.set()

    return tick


def test_ticks_run_until_stopped_and_never_after() -> None:
    done = threading.Event()
    ticker = DeadlineTicker(PERIOD_NS, until(5, done))
    ticker.start()
    assert done.wait(5)
    ticker.stop()
    ticks = ticker.ticks
    assert ticks >= 5
    assert ticker.failure is None
    assert ticker.ticks == ticks


def test_ticks_that_a_slow_one_overran_are_left_out_and_counted() -> None:
    blocked, done = threading.Event(), threading.Event()

    def tick() -> None:
        if not blocked.is_set():
            # Longer than ten periods, whatever the machine does.
            blocked.wait(10 * PERIOD_NS / 1e9)
            blocked.set()
        else:
            done.set()

    ticker = DeadlineTicker(PERIOD_NS, tick)
    ticker.start()
    assert done.wait(5)
    ticker.stop()
    assert ticker.missed >= 9


def test_what_ended_the_thread_is_known() -> None:
    failed = threading.Event()

    def tick() -> None:
        failed.set()
        raise ZeroDivisionError("the policy broke")

    ticker = DeadlineTicker(PERIOD_NS, tick)
    ticker.start()
    assert failed.wait(5)
    ticker.stop()
    assert isinstance(ticker.failure, ZeroDivisionError)


def test_a_ticker_that_never_started_can_be_stopped() -> None:
    ticker = DeadlineTicker(PERIOD_NS, lambda: None)
    assert ticker.failure is None
    ticker.stop()
    assert ticker.ticks == 0


def test_the_first_tick_waits_as_asked_on_a_thread_that_was_prepared() -> None:
    order, done = [], threading.Event()
    delay_ns = 5 * PERIOD_NS

    def tick() -> None:
        order.append(("tick", threading.get_ident()))
        done.set()

    def prepare() -> None:
        order.append(("prepare", threading.get_ident()))

    ticker = DeadlineTicker(1000 * PERIOD_NS, tick, prepare)
    begun_ns = time.monotonic_ns()
    ticker.start(delay_ns)
    assert done.wait(5)
    assert time.monotonic_ns() - begun_ns >= delay_ns
    ticker.stop()
    (first, preparer), (second, ticking) = order
    assert (first, second) == ("prepare", "tick")
    assert preparer == ticking != threading.get_ident()
