from hypothesis import given, settings
from hypothesis import strategies as st

from dql_ros.nodes.recorder_topics import SequenceNumbers

# Of one publisher: the number that it begins with, and which of the following arrive.
publisher = st.tuples(st.integers(1, 10**12), st.lists(st.booleans(), max_size=30))


@settings(deadline=None, max_examples=200)
@given(publisher)
def test_what_lies_between_the_first_and_the_last_and_did_not_come_is_lost(
    sent: tuple[int, list[bool]],
) -> None:
    first, arrives = sent
    arrived = [first, *(first + 1 + index for index, came in enumerate(arrives) if came)]
    numbers = SequenceNumbers()
    for number in arrived:
        assert numbers.note(number, number)
    assert numbers.received == len(arrived)
    assert numbers.lost == arrived[-1] - arrived[0] + 1 - len(arrived)


@settings(deadline=None, max_examples=200)
@given(st.lists(publisher, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_several_publishers_whose_numbers_are_far_apart_are_told_apart(
    sent: list[tuple[int, list[bool]]], random: object
) -> None:
    streams = [
        [index * 10**13 + first + step for step, came in enumerate([True, *arrives]) if came]
        for index, (first, arrives) in enumerate(sent)
    ]
    true_loss = sum(stream[-1] - stream[0] + 1 - len(stream) for stream in streams)
    numbers, left = SequenceNumbers(), [list(stream) for stream in streams]
    for stream in left:  # each is heard once before any of them loses something
        numbers.note(stream.pop(0), 0, publishers=len(streams))
    while any(left):
        stream = random.choice([each for each in left if each])  # type: ignore[attr-defined]
        numbers.note(stream.pop(0), 1, publishers=len(streams))
    assert numbers.lost == true_loss
    assert numbers.received == sum(map(len, streams))


def test_publishers_of_equal_numbers_are_summed_whichever_they_are_taken_for() -> None:
    numbers = SequenceNumbers()
    for source, number in enumerate([1, 1, 2, 2, 3, 5, 3, 4, 5]):  # one of them lost its 4
        assert numbers.note(number, source, publishers=2)
    assert (numbers.received, numbers.lost) == (9, 1)


def test_a_publisher_that_was_started_again_has_lost_nothing() -> None:
    numbers = SequenceNumbers()
    for number in [1, 2, 3, 1, 2]:
        numbers.note(number, number)
    assert (numbers.received, numbers.lost) == (5, 0)


def test_a_message_that_is_sent_again_is_known() -> None:
    numbers = SequenceNumbers()
    assert numbers.note(1, 17)
    assert not numbers.note(1, 17)
    assert (numbers.received, numbers.lost) == (1, 0)


def test_without_numbers_nothing_is_known_of_losses() -> None:
    numbers = SequenceNumbers()
    assert numbers.note(None, 1)
    assert numbers.note(None, 1)
    assert (numbers.received, numbers.lost) == (2, 0)


@settings(deadline=None, max_examples=200)
@given(publisher)
def test_what_a_publisher_sent_before_it_was_heard_is_lost_if_nothing_came_before_it(
    sent: tuple[int, list[bool]],
) -> None:
    first, arrives = sent
    arrived = [first, *(first + 1 + index for index, came in enumerate(arrives) if came)]
    numbers = SequenceNumbers(from_start=True)
    for number in arrived:
        numbers.note(number, number)
    assert numbers.lost + numbers.received == arrived[-1]
