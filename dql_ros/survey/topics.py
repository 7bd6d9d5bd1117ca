"""The topics of a bag: how much came, how evenly, and how stamped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dql_core.errors import BagError
from dql_ros.bag.block import MessageBlock
from dql_ros.bag.reader import Bag, BagTopic
from dql_ros.bag.topic_statistics import TopicStatistics
from dql_ros.survey.header_stamps import begins_with_header, header_stamps


@dataclass(frozen=True)
class SurveyedTopic:
    """One topic and what its messages tell.

    Attributes:
        topic: As the bag says.
        known: Whether the messages can be decoded.
        read: Whether they were read at all; those that are in no encoding of ROS are not.
        statistics: Of the messages that were read.
    """

    topic: BagTopic
    known: bool
    read: bool
    statistics: TopicStatistics


def survey(
    bag: Bag,
    progress: Callable[[int], None] = lambda _: None,
    visit: Callable[[MessageBlock], None] = lambda _: None,
) -> list[SurveyedTopic]:
    """Read a bag once, from start to end.

    Args:
        bag: An opened bag.
        progress: Told, now and then, how many of the bag's bytes are done.
        visit: Shown each block of messages.

    Returns:
        All topics, by name.

    Raises:
        BagError: If the bag is damaged, or has another number of messages than it says.
    """
    unknown = {topic.name for topic in bag.unknown_types}
    topics = {name: TopicStatistics(name, topic.msgtype, "") for name, topic in bag.topics.items()}
    stamped = {name for name in bag.topics if name not in unknown and _is_stamped(bag, name)}
    read = {name for name in bag.topics if name not in unknown or _is_readable(bag, name)}
    for batch in bag.batches(frozenset(read)):
        for block in batch.blocks:
            stamps_ns = header_stamps(block) if block.topic in stamped else None
            topics[block.topic].add(block.log_times_ns, stamps_ns)
            visit(block)
        progress(batch.bytes_done)
    return [
        SurveyedTopic(bag.topics[name], name not in unknown, name in read, topics[name])
        for name in sorted(topics)
    ]


def _is_stamped(bag: Bag, topic: str) -> bool:
    try:
        return begins_with_header(bag.typestore(topic), bag.topics[topic].msgtype)
    except BagError:
        return False  # recorded with several types


def _is_readable(bag: Bag, topic: str) -> bool:
    """Whether the times of a topic's messages can be read although nobody knows its type."""
    try:
        next(bag.batches(frozenset({topic})))
    except BagError:
        return False
    return True
