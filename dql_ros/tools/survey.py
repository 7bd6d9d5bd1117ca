"""The topics of a bag: how much came, how evenly, how stamped, and with what numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, BagTopic, ClockStep
from dql_ros.bag.storage.definitions import HEADER
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.stamps import shifted, stamps_of
from dql_ros.convert.report.topic_statistics import TopicStatistics
from dql_ros.tools.topic_clock import TopicClock

# Behind the encapsulation header: seconds as int32, then nanoseconds as uint32.
STAMP = slice(4, 12)
# What is sent at most so often is sent once: at the start, or once an episode.
FEW = 3


@dataclass(frozen=True)
class SurveyedTopic:
    """One topic and what its messages show.

    Attributes:
        topic: As the bag says.
        unreadable: Why the messages cannot be decoded; empty if they can.
        statistics: Of the messages.
        clock_faults: What is wrong with their header stamps, if that was to be judged; see
            `ClockFaults`.
    """

    topic: BagTopic
    unreadable: str
    statistics: TopicStatistics
    clock_faults: Sequence[Mapping[str, Any]] = ()


def survey(
    bag: Bag,
    progress: Callable[[int], None] = lambda _: None,
    visit: Callable[[MessageBlock], None] = lambda _: None,
    known: Mapping[str, TopicStatistics] | None = None,
    steps: Sequence[ClockStep] = (),
    *,
    judge_clocks: bool = False,
) -> list[SurveyedTopic]:
    """Read a bag once, from start to end.

    Args:
        bag: The bag.
        progress: Called now and then with how many bytes are done.
        visit: Called with each block of messages.
        known: Statistics of topics from other recordings, which go on with this one.
        steps: Where the recording's clock had been set back; see `Bag.batches`.
        judge_clocks: Whether to say what is wrong with header stamps.

    A topic whose messages cannot be decoded is counted and timed like the others.

    Returns:
        All topics, by name.

    Raises:
        BagError: If the bag is damaged, or has another number of messages than it says.
    """
    unreadable = dict(bag.unreadable)
    topics = {name: TopicStatistics(name, topic.msgtype, "") for name, topic in bag.topics.items()}
    for name in (known or {}).keys() & topics.keys():
        topics[name] = (known or {})[name]
        topics[name].pauses.begin_recording()
    clocks: dict[str, TopicClock] = {}
    stamped = {name for name in bag.topics if name not in unreadable and _is_stamped(bag, name)}
    for batch in bag.batches(frozenset(bag.topics), unreadable, steps=steps):
        for block in batch.blocks:
            is_readable = block.topic not in unreadable
            is_stamped = is_readable and block.topic in stamped
            stamps_ns = header_stamps(block) if is_stamped else None
            if stamps_ns is not None and block.shift_ns:
                stamps_ns = np.where(stamps_ns, shifted(stamps_ns, block.shift_ns), 0)
            topics[block.topic].add(block.log_times_ns, stamps_ns)
            if judge_clocks and stamps_ns is not None:
                clock = clocks.setdefault(block.topic, TopicClock(block.topic))
                clock.add(block.log_times_ns, stamps_ns)
            if is_readable:
                visit(block)
        progress(batch.bytes_done)
    faults = {name: clock.finish().to_json() for name, clock in clocks.items()}
    return [
        SurveyedTopic(
            bag.topics[name], unreadable.get(name, ""), topics[name], faults.get(name, ())
        )
        for name in sorted(topics)
    ]


def _is_stamped(bag: Bag, topic: str) -> bool:
    try:
        return begins_with_header(bag.typestore(topic), bag.topics[topic].msgtype)
    except BagError:
        return False  # recorded with several types


def begins_with_header(typestore: Typestore, msgtype: str) -> bool:
    """Whether messages of a type begin with a header, as those do that have one."""
    fields = typestore.get_msgdef(msgtype).fields
    return bool(fields) and tuple(fields[0]) == ("header", (Nodetype.NAME, HEADER))


def header_stamps(block: MessageBlock) -> NDArray[np.int64]:
    """Return the stamps of messages that begin with a header, in nanoseconds, shape (n,).

    A message that is too short for one, which only damage explains, counts as not stamped: 0.
    """
    stamps_ns = np.zeros(len(block), np.int64)
    whole = np.flatnonzero(block.lengths >= STAMP.stop)
    places = block.starts[whole, None] + np.arange(STAMP.stop)
    content = block.data[places]
    for little in (True, False):
        rows = np.flatnonzero((content[:, 1] & 1) == little)
        order = "<" if little else ">"
        raw = np.ascontiguousarray(content[rows, STAMP])
        seconds = raw[:, :4].copy().view(f"{order}i4")[:, 0].astype(np.int64)
        nanoseconds = raw[:, 4:].copy().view(f"{order}u4")[:, 0].astype(np.int64)
        stamps_ns[whole[rows]] = stamps_of(seconds, nanoseconds)
    return stamps_ns
