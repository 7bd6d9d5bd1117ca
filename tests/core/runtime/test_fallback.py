import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_core.runtime.fallback import Fallback, FallbackRules

SAFE = (0.0, 1.0)
LAST = np.array([1.0, -1.0], dtype=np.float32)


def test_without_hold_and_ramp_the_safe_command_follows_at_once() -> None:
    np.testing.assert_array_equal(Fallback(FallbackRules(SAFE)).command(5, LAST), SAFE)


def test_a_ramp_begins_where_the_hold_was_and_ends_at_the_safe_command_exactly() -> None:
    fallback = Fallback(FallbackRules(SAFE, hold_ns=10, ramp_ns=4))
    way = [list(fallback.command(now, LAST)) for now in (0, 9, 10, 11, 12, 13, 14, 99)]
    assert way == [
        [1.0, -1.0],
        [1.0, -1.0],
        [1.0, -1.0],
        [0.75, -0.5],
        [0.5, 0.0],
        [0.25, 0.5],
        [0.0, 1.0],
        [0.0, 1.0],
    ]


@given(
    st.integers(0, 50), st.integers(0, 50), st.lists(st.integers(0, 200), min_size=2, max_size=20)
)
def test_the_way_never_turns_back_and_stays_between_its_ends(
    hold_ns: int, ramp_ns: int, times: list[int]
) -> None:
    fallback = Fallback(FallbackRules(SAFE, hold_ns, ramp_ns))
    first = [fallback.command(now, LAST)[0] for now in sorted(times)]
    assert all(0.0 <= value <= 1.0 for value in first)
    assert first == sorted(first, reverse=True)


def test_a_clock_that_jumps_back_ends_the_way_for_good() -> None:
    fallback = Fallback(FallbackRules(SAFE, hold_ns=10))
    sent = [list(fallback.command(now, LAST)) for now in (100, 105, 3, 107)]
    assert sent == [list(LAST), list(LAST), list(SAFE), list(SAFE)]


def test_giving_up_lasts_until_an_action_was_sent() -> None:
    fallback = Fallback(FallbackRules(SAFE, give_up_after_ns=10))
    for now, expected in ((0, False), (9, False), (10, True), (11, True)):
        fallback.command(now, LAST)
        assert fallback.given_up is expected
    fallback.end()
    fallback.command(12, LAST)
    assert not fallback.given_up


def test_what_is_sent_can_be_changed_without_changing_the_rules() -> None:
    fallback = Fallback(FallbackRules(SAFE))
    fallback.command(0, LAST)[:] = 7.0
    assert list(fallback.command(1, LAST)) == list(SAFE)
    assert fallback.safe_command == pytest.approx(np.array(SAFE))
