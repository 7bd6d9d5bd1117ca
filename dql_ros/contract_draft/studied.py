"""What a draft goes by: each topic of a bag with its timing and its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.block import MessageBlock
from dql_ros.bag.reader import Bag
from dql_ros.contract import Element
from dql_ros.survey.numbers import NumberFacts, TopicNumbers
from dql_ros.survey.topics import SurveyedTopic, survey

# Parts of a path that tell of the message rather than of the robot.
BOOKKEEPING = re.compile(
    r"header|stamp|sec|nanosec|nsec|seq|timestamp(_sample)?|time_from_start|\w*covariance\w*"
)


@dataclass(frozen=True)
class StudiedTopic:
    """One topic of a bag.

    Attributes:
        name: Absolute topic name.
        msgtype: Type of its messages.
        count: Number of messages.
        timing: Its row as `TopicStatistics.to_json` tells it.
        numbers: What its messages hold; ``None`` if they cannot be decoded.
        typestore: Knows its type; ``None`` likewise.
    """

    name: str
    msgtype: str
    count: int
    timing: dict[str, Any]
    numbers: TopicNumbers | None
    typestore: Typestore | None

    @property
    def rate_hz(self) -> float | None:
        """How often it usually comes; ``None`` for fewer than two messages."""
        mean, median_ms = self.timing["rate_hz"], self.timing["median_pause_ms"]
        if not mean or not median_ms:
            return None
        # A mean suffers from pauses, a median from messages that come in bursts or late by turns.
        return max(float(mean), 1000.0 / median_ms) if self.is_regular else float(mean)

    @property
    def is_regular(self) -> bool:
        """Whether most messages come about as far apart as the median."""
        jitter, median_ms = self.timing["jitter_ms"], self.timing["median_pause_ms"]
        return jitter is not None and jitter["p50"] <= 0.25 * median_ms

    @property
    def useful(self) -> dict[Element, NumberFacts]:
        """The numbers that all its messages have and that are not about the message itself."""
        common = {} if self.numbers is None else self.numbers.common
        return {
            element: fact
            for element, fact in common.items()
            if not any(BOOKKEEPING.fullmatch(part) for part in element.path.split("."))
        }

    @property
    def last_segment(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]


def study(bag: Bag, progress: Callable[[int], None] = lambda _: None) -> list[StudiedTopic]:
    """Read a bag once, from start to end; topics come in the order of their names.

    Raises:
        BagError: If the bag is damaged.
    """
    stores: dict[str, Typestore] = {}
    for name in bag.topics:
        try:
            stores[name] = bag.typestore(name)
        except BagError:
            continue  # of unknown type, or of several
    numbers = {
        name: TopicNumbers(name, bag.topics[name].msgtype, store) for name, store in stores.items()
    }

    def visit(block: MessageBlock) -> None:
        if block.topic in numbers:
            numbers[block.topic].add(block)

    return [
        _studied(each, numbers.get(each.topic.name), stores.get(each.topic.name))
        for each in survey(bag, progress, visit)
    ]


def _studied(
    surveyed: SurveyedTopic, numbers: TopicNumbers | None, store: Typestore | None
) -> StudiedTopic:
    timing = surveyed.statistics.to_json()
    count = surveyed.statistics.count
    topic = surveyed.topic
    return StudiedTopic(topic.name, topic.msgtype, count, timing, numbers, store)
