import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_core.streams import HoldBuffer, ObservationBuilder, StreamSpec

# Stamps within a second of each other: a larger step back sets the clock back.
STAMPS = st.lists(st.integers(0, 10**9), max_size=30)


def value(number: float) -> NDArray[np.float64]:
    return np.array([number], dtype=np.float64)


@given(stamps=STAMPS, now=st.integers(-(10**12), 10**12), limit=st.integers(0, 10**12))
def test_hold_returns_the_newest_value_that_is_neither_from_the_future_nor_too_old(
    stamps: list[int], now: int, limit: int
) -> None:
    buffer = HoldBuffer()
    for index, stamp in enumerate(stamps):
        buffer.push(stamp, value(index))
    known = [(stamp, index) for index, stamp in enumerate(stamps) if stamp <= now]
    held = buffer.at(now, limit)
    if known and now - max(known)[0] <= limit:
        assert held == max(known)[1]
    else:
        assert held is None


@given(stamps=STAMPS, cut=st.integers(-(10**12), 10**12), later=st.integers(0, 10**12))
def test_forgetting_changes_no_later_answer(stamps: list[int], cut: int, later: int) -> None:
    whole, trimmed = HoldBuffer(), HoldBuffer()
    for index, stamp in enumerate(stamps):
        whole.push(stamp, value(index))
        trimmed.push(stamp, value(index))
    trimmed.forget_before(cut)
    assert whole.at(cut + later) == trimmed.at(cut + later)
    assert whole.age_ns(cut + later) == trimmed.age_ns(cut + later)


def test_a_value_is_held_up_to_its_age_limit_and_not_a_nanosecond_longer() -> None:
    buffer = HoldBuffer()
    buffer.push(1_000, value(7))
    assert buffer.at(999) is None
    assert buffer.at(1_000, 0) == 7
    assert buffer.at(1_050, 50) == 7
    assert buffer.at(1_051, 50) is None
    assert buffer.at(10**18, None) == 7


def test_a_buffer_that_nobody_reads_stays_small() -> None:
    buffer = HoldBuffer(capacity=3)
    for stamp in range(10):
        buffer.push(stamp, value(stamp))
    assert buffer.at(6) is None
    assert buffer.at(7) == 7
    assert buffer.at(100) == 9


@pytest.fixture
def builder() -> ObservationBuilder:
    return ObservationBuilder([StreamSpec("joints", 2, 100), StreamSpec("goal", 1, None)])


def test_observation_concatenates_in_the_order_of_the_streams(builder: ObservationBuilder) -> None:
    builder.push("goal", 0, np.array([0.1]))
    builder.push("joints", 5, np.array([1 / 3, 2.0]))
    observation = builder.at(10)
    assert observation.values is not None
    assert observation.values.dtype == np.float32
    np.testing.assert_array_equal(
        observation.values, np.array([1 / 3, 2.0, 0.1], dtype=np.float32)
    )
    assert observation.ages_ns == {"joints": 5, "goal": 10}
    assert observation.missing == ()


def test_nothing_is_filled_in_for_a_missing_or_stale_stream(builder: ObservationBuilder) -> None:
    builder.push("joints", 0, np.zeros(2))
    assert builder.at(50).values is None
    assert builder.at(50).missing == ("goal",)
    builder.push("goal", 0, np.zeros(1))
    assert builder.at(100).missing == ()
    stale = builder.at(101)
    assert stale.values is None
    assert stale.missing == ("joints",)
    assert stale.ages_ns == {"joints": 101, "goal": 101}


def test_clearing_some_streams_keeps_the_others(builder: ObservationBuilder) -> None:
    builder.push("joints", 0, np.zeros(2))
    builder.push("goal", 0, np.zeros(1))
    builder.clear(["joints"])
    assert builder.at(1).missing == ("joints",)
    builder.clear()
    assert builder.at(1).missing == ("joints", "goal")


def test_observation_vectors_are_independent_of_each_other(builder: ObservationBuilder) -> None:
    builder.push("goal", 0, np.zeros(1))
    builder.push("joints", 0, np.zeros(2))
    first = builder.at(0).values
    builder.push("joints", 1, np.ones(2))
    second = builder.at(1).values
    assert first is not None
    assert second is not None
    assert first.tolist() == [0, 0, 0]
    assert second.tolist() == [1, 1, 0]


class Commands:
    """Knows the commands from one time on."""

    def __init__(self) -> None:
        self.since_ns = 0

    def at(self, now_ns: int) -> tuple[NDArray[np.float64] | None, int]:
        return (np.array([0.5]), 0) if now_ns >= self.since_ns else (None, 10)

    def begin(self, now_ns: int) -> None:
        self.since_ns = now_ns + 15


def test_the_past_is_observed_where_it_is_known_and_never_filled() -> None:
    commands = Commands()
    builder = ObservationBuilder(
        [StreamSpec("joints", 1, 25, (10, 20)), StreamSpec("goal", 1, None)], previous=commands
    )
    builder.push("goal", 0, value(7))
    seen = {}
    for now in range(0, 80, 10):
        if now != 50:  # at 70 what is held at 50 is of 40
            builder.push("joints", now, value(now), received_ns=now)
        seen[now] = builder.at(now, now)
    assert [now for now, each in seen.items() if each.values is None] == [0, 10]
    assert (seen[0].past_ns, seen[10].past_ns) == ({"joints": 10}, {"joints": 20})
    assert seen[0].is_fresh
    assert seen[70].values is not None
    assert seen[70].values.tolist() == [70, 60, 40, 7, 0.5]
    assert seen[70].ages_ns == {"joints": 0, "goal": 70}


def test_an_older_value_is_as_fresh_at_its_instant_as_the_newest_at_the_tick() -> None:
    builder = ObservationBuilder([StreamSpec("joints", 1, 5, (10,))])
    for now in (0, 16, 20):
        builder.push("joints", now, value(now), received_ns=now)
        observation = builder.at(now, now)
    assert observation.values is None, "at 10 that of 0 is held, and too old"
    assert observation.past_ns == {"joints": 10}


def test_an_episode_begins_without_a_past() -> None:
    commands = Commands()
    builder = ObservationBuilder([StreamSpec("joints", 1, None, (10,))], previous=commands)
    builder.push("joints", 0, value(1), received_ns=0)
    assert builder.at(10, 10).values is not None
    builder.begin_episode()
    assert builder.at(20, 20).missing == ("joints", "previous_action")
    observation = builder.at(30, 30)
    assert observation.missing == ("previous_action",), "what is held at 20 is of the episode"
    assert observation.is_fresh
    assert builder.at(35, 35).values is not None


def test_a_clock_that_is_set_back_drops_what_was_known_by_the_old_one() -> None:
    buffer = HoldBuffer()
    buffer.push(10 * 10**9, value(0))
    buffer.push(9 * 10**9, value(1))
    assert buffer.at(11 * 10**9) == 0, "a second back is a late message"
    buffer.push(2 * 10**9, value(2))
    assert buffer.at(11 * 10**9) == 2
