import pytest

from dql_core.runtime.controller import Command, State
from dql_core.streams import Observation
from dql_ros.loop_statistics import LoopStatistics

RUNNING = Command(None, State.RUNNING, inference_ns=2_000_000)


def observation(age_ns: int | None) -> Observation:
    return Observation(None, (), {"state": age_ns})


def test_a_loop_that_never_ticked_has_no_figures() -> None:
    summary = LoopStatistics().summary()
    assert (summary.ticks, summary.rate_hz, summary.inference_p99_ms) == (0, 0.0, 0.0)
    assert summary.command is None


def test_rate_ages_and_inference_times_are_those_of_the_ticks() -> None:
    statistics = LoopStatistics()
    for index in range(11):
        statistics.add(index * 10_000_000, observation(1_500_000), RUNNING)
    summary = statistics.summary()
    assert summary.ticks == 11
    assert summary.rate_hz == pytest.approx(100.0)
    assert summary.ages_s == {"state": 0.0015}
    assert summary.inference_p50_ms == pytest.approx(2.0)
    assert summary.command is RUNNING


def test_a_stream_that_never_came_has_no_age() -> None:
    statistics = LoopStatistics()
    statistics.add(0, observation(None), RUNNING)
    assert statistics.summary().ages_s == {"state": None}


def test_only_the_last_ticks_count() -> None:
    statistics = LoopStatistics()
    for _ in range(5000):
        statistics.add(0, observation(0), Command(None, State.RUNNING, inference_ns=10**9))
    for index in range(1000):
        statistics.add(index * 1_000_000, observation(0), RUNNING)
    summary = statistics.summary()
    assert summary.ticks == 6000
    assert summary.rate_hz == pytest.approx(1000.0)
    assert summary.inference_p99_ms == pytest.approx(2.0)
