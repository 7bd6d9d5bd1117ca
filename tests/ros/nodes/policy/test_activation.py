"""Activation waits for the robot's messages."""

from itertools import count

from dql_ros.nodes.readiness import await_arrival


def test_the_next_arrival_is_waited_for_and_not_the_last() -> None:
    polls = count()
    arrived = [7]

    def poll() -> None:
        # One message lies there already; the third look finds another.
        if next(polls) in {0, 2}:
            arrived[0] += 1

    await_arrival(poll, lambda: tuple(arrived), timeout_s=60.0)
    assert arrived == [9]
    assert next(polls) == 3


def test_where_nothing_arrives_the_wait_is_short() -> None:
    polls: list[int] = []
    await_arrival(lambda: polls.append(1), lambda: (), timeout_s=0.0)
    assert polls == [1]
