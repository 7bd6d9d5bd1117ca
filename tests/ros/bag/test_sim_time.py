import random
from typing import NamedTuple

import pytest

from dql_ros.bag.sim_time import SimTimeOrder, StampedMessage

PERIOD = 50_000_000


class Sent(NamedTuple):
    source_ns: int
    sim_ns: int
    topic: str


def lockstep(steps: int) -> list[Sent]:
    """What a lockstep run sends, in true order: clock, state, command; wall time in ns."""
    events, wall = [], 10**18
    for step in range(steps):
        for topic in ("/clock", "/state", "/command"):
            wall += 200_000
            events.append(Sent(wall, step * PERIOD, topic))
    return events


def arrive(order: SimTimeOrder, event: Sent) -> None:
    if event.topic == "/clock":
        order.push_clock(event.sim_ns, event.source_ns)
    else:
        order.push(event.topic, str(event.sim_ns).encode(), event.source_ns)


def require_true_times(messages: list[StampedMessage]) -> None:
    for message in messages:
        assert message.log_time_ns == int(message.data)


@pytest.mark.parametrize("seed", range(5))
def test_messages_get_their_true_time_although_they_overtake_each_other(seed: int) -> None:
    rng = random.Random(seed)
    order, out = SimTimeOrder(window_ns=100_000_000), []
    arrivals = sorted(
        (event.source_ns + rng.randrange(20_000_000), event) for event in lockstep(500)
    )
    for now, event in arrivals:
        arrive(order, event)
        out += order.pop_ready(now)
    out += order.flush()
    require_true_times(out)
    assert len(out) == 1000
    assert [m.publish_time_ns for m in out] == sorted(m.publish_time_ns for m in out)
    assert [m.log_time_ns for m in out] == sorted(m.log_time_ns for m in out)
    assert (order.late, order.dropped) == (0, 0)


def test_message_that_comes_after_the_window_is_counted_and_still_right() -> None:
    order = SimTimeOrder(window_ns=1)
    events = lockstep(4)[:-2]  # a clock is the last
    late = events.pop(2)
    for event in events:
        arrive(order, event)
    out = order.pop_ready(events[-1].source_ns + 10)
    arrive(order, late)
    out += order.flush()
    require_true_times(out)
    assert out[-1].log_time_ns == 0
    assert order.late == 1


@pytest.mark.parametrize("held_up", ["/clock", "/state", "/command"])
def test_messages_get_their_true_time_although_a_topic_is_held_up(held_up: str) -> None:
    """As where a packet is lost: what follows on its topic comes with it, seconds later."""
    order, out = SimTimeOrder(), []
    events = lockstep(500)
    lost_ns, back_ns = events[300].source_ns, events[300].source_ns + 3_000_000_000
    arrivals = []
    for event in events:
        waits = event.topic == held_up and event.source_ns >= lost_ns
        arrivals.append((back_ns if waits else event.source_ns, event))
    for now, event in sorted(arrivals):
        out += order.pop_ready(now)
        arrive(order, event)
    out += order.pop_ready(back_ns + 200_000_000)
    assert len(out) == 998  # of those after the last clock it is not known whether one followed
    out += order.flush()
    require_true_times(out)
    assert len(out) == 1000
    assert order.dropped == 0
    assert (order.late > 0) == (held_up != "/clock")


def test_what_is_sent_while_the_simulation_stands_still_is_not_kept_for_ever() -> None:
    order = SimTimeOrder()
    order.push_clock(5, 10**18)
    order.push("/state", b"", 10**18 + 1)
    assert order.pop_ready(10**18 + 4_000_000_000) == []
    assert order.pop_ready(10**18 + 6_000_000_000) == [
        StampedMessage("/state", b"", 5, 10**18 + 1)
    ]


def test_clock_sent_in_the_same_nanosecond_comes_first() -> None:
    order = SimTimeOrder()
    order.push("/state", b"", 7)
    order.push_clock(5, 7)
    assert order.flush() == [StampedMessage("/state", b"", 5, 7)]


def test_only_latched_messages_survive_from_before_the_first_clock() -> None:
    order = SimTimeOrder(window_ns=0, latched=["/target"])
    order.push("/target", b"goal", 1)
    order.push("/state", b"", 2)
    assert order.pop_ready(10) == []
    order.push_clock(1000, 20)
    order.push("/state", b"", 21)
    order.push_clock(1001, 22)
    assert order.pop_ready(30) == [
        StampedMessage("/target", b"goal", 1000, 1),
        StampedMessage("/state", b"", 1000, 21),
    ]
    assert order.dropped == 1


def test_without_any_clock_everything_is_dropped_and_counted() -> None:
    order = SimTimeOrder(latched=["/target"])
    order.push("/target", b"", 1)
    order.push("/state", b"", 2)
    assert order.flush() == []
    assert order.dropped == 2
