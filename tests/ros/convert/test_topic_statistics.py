from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_ros.bag.reader import Bag
from dql_ros.codecs import stamp_ns
from dql_ros.convert.bag_result import TopicRow
from dql_ros.convert.report.topic_statistics import TopicStatistics
from tests.ros.bag.messages import messages_of

MS = 1_000_000
FLIGHTS = Path(__file__).parents[4] / "shared" / "data" / "bags" / "crazyflie"
JOINTS = "sensor_msgs/msg/JointState"


def told(
    times_ms: NDArray[Any] | list[float],
    stamps_ms: NDArray[Any] | list[float] | None = None,
    limit_ms: float | None = 50,
    cuts: list[int] | None = None,
    start_ms: float | None = None,
) -> dict[str, Any]:
    limit = None if limit_ms is None else round(limit_ms * MS)
    topic = TopicStatistics("/joints", JOINTS, "observation", limit)
    times = np.round(np.array(times_ms, dtype=np.float64) * MS).astype(np.int64)
    pieces = np.split(np.arange(len(times)), sorted(cuts or []))
    for piece in pieces:
        if stamps_ms is None:
            topic.add(times[piece])
        else:
            stamps = np.round(np.array(stamps_ms, dtype=np.float64) * MS).astype(np.int64)
            topic.add(times[piece], stamps[piece])
    return topic.to_json(None if start_ms is None else round(start_ms * MS))


def test_an_even_topic_has_its_rate_and_no_jitter() -> None:
    figures = told(np.arange(101) * 20.0)
    assert (figures["topic"], figures["type"], figures["role"]) == (
        "/joints",
        JOINTS,
        "observation",
    )
    assert (figures["count"], figures["rate_hz"], figures["median_pause_ms"]) == (101, 50.0, 20.0)
    assert figures["jitter_ms"] == {"p50": 0, "p95": 0, "p99": 0, "max": 0, "sampled": False}
    assert (figures["gaps"], figures["gap_spans"], figures["missing_estimate"]) == (0, [], 0)
    assert (figures["longest_pause_s"], figures["limit_s"]) == (0.02, 0.05)
    assert (figures["stamps"], figures["receive_minus_header_ms"]) == (None, None)
    assert figures["age_at_tick_ms"] is None


def test_gaps_are_listed_from_the_start_of_the_bag() -> None:
    figures = told([1000, 1020, 1120, 1140, 1191, 1211], start_ms=900)
    assert figures["gaps"] == 2
    assert figures["gap_spans"] == [
        {"from_s": 0.12, "to_s": 0.22},
        {"from_s": 0.24, "to_s": 0.291},
    ]


def test_a_pause_as_long_as_the_limit_is_no_gap() -> None:
    assert told([0, 50, 100])["gaps"] == 0
    assert told([0, 50.001, 100])["gaps"] == 1


def test_only_the_first_twenty_gaps_are_listed_and_all_are_counted() -> None:
    figures = told(np.arange(40) * 60.0, cuts=[7, 25, 26])
    assert (figures["gaps"], len(figures["gap_spans"])) == (39, 20)
    assert figures["gap_spans"][-1] == {"from_s": 1.14, "to_s": 1.2}


def test_jitter_is_the_distance_from_the_median_pause() -> None:
    pauses = np.array([10, 10, 10, 12, 7, 10, 31, 10, 9.5])
    jitter = told(np.concatenate(([0], np.cumsum(pauses))))["jitter_ms"]
    distances = np.abs(pauses - 10)
    for key, share in {"p50": 50, "p95": 95, "p99": 99, "max": 100}.items():
        assert jitter[key] == pytest.approx(np.percentile(distances, share))


@settings(deadline=None, max_examples=50)
@given(
    lost=st.sets(st.integers(1, 298), max_size=60),
    jitter=st.floats(0, 0.8),
    seed=st.integers(0, 99),
)
def test_lost_messages_of_an_even_topic_are_counted(
    lost: set[int], jitter: float, seed: int
) -> None:
    times = np.arange(300) * 10.0 + np.random.default_rng(seed).uniform(0, jitter, 300)
    assert told(np.delete(times, sorted(lost)))["missing_estimate"] == len(lost)


def test_nothing_is_said_to_be_missing_where_nothing_can_be_known() -> None:
    keys = np.cumsum(np.random.default_rng(0).exponential(100, 500))
    assert told(keys)["missing_estimate"] is None
    assert told(np.arange(100) * 10.0, limit_ms=None)["missing_estimate"] is None
    assert told([1.0])["missing_estimate"] is None
    assert told([1.0] * 9)["missing_estimate"] is None


@pytest.mark.parametrize("pause_s", [63.0, 3600.0, 1.7e9])
def test_a_pause_changes_no_rate(pause_s: float) -> None:
    even = np.arange(400) * 100.0
    paused = np.concatenate([even[:200], even[200:] + 1000 * pause_s])
    assert told(paused)["rate_hz"] == 10.0
    assert told(paused[195:204])["rate_hz"] == 10.0
    assert told(paused, limit_ms=500)["gaps"] == 1


