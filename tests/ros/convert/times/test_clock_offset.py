"""Moves of one clock against the other, and the jitter and bursts that are none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_ros.convert.clock_offset import ClockOffset, Move

MS = 10**6
PERIOD_NS = 100 * MS
START_NS = 1_700_000_000 * 10**9


def moves(
    delays_ms: NDArray[np.float64], *, pause_ms: int = 100, cuts: tuple[int, ...] = ()
) -> list[Move]:
    """Messages stamped at even times and received so much later, given in several pieces."""
    stamps_ns = START_NS + np.arange(len(delays_ms)) * pause_ms * MS
    return judged(stamps_ns, stamps_ns + (delays_ms * MS).astype(np.int64), cuts)


def judged(
    stamps_ns: NDArray[np.int64], arrived_ns: NDArray[np.int64], cuts: tuple[int, ...] = ()
) -> list[Move]:
    arrived_ns = np.maximum.accumulate(arrived_ns)  # nothing overtakes on the way
    numbers = np.arange(1, len(stamps_ns) + 1)
    offset = ClockOffset(PERIOD_NS)
    found = []
    for part in np.split(np.arange(len(stamps_ns)), cuts):
        found += offset.add(numbers[part], arrived_ns[part], stamps_ns[part])
    return found + offset.finish()


@pytest.mark.parametrize("cuts", [(), (15,), (5, 29, 30, 31, 60), tuple(range(1, 80))])
@pytest.mark.parametrize("move_ms", [350.0, 3000.0])
def test_a_clock_that_is_set_is_found_at_its_message(
    move_ms: float, cuts: tuple[int, ...]
) -> None:
    delays = np.random.default_rng(0).exponential(5.0, 80)
    delays[30:] += move_ms
    (move,) = moves(delays, cuts=cuts)
    assert move.number == 31
    assert move.after_ns - move.before_ns == pytest.approx(move_ms * MS, abs=5 * MS)


@pytest.mark.parametrize("tail", [5, 10])
def test_few_messages_behind_it_are_enough(tail: int) -> None:
    delays = np.full(40 + tail, 2.0)
    delays[40:] += 350
    assert [move.number for move in moves(delays)] == [41]
    assert moves(delays[:44]) == []


def test_a_stamps_clock_that_goes_forward_under_an_offset_is_found() -> None:
    """Both clocks differ by 2 s all the time, so that no stamp is ahead of its receipt."""
    stamps_ns = START_NS + np.arange(80) * PERIOD_NS
    arrived_ns = stamps_ns + 2000 * MS
    stamps_ns[30:] += 350 * MS
    assert [move.number for move in judged(stamps_ns, arrived_ns)] == [31]


def test_two_moves_are_two() -> None:
    stamps_ns = START_NS + np.arange(300) * PERIOD_NS
    arrived_ns = stamps_ns + 1000 * MS
    stamps_ns[100:200] -= 400 * MS
    found = judged(stamps_ns, arrived_ns, (50, 101, 180, 260))
    assert [move.number for move in found] == [101, 201]


@pytest.mark.parametrize("pause_ms", [2, 10, 100, 1000])
@pytest.mark.parametrize("stall_ms", [300, 2000, 6000])
def test_messages_that_waited_are_no_move(pause_ms: int, stall_ms: int) -> None:
    """For so long nothing gets through, then all at once."""
    stamps_ns = START_NS + np.arange(3000) * pause_ms * MS
    arrived_ns = stamps_ns + (np.random.default_rng(1).exponential(3.0, 3000) * MS).astype(
        np.int64
    )
    for at in (0, 700, 2998):
        end_ns = stamps_ns[at] + stall_ms * MS
        arrived_ns[at:] = np.where(stamps_ns[at:] < end_ns, end_ns, arrived_ns[at:])
    assert judged(stamps_ns, arrived_ns, (500, 701, 710, 1500)) == []


@pytest.mark.parametrize("seed", range(5))
def test_jitter_of_any_size_is_no_move(seed: int) -> None:
    rng = np.random.default_rng(seed)
    delays = rng.exponential(150.0, 5000) + np.where(rng.random(5000) < 0.01, 800.0, 0.0)
    assert moves(delays, pause_ms=20) == []


def test_a_clock_that_is_wrong_for_a_second_is_found_twice() -> None:
    stamps_ns = START_NS + np.arange(60) * PERIOD_NS
    arrived_ns = stamps_ns + 2 * MS
    stamps_ns[15:25] -= 900 * MS
    assert [move.number for move in judged(stamps_ns, arrived_ns)] == [16, 26]


@pytest.mark.parametrize("at", [5, 6, 20])
def test_a_clock_may_be_set_back_soon_after_the_start(at: int) -> None:
    stamps_ns = START_NS + np.arange(60) * PERIOD_NS
    arrived_ns = stamps_ns + 2 * MS
    stamps_ns[at:] -= 350 * MS
    assert [move.number for move in judged(stamps_ns, arrived_ns, (3, 8))] == [at + 1]


def test_stamps_that_go_back_are_found_each_time() -> None:
    """Two publishers whose clocks differ: every second message is stamped before the last."""
    stamps_ns = START_NS + np.arange(20) * PERIOD_NS
    arrived_ns = stamps_ns + 2 * MS
    stamps_ns[1::2] -= 350 * MS
    found = judged(stamps_ns, arrived_ns, (7,))
    assert [move.number for move in found] == list(range(2, 21, 2))
    assert found[0] == Move(2, int(arrived_ns[1]), 2 * MS, 352 * MS, 250 * MS)


def test_stamps_may_go_back_by_less_than_matters() -> None:
    stamps_ns = START_NS + np.arange(60) * PERIOD_NS
    arrived_ns = stamps_ns + 2 * MS
    stamps_ns[1::2] -= 199 * MS
    assert judged(stamps_ns, arrived_ns) == []


@pytest.mark.parametrize("cuts", [(), (8,), (3, 9), tuple(range(1, 40))])
@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_few_messages_stamped_early_are_found_wherever_they_are(
    count: int, cuts: tuple[int, ...]
) -> None:
    early = {"first": slice(count), "in between": slice(20, 20 + count), "last": slice(-count, 40)}
    expected = {"first": [count + 1], "in between": [21, 21 + count], "last": [41 - count]}
    for where, some in early.items():
        stamps_ns = START_NS + np.arange(40) * PERIOD_NS
        arrived_ns = stamps_ns + 2 * MS
        stamps_ns[some] -= 350 * MS
        assert [m.number for m in judged(stamps_ns, arrived_ns, cuts)] == expected[where], where


@pytest.mark.parametrize("seed", range(20))
def test_a_line_that_loses_and_delays_is_no_move(seed: int) -> None:
    """A queue that is served slowly at times, and drops what does not fit into it."""
    rng = np.random.default_rng(seed)
    stamps_ns = START_NS + np.cumsum(rng.choice([20, 20, 20, 200], 3000)) * MS
    is_slow = np.repeat(rng.random(300) < 0.2, 10)
    arrived_ns, kept, free_ns = [], [], 0
    for index, stamp_ns in enumerate(stamps_ns.tolist()):
        if free_ns - stamp_ns > 400 * MS:
            continue
        service_ms = rng.exponential(60.0 if is_slow[index] else 3.0)
        free_ns = max(free_ns, stamp_ns) + int(service_ms * MS)
        arrived_ns.append(free_ns)
        kept.append(index)
    assert judged(stamps_ns[kept], np.array(arrived_ns), (100, 1000)) == []


def test_a_busy_second_is_no_move() -> None:
    delays = np.full(2000, 2.0)
    delays[500:550] += 200  # 50 messages at 50 Hz
    assert moves(delays, pause_ms=20) == []


def test_memory_does_not_grow_with_the_recording() -> None:
    offset = ClockOffset(PERIOD_NS)
    for block in range(50):
        numbers = np.arange(block * 1000, block * 1000 + 1000)
        stamps_ns = START_NS + numbers * 10 * MS
        offset.add(numbers, stamps_ns + MS, stamps_ns)
    assert sum(len(each.messages) for each in offset._alike) <= 2000
