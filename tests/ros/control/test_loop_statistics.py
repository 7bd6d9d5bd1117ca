import pytest

from dql_core.runtime.controller import Command, State
from dql_core.streams import Observation
from dql_ros.control.health import LoopStatistics

RUNNING = Command(None, State.RUNNING, inference_ns=2_000_000)


def observation(age_ns: int | None) -> Observation:
    return Observation(None, (), {"state": age_ns})


def test_a_loop_that_never_ticked_has_no_figures() -> None:
    statistics = LoopStatistics()
    assert set(statistics.figures().values()) == {0}
    assert statistics.command is None


def test_rate_ages_and_inference_times_are_those_of_the_ticks() -> None:
    statistics = LoopStatistics()
    for index in range(11):
        statistics.add(index * 10_000_000, observation(1_500_000), RUNNING)
    figures = statistics.figures()
    assert figures["ticks"] == 11
    assert figures["rate (Hz)"] == pytest.approx(100.0)
    assert figures["age of state (s)"] == 0.0015
    assert figures["inference p50 (ms)"] == pytest.approx(2.0)
    assert statistics.command is RUNNING


def test_a_state_whose_tick_is_not_over_has_no_reason_yet() -> None:
    statistics = LoopStatistics()
    assert not statistics.is_behind(State.STALE)
    statistics.add(0, observation(0), RUNNING)
    assert statistics.is_behind(State.STALE)
    assert not statistics.is_behind(State.RUNNING)
    assert not statistics.is_behind("inactive")
    statistics.add(1, observation(0), Command(None, State.STALE))
    assert not statistics.is_behind(State.STALE)


def test_a_stream_that_never_came_has_no_age() -> None:
    statistics = LoopStatistics()
    statistics.add(0, observation(None), RUNNING)
    assert statistics.figures()["age of state (s)"] is None


def test_only_the_last_ticks_count() -> None:
    statistics = LoopStatistics()
    for _ in range(5000):
        statistics.add(0, observation(0), Command(None, State.RUNNING, inference_ns=10**9))
    for index in range(1000):
        statistics.add(index * 1_000_000, observation(0), RUNNING)
    figures = statistics.figures()
    assert figures["ticks"] == 6000
    assert figures["rate (Hz)"] == pytest.approx(1000.0)
    assert figures["inference p99 (ms)"] == pytest.approx(2.0)


def test_jitter_is_the_distance_of_each_tick_to_tick_time_from_the_period() -> None:
    statistics = LoopStatistics(period_ns=10_000_000)
    for time_ns in (0, 10_000_000, 22_000_000, 29_000_000):
        statistics.add(time_ns, observation(0), RUNNING)
    figures = statistics.figures()
    assert figures["tick jitter p50 (ms)"] == pytest.approx(2.0)
    assert figures["tick jitter max (ms)"] == pytest.approx(3.0)


def test_latencies_are_those_that_were_measured() -> None:
    statistics = LoopStatistics()
    for latency_ns in (1_000_000, 2_000_000, 6_000_000):
        statistics.add_latency(latency_ns)
    assert statistics.figures()["state to command p50 (ms)"] == pytest.approx(2.0)
    statistics.clear()
    assert statistics.figures()["state to command p50 (ms)"] == 0.0
