"""The recorder's subscriptions: to what is published, in the way in which it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from dql_core.errors import DqlError
from dql_ros.bag.sequence_numbers import SequenceNumbers
from dql_ros.contract import QualityOfService
from dql_ros.nodes.interfaces import message_class, qos_profile


@dataclass(frozen=True)
class FoundTopic:
    """A topic that is published.

    Attributes:
        name: Its absolute name.
        msgtype: Its message type.
        offered: What its publishers offer.
    """

    name: str
    msgtype: str
    offered: tuple[QualityOfService, ...]


@dataclass
class _Subscribed:
    """One topic that is subscribed to."""

    subscription: Any
    quality: QualityOfService
    publishers: int
    numbers: SequenceNumbers = field(default_factory=SequenceNumbers)


class RecorderTopics:
    """Subscribes to topics once they have a publisher, and takes their messages serialised.

    Args:
        node: The node that subscribes.
        wanted: Types of the topics, by name; empty where only the publisher knows it.
        depth: Messages of a topic that may wait to be taken.
        on_topic: Told of each topic once, before its first message; what it complains about
            keeps the topic from being recorded.
        on_message: Takes topic, data and rclpy's information of each message.

    Attributes:
        refused: Why a topic is not recorded although it is published, by topic.
    """

    def __init__(
        self,
        node: Node,
        wanted: Mapping[str, str],
        depth: int,
        on_topic: Callable[[FoundTopic], None],
        on_message: Callable[[str, bytes, Mapping[str, Any]], None],
    ) -> None:
        self.refused: dict[str, str] = {}
        self._node = node
        self._wanted = dict(wanted)
        self._depth = depth
        self._on_topic = on_topic
        self._on_message = on_message
        self._subscribed: dict[str, _Subscribed] = {}
        self._given_up: set[str] = set()

    @property
    def unheard(self) -> list[str]:
        """Topics without a publisher to subscribe to so far."""
        return sorted(self._wanted.keys() - self._subscribed.keys() - self._given_up)

    @property
    def received(self) -> dict[str, int]:
        """Messages received so far, by topic."""
        return {topic: each.numbers.received for topic, each in self._subscribed.items()}

    @property
    def lost(self) -> dict[str, int]:
        """Messages that were sent between two that were received, by topic."""
        return {topic: each.numbers.lost for topic, each in self._subscribed.items()}

    def discover(self) -> None:
        """Subscribe to the topics that have a publisher by now."""
        for topic in self.unheard:
            if publishers := self._publishers(topic):
                msgtype = self._wanted[topic] or publishers[0].topic_type
                self._subscribe(topic, msgtype, publishers)

    def adapt(self) -> None:
        """Ask for less on topics where a further publisher offers less."""
        for topic, subscribed in self._subscribed.items():
            publishers = self._publishers(topic)
            subscribed.publishers = len(publishers)
            if not publishers:
                continue
            weakest = weakest_of([_quality(each.qos_profile) for each in publishers])
            if _asks_for_more(subscribed.quality, weakest):
                self._node.destroy_subscription(subscribed.subscription)
                subscribed.quality = weakest
                kind = subscribed.subscription.msg_type
                subscribed.subscription = self._create(topic, kind, weakest)

    def take_all(self) -> bool:
        """Take all that has arrived; say whether anything came."""
        any_came = False
        for topic, subscribed in self._subscribed.items():
            handle, kind = subscribed.subscription.handle, subscribed.subscription.msg_type
            with handle:
                while (taken := handle.take_message(kind, True)) is not None:
                    any_came = True
                    self._receive(topic, *taken)
        return any_came

    def _publishers(self, topic: str) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(topic))

    def _subscribe(self, topic: str, msgtype: str, publishers: list[Any]) -> None:
        types = {publisher.topic_type for publisher in publishers}
        fitting = [each for each in publishers if each.topic_type == msgtype]
        if not fitting:
            # One that fits may come yet.
            self._refuse(topic, f"is published as {', '.join(sorted(types))}, not as {msgtype}")
            return
        offered = tuple(_quality(publisher.qos_profile) for publisher in fitting)
        try:
            kind = message_class(msgtype)
            self._on_topic(FoundTopic(topic, msgtype, offered))
        except DqlError as error:
            self._given_up.add(topic)
            self._refuse(topic, str(error))
            return
        self.refused.pop(topic, None)
        weakest = weakest_of(offered)
        self._subscribed[topic] = _Subscribed(
            self._create(topic, kind, weakest), weakest, len(fitting)
        )

    def _create(self, topic: str, kind: Any, quality: QualityOfService) -> Any:
        def receive(data: bytes, info: Mapping[str, Any]) -> None:
            self._receive(topic, data, info)
            # One wake-up costs more than many messages: take whatever else has come.
            self.take_all()

        callback: Any = receive  # rclpy's stubs do not know the message's information
        profile = qos_profile(quality, min_depth=self._depth)
        return self._node.create_subscription(kind, topic, callback, profile, raw=True)

    def _receive(self, topic: str, data: bytes, info: Mapping[str, Any]) -> None:
        subscribed = self._subscribed[topic]
        number = info.get("publication_sequence_number")
        if subscribed.numbers.note(number, info["source_timestamp"], subscribed.publishers):
            self._on_message(topic, data, info)

    def _refuse(self, topic: str, why: str) -> None:
        if self.refused.get(topic) != why:
            self.refused[topic] = why
            self._node.get_logger().error(f"{topic} is not recorded: {why}")


def weakest_of(offered: Iterable[QualityOfService]) -> QualityOfService:
    """What every publisher can serve: one that offers less does not connect at all."""
    profiles = list(offered)
    reliable = all(quality.reliability == "reliable" for quality in profiles)
    latched = all(quality.durability == "transient_local" for quality in profiles)
    return QualityOfService(
        reliability="reliable" if reliable else "best_effort",
        durability="transient_local" if latched else "volatile",
    )


def _asks_for_more(asked: QualityOfService, offered: QualityOfService) -> bool:
    return (asked.reliability == "reliable" and offered.reliability != "reliable") or (
        asked.durability == "transient_local" and offered.durability != "transient_local"
    )


def _quality(offered: QoSProfile) -> QualityOfService:
    reliable = offered.reliability == ReliabilityPolicy.RELIABLE
    latched = offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return QualityOfService(
        reliability="reliable" if reliable else "best_effort",
        durability="transient_local" if latched else "volatile",
        depth=max(offered.depth, 1),
    )
