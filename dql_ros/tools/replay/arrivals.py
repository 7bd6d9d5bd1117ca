"""The messages of a bag one by one, in the order in which they were received."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.codecs.block import MessageBlock
from dql_ros.convert.clock import set_back_limit_ns


class Arrival(NamedTuple):
    """A message as it was received.

    Attributes:
        time_ns: When, on the recording's clock.
        number: Ascends in the order of the recording among messages of equal times.
        topic: Absolute topic name.
        msgtype: Its type.
        cdr: The message, serialised.
    """

    time_ns: int
    number: int
    topic: str
    msgtype: str
    cdr: bytes


def arrivals(
    bag: Bag,
    topics: frozenset[str],
    visit: Callable[[MessageBlock], None],
    progress: Callable[[int], None],
) -> Iterator[Arrival]:
    """Yield messages by their log times; of equal ones those of a topic as they were recorded.

    Args:
        bag: An opened bag.
        topics: The topics that are read.
        visit: Is given each block that is read.
        progress: Called, now and then, with how many of the bag's bytes are done.

    Raises:
        BagError: If the bag is damaged.
    """
    waiting: list[Arrival] = []
    numbers = count()
    for batch in bag.batches(topics):
        for block in batch.blocks:
            visit(block)
            for index, time_ns in enumerate(block.log_times_ns.tolist()):
                place, cdr = (time_ns, next(numbers)), block.payload(index)
                heapq.heappush(waiting, Arrival(*place, block.topic, block.msgtype, cdr))
        while waiting and waiting[0].time_ns < batch.complete_until_ns:
            yield heapq.heappop(waiting)
        progress(batch.bytes_done)
    while waiting:
        yield heapq.heappop(waiting)


def require_one_clock(bag: Bag, period_ns: int, latched: frozenset[str]) -> None:
    """Check of a bag that was read that its recorder's clock was not set back.

    Args:
        bag: The bag.
        period_ns: The control period.
        latched: Topics whose log times say nothing, since a recorder repeats what is latched.

    Raises:
        BagError: If it was: nobody knows then what was received before what.
    """
    steps = bag.clock_steps(set_back_limit_ns(period_ns), latched)
    if steps:
        raise BagError(
            f"{bag.path}, {(steps[0].before_ns - bag.start_ns) / 1e9:.3f} s from its start: the "
            f"recorder's clock was set back, and ticks go by one clock: record again, or "
            f"name the bag's files one by one if the clock was set between two of them"
        )
