import pytest

from dql_ros.sim.run import Pace

MS = 1_000_000
PERIOD = 10 * MS


def test_steps_in_time_lose_nothing_whatever_their_jitter() -> None:
    pace = Pace(PERIOD, factor=2.0)
    assert pace.factor is None
    for index in range(300):
        pace.stepped(index * PERIOD + (index * 7 % 5) * MS // 2)
    assert pace.missed == 0
    assert pace.factor == pytest.approx(2.0, rel=0.01)
    assert not pace.is_behind


def test_steps_that_take_too_long_are_counted_and_told() -> None:
    pace = Pace(PERIOD, factor=1.0)
    for index in range(300):
        pace.stepped(index * 3 * PERIOD)
    assert pace.missed == 2 * 299
    assert pace.factor == pytest.approx(1 / 3)
    assert pace.is_behind


def test_one_delay_is_forgotten_after_some_seconds_but_stays_counted() -> None:
    pace = Pace(PERIOD, factor=1.0)
    now = 0
    for index in range(2000):
        pace.stepped(now)
        now += PERIOD if index != 3 else 100 * PERIOD
    assert pace.missed == 99
    assert not pace.is_behind
    assert pace.factor == pytest.approx(1.0)


def test_a_rest_is_no_delay() -> None:
    pace = Pace(PERIOD, factor=1.0)
    for index in range(10):
        pace.stepped(index * PERIOD)
    pace.rest()
    for index in range(10):
        pace.stepped(10**12 + index * PERIOD)
    assert pace.missed == 0
    assert pace.factor == pytest.approx(1.0)
