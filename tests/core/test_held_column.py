"""`HeldColumn` is `HoldBuffer` for whole columns."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dql_core.streams import CLOCK_JUMP_NS, HeldColumn, HoldBuffer

# Small numbers make equal times, late messages and stamps from the future common; a second back
# and forth sets the clock.
GAPS = st.integers(0, 3)
OFFSETS = st.one_of(
    st.just(0),
    st.integers(-4, 4),
    st.sampled_from([-2 * CLOCK_JUMP_NS, -CLOCK_JUMP_NS - 1, -CLOCK_JUMP_NS, CLOCK_JUMP_NS]),
)
MESSAGES = st.lists(st.tuples(GAPS, OFFSETS), max_size=25)


def arrays(messages: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    arrived = np.cumsum([gap for gap, _ in messages], dtype=np.int64)
    stamps = arrived + np.array([offset for _, offset in messages], dtype=np.int64)
    return arrived, stamps, np.arange(len(messages), dtype=np.float64)[:, None]


def held(column: HeldColumn, tick: int, ago: int = 0) -> tuple[float | None, int | None]:
    (position,), (age,) = column.at(np.array([tick]), ago)
    if position < 0:
        return None, None
    return float(column.values(np.array([position]))[0, 0]), int(age)


def buffered(messages: list[tuple[int, int]], tick: int) -> tuple[float | None, int | None]:
    """What a buffer holds that was given, one by one, what had arrived by the tick."""
    buffer = HoldBuffer()
    for time, stamp, value in zip(*arrays(messages), strict=True):
        if time <= tick:
            buffer.push(int(stamp), value)
    value = buffer.at(tick)
    return (None if value is None else float(value[0])), buffer.age_ns(tick)


@settings(deadline=None)
@given(MESSAGES)
def test_every_tick_holds_what_the_buffer_holds(messages: list[tuple[int, int]]) -> None:
    column = HeldColumn(1)
    column.extend(*arrays(messages))
    for tick in range(-5, int(np.sum([gap for gap, _ in messages])) + 8):
        assert held(column, tick) == buffered(messages, tick)


@settings(deadline=None)
@given(MESSAGES, st.integers(1, 9), st.integers(1, 3))
def test_the_past_at_every_tick_is_what_a_buffer_has_that_is_asked_tick_by_tick(
    messages: list[tuple[int, int]], ago: int, period: int
) -> None:
    column, buffer = HeldColumn(1), HoldBuffer()
    upcoming = list(zip(*arrays(messages), strict=True))
    column.extend(*arrays(messages))
    for tick in range(-5, int(np.sum([gap for gap, _ in messages])) + 12, period):
        while upcoming and upcoming[0][0] <= tick:
            arrived, stamp, number = upcoming.pop(0)
            buffer.push(int(stamp), number, received_ns=int(arrived))
        buffer.forget_before(tick, tick, ago)
        value = buffer.at(tick, None, tick, ago)
        assert (None if value is None else value[0]) == held(column, tick, ago)[0]
        assert held(column, tick, ago)[0] in {None, held(column, tick - ago)[0]}


@settings(deadline=None)
@given(MESSAGES, st.integers(1, 3), st.integers(1, 4))
def test_without_a_time_of_receipt_the_past_goes_by_the_ticks(
    messages: list[tuple[int, int]], periods: int, period: int
) -> None:
    arrived, stamps, values = arrays(messages)
    at_ticks = -(-arrived // period) * period  # when it is known in lockstep
    column, buffer = HeldColumn(1), HoldBuffer()
    upcoming = list(zip(at_ticks, stamps, values, strict=True))
    column.extend(at_ticks, stamps, values)
    for tick in range(0, int(at_ticks.max(initial=0)) + 12, period):
        while upcoming and upcoming[0][0] <= tick:
            _, stamp, number = upcoming.pop(0)
            buffer.push(int(stamp), number)
        buffer.note_tick(tick)
        buffer.forget_before(tick, None, periods * period)
        value = buffer.at(tick, ago_ns=periods * period)
        assert (None if value is None else value[0]) == held(column, tick, periods * period)[0]


@settings(deadline=None)
@given(MESSAGES, st.lists(st.integers(0, 25), max_size=4), st.integers(0, 40))
def test_forgetting_and_cutting_change_nothing_that_is_asked_later(
    messages: list[tuple[int, int]], cuts: list[int], forgotten: int
) -> None:
    whole, cut = HeldColumn(1), HeldColumn(1)
    arrived, stamps, values = arrays(messages)
    whole.extend(arrived, stamps, values)
    bounds = sorted({0, *(min(each, len(messages)) for each in cuts), len(messages)})
    for start, end in pairwise(bounds):
        cut.extend(arrived[start:end], stamps[start:end], values[start:end])
        if end < len(messages):
            cut.forget_before(min(forgotten, int(arrived[end]) - 1))
    cut.forget_before(forgotten)
    for tick in range(forgotten, forgotten + 60):
        assert held(cut, tick) == held(whole, tick)


def test_what_an_episode_leaves_behind_is_forgotten_also_when_it_arrives_later() -> None:
    column = HeldColumn(1)
    column.extend(np.array([1, 5]), np.array([1, 5]), np.array([[1.0], [5.0]]))
    column.forget_until(4)
    assert held(column, 4) == (None, None)
    assert held(column, 5) == (5.0, 0)
    column.forget_until(5)
    column.extend(np.array([6, 7]), np.array([5, 7]), np.array([[6.0], [7.0]]))
    assert held(column, 6) == (None, None)
    assert held(column, 9) == (7.0, 2)


def test_a_column_without_values_holds_nothing() -> None:
    column = HeldColumn(2)
    column.extend(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2)))
    column.forget_before(3)
    assert held(column, 3) == (None, None)
