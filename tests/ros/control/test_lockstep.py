import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_ros.control.ticking import REPEAT_AFTER_NS, Answer, LockstepTrigger

PERIOD_NS = 50_000_000


def answers(trigger: LockstepTrigger, arrivals: list[tuple[str, int]]) -> list[int]:
    """Feed arrivals, answer when asked to, and return the stamps that were answered."""
    answered = []
    for stream, stamp_ns in arrivals:
        answer, tick_ns = trigger.arrived(stream, stamp_ns, steady_ns=0)
        if answer is Answer.ACT:
            trigger.answered(tick_ns, steady_ns=0)
            answered.append(tick_ns)
    return answered


def test_each_instant_of_one_stream_is_answered_once() -> None:
    stamps = [index * PERIOD_NS for index in range(5)]
    arrivals = [("state", stamp) for stamp in stamps for _ in range(2)]
    assert answers(LockstepTrigger(["state"]), arrivals) == stamps


@given(st.lists(st.permutations(["a", "b", "c"]), min_size=1, max_size=10))
def test_the_order_of_the_streams_within_an_instant_does_not_matter(
    orders: list[list[str]],
) -> None:
    arrivals = [(name, tick * PERIOD_NS) for tick, order in enumerate(orders) for name in order]
    expected = [tick * PERIOD_NS for tick in range(len(orders))]
    assert answers(LockstepTrigger(["a", "b", "c"]), arrivals) == expected


def test_nothing_is_answered_before_every_stream_has_come() -> None:
    trigger = LockstepTrigger(["a", "b"])
    assert trigger.arrived("a", 0, 0)[0] is Answer.NOTHING
    assert trigger.arrived("a", PERIOD_NS, 0)[0] is Answer.NOTHING


def test_an_unanswered_instant_is_asked_about_again() -> None:
    trigger = LockstepTrigger(["state"])
    assert trigger.arrived("state", 0, 0)[0] is Answer.ACT
    assert trigger.arrived("state", 0, 1)[0] is Answer.ACT


@pytest.mark.parametrize(
    ("waited_ns", "expected"),
    [(0, Answer.NOTHING), (REPEAT_AFTER_NS - 1, Answer.NOTHING), (REPEAT_AFTER_NS, Answer.REPEAT)],
)
def test_an_answer_is_repeated_only_if_it_seems_lost(waited_ns: int, expected: Answer) -> None:
    trigger = LockstepTrigger(["state"])
    trigger.arrived("state", 0, 0)
    trigger.answered(0, steady_ns=7)
    assert trigger.arrived("state", 0, 7 + waited_ns)[0] is expected


def test_a_new_instant_that_is_half_there_repeats_nothing() -> None:
    trigger = LockstepTrigger(["a", "b"])
    assert answers(trigger, [("a", 0), ("b", 0)]) == [0]
    assert trigger.arrived("a", PERIOD_NS, REPEAT_AFTER_NS)[0] is Answer.NOTHING


def test_a_simulator_that_began_anew_is_answered() -> None:
    trigger = LockstepTrigger(["state"])
    assert answers(trigger, [("state", 10 * PERIOD_NS), ("state", 0)]) == [10 * PERIOD_NS, 0]


@given(st.lists(st.permutations(["a", "b", "c"]), min_size=2, max_size=2), st.integers(1, 9))
def test_a_simulator_that_began_anew_is_answered_once_all_streams_did(
    orders: list[list[str]], back: int
) -> None:
    before, after = (
        [(name, stamp) for name in order]
        for order, stamp in zip(orders, (9, 9 - back), strict=True)
    )
    trigger = LockstepTrigger(["a", "b", "c"])
    assert answers(trigger, before) == [9]
    assert answers(trigger, after[:2]) == []
    assert answers(trigger, after[2:]) == [9 - back]


def test_a_message_that_is_late_does_not_set_the_clock_back() -> None:
    """Such as the latched one of a person's switch, which is subscribed to twice."""
    trigger = LockstepTrigger(["state", "switch"])
    assert answers(trigger, [("state", 5), ("switch", 5), ("switch", 2)]) == [5]
    assert answers(trigger, [("state", 6), ("switch", 3)]) == []
    assert answers(trigger, [("switch", 6)]) == [6]


def test_after_clear_the_same_instant_is_answered_again() -> None:
    trigger = LockstepTrigger(["state"])
    assert answers(trigger, [("state", 0)]) == [0]
    trigger.clear()
    assert answers(trigger, [("state", 0)]) == [0]