def test_messages_that_come_in_pairs_are_no_stream_with_pauses() -> None:
    pairs = np.repeat(np.arange(100) * 100.0, 2) + np.tile([0.0, 0.1], 100)
    assert told(pairs)["rate_hz"] == pytest.approx(20.0, rel=0.01)


def test_stamps_are_compared_with_the_stamp_before_and_with_the_receipt() -> None:
    figures = told(
        [100, 110, 120, 130, 140, 150, 160], stamps_ms=[95, 107, 107, 0, 106, 145, 0], cuts=[3, 4]
    )
    assert figures["stamps"] == {"backwards": 1, "duplicate": 1, "zero": 2}
    delays = [5, 3, 13, 34, 5]
    assert figures["receive_minus_header_ms"] == {
        "min": 3,
        "p50": 5,
        "p95": pytest.approx(np.percentile(delays, 95)),
        "max": 34,
        "sampled": False,
    }


def test_stamps_that_are_all_zero_have_no_delay() -> None:
    figures = told([1, 2, 3], stamps_ms=[0, 0, 0])
    assert figures["stamps"] == {"backwards": 0, "duplicate": 0, "zero": 3}
    assert figures["receive_minus_header_ms"] is None


@settings(deadline=None, max_examples=50)
@given(
    pauses=st.lists(st.integers(0, 10**10), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    seed=st.integers(0, 99),
)
def test_blocks_may_be_cut_anywhere(pauses: list[int], cuts: list[int], seed: int) -> None:
    times = np.cumsum([10**18, *pauses]).astype(np.int64)
    stamps = times - np.random.default_rng(seed).integers(0, 3, len(times)) * 10**9
    stamps[::7] = 0
    whole = TopicStatistics("/joints", JOINTS, "action", 10**9)
    pieces = TopicStatistics("/joints", JOINTS, "action", 10**9)
    whole.add(times, stamps)
    for piece in np.split(np.arange(len(times)), sorted(cuts)):
        pieces.add(times[piece], stamps[piece])
    assert pieces.to_json() == whole.to_json()
    assert whole.count == len(times)
    assert whole.to_json()["gaps"] == sum(pause > 10**9 for pause in pauses)
    set_stamps = stamps[stamps != 0]
    assert whole.to_json()["stamps"] == {
        "backwards": sum(b < a for a, b in pairwise(set_stamps)),
        "duplicate": sum(b == a for a, b in pairwise(set_stamps)),
        "zero": int((stamps == 0).sum()),
    }


def test_ages_are_told_in_milliseconds() -> None:
    topic = TopicStatistics("/joints", JOINTS, "observation", 50 * MS)
    topic.add_ages(np.arange(0, 60, dtype=np.int64) * MS)
    topic.add_ages(np.arange(60, 101, dtype=np.int64) * MS)
    assert topic.to_json()["age_at_tick_ms"] == {
        "min": 0,
        "p50": 50,
        "p95": 95,
        "max": 100,
        "sampled": False,
    }


def test_a_silent_topic_and_a_single_message_have_no_rate() -> None:
    for times in ([], [5.0]):
        figures = told(times)
        assert figures["count"] == len(times)
        assert (figures["rate_hz"], figures["median_pause_ms"], figures["jitter_ms"]) == (
            None,
            None,
            None,
        )
        assert (figures["longest_pause_s"], figures["gaps"]) == (0.0, 0)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
@pytest.mark.parametrize("stamped", [True, False])
def test_the_figures_are_a_row_of_the_report(count: int, stamped: bool) -> None:
    times = np.arange(count) * 60.0
    figures = told(times, stamps_ms=times - 3 if stamped else None)
    assert TopicRow.model_validate(figures).model_dump(mode="json") == figures


@pytest.mark.realdata
@pytest.mark.skipif(not FLIGHTS.is_dir(), reason="../shared/data is not here")
@pytest.mark.parametrize("flight", ["pitch0bag", "rollbag", "yx1bag"])
def test_a_real_flight_has_the_rates_and_delays_that_its_readme_tells(flight: str) -> None:
    name = "/vicon/Group466CF/Group466CF/pose"
    with Bag(FLIGHTS / flight) as bag:
        messages = [
            (each.log_time_ns, stamp_ns(each.message, name))
            for each in messages_of(bag, frozenset({name}))
        ]
        times, stamps = np.array(messages, dtype=np.int64).T
        topic = TopicStatistics(name, "geometry_msgs/msg/PoseStamped", "observation", 200 * MS)
        topic.add(times, stamps)
        assert topic.count == bag.topics[name].count
    figures = topic.to_json(bag.start_ns)
    assert figures["rate_hz"] == pytest.approx(100, abs=2)
    assert figures["median_pause_ms"] == pytest.approx(10, abs=0.1)
    assert figures["receive_minus_header_ms"]["p50"] == pytest.approx(8, abs=2)
    lost = (times[-1] - times[0]) / 1e7 + 1 - len(times)
    assert figures["missing_estimate"] == pytest.approx(lost, abs=3)
    assert figures["stamps"]["zero"] == 0
