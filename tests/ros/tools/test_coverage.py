"""How much of a recording is used, and what the rest lacks: compared with counting seconds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dql_ros.convert.recorded_episode import Cause, Reason, SkippedSpan
from dql_ros.tools import coverage
from dql_ros.tools.coverage import Coverage, covered, union, usage

SECOND = 1_000_000_000
Pairs = list[tuple[int, int]]
pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=8).map(
    lambda found: [(start, start + length) for start, length in found]
)


def spans(found: Pairs) -> np.ndarray:
    return union(np.array(found, np.int64).reshape(-1, 2) * SECOND)


def at(found: Pairs, second: int) -> bool:
    return any(start <= second < end for start, end in found)


@settings(deadline=None, max_examples=200)
@given(pairs, pairs, pairs)
def test_seconds_are_used_or_lost_for_what_is_not_there(
    first: Pairs, second: Pairs, episodes: Pairs
) -> None:
    streams = {("action", "/cmd"): spans(first), ("observation", "/pose"): spans(second)}
    found = usage((0, 30 * SECOND), [(a * SECOND, b * SECOND) for a, b in episodes], streams, ())
    seconds = range(30)
    free = [each for each in seconds if not at(episodes, each)]
    lacks = {each: (not at(first, each), not at(second, each)) for each in free}
    expected = {
        "no /cmd": sum(lack == (True, False) for lack in lacks.values()),
        "no /pose": sum(lack == (False, True) for lack in lacks.values()),
        "no /cmd and no /pose": sum(lack == (True, True) for lack in lacks.values()),
        "between episodes": sum(lack == (False, False) for lack in lacks.values()),
    }
    lost = {reason: ns // SECOND for reason, ns in found.lost_ns}
    assert lost == {reason: count for reason, count in expected.items() if count}
    assert found.used_ns == (30 - len(free)) * SECOND
    both = sum(at(first, each) and at(second, each) for each in seconds)
    assert found.gains_ns == {
        ("action", "/cmd"): (sum(at(second, each) for each in seconds) - both) * SECOND,
        ("observation", "/pose"): (sum(at(first, each) for each in seconds) - both) * SECOND,
    }


@settings(deadline=None, max_examples=100)
@given(pairs)
def test_spans_are_merged_and_apart(found: Pairs) -> None:
    merged = spans(found)
    assert (merged[1:, 0] > merged[:-1, 1]).all()
    inside = covered(merged, np.arange(40) * SECOND)
    assert inside.tolist() == [at(found, each) for each in range(40)]


def test_values_last_until_they_are_too_old_however_they_come_in_blocks() -> None:
    whole, parts = Coverage(0, 2 * SECOND), Coverage(0, 2 * SECOND)
    times = np.array([0, 1, 2, 10, 11, 20]) * SECOND
    whole.add(times, times)
    for time in times[::-1]:
        parts.add(np.array([time]), np.array([time]))
    assert whole.spans().tolist() == parts.spans().tolist()
    assert (whole.spans() / SECOND).tolist() == [[0, 4], [10, 13], [20, 22]]
    latched = Coverage(0, None)
    latched.add(times[3:4], times[3:4])
    assert covered(latched.spans(), np.array([9, 10, 10**6]) * SECOND).tolist() == [
        False, True, True,
    ]  # fmt: skip


def test_it_reads_as_a_sentence_with_the_longest_loss_first() -> None:
    streams = {
        ("action", "/cmd"): spans([(0, 9)]),
        ("observation", "/pose"): spans([(0, 5), (9, 18)]),
    }
    found = usage((0, 18 * SECOND), [(0, 5 * SECOND)], streams, ())
    assert str(found) == "5 of 18 s; lost: 9 s no /cmd, 4 s no /pose"
    assert found.to_json() == {
        "recorded_s": 18.0,
        "used_s": 5.0,
        "lost": [
            {"reason": "no /cmd", "lost_s": 9.0},
            {"reason": "no /pose", "lost_s": 4.0},
        ],
    }


def test_a_rule_of_the_contract_is_a_reason_where_all_is_there() -> None:
    reason = Reason(Cause.TOO_SHORT, ("3 transitions",))
    skipped = SkippedSpan(0, 18 * SECOND, (Reason(Cause.MISSING, ("/cmd",)), reason))
    streams = {("action", "/cmd"): spans([(2, 18)])}
    found = usage((0, 18 * SECOND), [], streams, [skipped])
    assert str(found) == "0 of 18 s; lost: 16 s episode of 3 transitions, 2 s no /cmd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.21, "4.2 s"),
        (34.4, "34 s"),
        (599, "599 s"),
        (1980, "33 min"),
        (19_000, "5.3 h"),
        (1.7e9, "19,676 days"),
    ],
)
def test_durations_are_in_units_that_a_person_reads(seconds: float, text: str) -> None:
    assert coverage._short(seconds) == text
