"""The recorder's subscriptions: to what is published, with the types and QoS of its publishers.

Lost messages are counted from the numbers that publishers give them, and the definitions of types
are made from their Python classes, since message files need not be installed.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from dql_core.errors import DqlError
from dql_ros.codecs.installed import message_class
from dql_ros.contract import QualityOfService
from dql_ros.nodes.base import RCLError
from dql_ros.nodes.node_log import ROS_ARGUMENTS
from dql_ros.nodes.topics import qos_profile

# What rosidl's Python classes call the primitive types, and what message definitions do.
_PRIMITIVES = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}
_SERVICE = re.compile(r"_(Request|Response|Event)$")
_SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>$")
_ARRAY = re.compile(r"(.+)\[(\d+)\]$")
_BOUNDED_TEXT = re.compile(r"(w?string)<(\d+)>$")
_SEPARATOR = "\n" + "=" * 80 + "\n"
# Publishers that have gone look like silent ones; more than so many are not followed.
_MAX_FOLLOWED = 64


class SequenceNumbers:
    """Follows the ascending numbers of a topic's publishers.

    A message does not say which of several publishers has sent it, but mistaking them for each
    other does not change the sum: what is lost is what the highest numbers exceed the lowest ones
    by, less what was received.

    Args:
        from_start: Whether no publisher had sent anything before it could have been received, so
            that what its first message's number exceeds 1 by was lost as well.

    Attributes:
        received: Messages that were received, each once.
        lost: Messages that were not received, although an earlier and a later one were.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        self._from_start = from_start
        self.received = 0
        self.lost = 0
        # Number and time of the last message of each publisher.
        self._last: list[tuple[int, int]] = []

    def note(self, number: int | None, source_ns: int, publishers: int = 1) -> bool:
        """Count a message.

        Args:
            number: Its publisher's number for it; ``None`` if the middleware gives none.
            source_ns: When it was sent.
            publishers: How many publishers the topic has now.

        Returns:
            Whether it is new; one that a latching publisher sends again is not.
        """
        if number is None:
            self.received += 1
            return True
        if (number, source_ns) in self._last:
            return False
        self.received += 1
        below = [index for index, (last, _) in enumerate(self._last) if last < number]
        nearest = max(below, key=lambda index: self._last[index][0], default=None)
        gap = 0 if nearest is None else number - self._last[nearest][0] - 1
        if nearest is None or (gap and len(self._last) < publishers):
            self.lost += number - 1 if self._from_start else 0
            self._last = [*self._last[-_MAX_FOLLOWED + 1 :], (number, source_ns)]
        else:
            self._last[nearest] = (number, source_ns)
            self.lost += gap
        return True


@dataclass(frozen=True)
class FoundTopic:
    """A topic that is published, with one of its types.

    Attributes:
        name: Its absolute name.
        msgtype: Its message type.
        label: What messages of this topic and type go by; the name but for a second type.
        offered: What its publishers offer.
        hashes: Their hashes of the type (REP 2011), as far as they are known.
    """

    name: str
    msgtype: str
    label: str
    offered: tuple[QualityOfService, ...]
    hashes: frozenset[str]


@dataclass
class _Heard:
    """One type of a topic that is subscribed to."""

    found: FoundTopic
    type_hash: str
    node: Node
    subscription: Any
    quality: QualityOfService
    publishers: frozenset[bytes]
    numbers: SequenceNumbers


class RecorderTopics:
    """Subscribes to topics once they have a publisher, and takes their messages serialised.

    A topic may be published with several types, at once or one after the other: each is heard by
    itself, and goes by a label of its own.

    Args:
        node: The node that subscribes.
        wanted: Types of the topics, by name; empty where only the publisher knows it.
        depth: Messages of a topic that may wait to be taken.
        on_topic: Called with each topic and type once, before the first message; returns the hash
            of the definition that it has of the type, empty if it does not know. An error that it
            raises keeps the topic from being recorded until that has changed.
        on_message: Takes label, data and rclpy's information of each message.

    Attributes:
        refused: Why a topic is not recorded although it is published, by label.
        remarks: What else is odd about a topic, by label.
    """

    def __init__(
        self,
        node: Node,
        wanted: Mapping[str, str],
        depth: int,
        on_topic: Callable[[FoundTopic], str],
        on_message: Callable[[str, bytes, Mapping[str, Any]], None],
    ) -> None:
        self.refused: dict[str, str] = {}
        self.remarks: dict[str, str] = {}
        self._node = node
        self._wanted = dict(wanted)
        self._depth = depth
        self._on_topic = on_topic
        self._on_message = on_message
        self._heard: dict[str, _Heard] = {}
        self._types: dict[str, set[str]] = {topic: set() for topic in wanted}
        self._not_installed: set[str] = set()
        self._beside: list[Node] = []

    @property
    def unheard(self) -> list[str]:
        """Topics without a publisher to subscribe to so far."""
        refused = {label.partition(" ")[0] for label in self.refused}
        return sorted(topic for topic in self._wanted.keys() - refused if not self._types[topic])

    @property
    def received(self) -> dict[str, int]:
        """Messages received so far, by label."""
        return {label: each.numbers.received for label, each in self._heard.items()}

    @property
    def lost(self) -> dict[str, int]:
        """Messages that were sent when they should have been received and were not, by label."""
        return {label: each.numbers.lost for label, each in self._heard.items()}

    def discover(self) -> None:
        """Subscribe to what is published by now."""
        present = dict(self._node.get_topic_names_and_types())
        for topic, types in self._types.items():
            if not types.issuperset(present.get(topic, ())):
                self._discover_types(topic)

    def adapt(self) -> None:
        """Look at publishers that have come since; ask for less where one offers less."""
        for each in list(self._heard.values()):
            publishers = self._publishers(each.found.name, each.found.msgtype)
            present = frozenset(bytes(publisher.endpoint_gid) for publisher in publishers)
            newcomers = present - each.publishers
            each.publishers = present or each.publishers
            if not newcomers:
                continue
            self._compare_definitions(each.found, each.type_hash, _hashes(publishers))
            offered = weakest_of([_quality(publisher.qos_profile) for publisher in publishers])
            if _asks_for_more(each.quality, offered):
                self._ask_for_less(each, offered)

    def take_all(self) -> bool:
        """Take all that has arrived; say whether anything came."""
        came = [self._take(each) for each in self._heard.values()]
        return any(came)

    def close(self) -> None:
        """Let go of what is not the node's own."""
        for node in self._beside:
            node.destroy_node()
            node.context.try_shutdown()

    def _discover_types(self, topic: str) -> None:
        """Subscribe to the types with which a topic is published and not heard yet."""
        wanted, types = self._wanted[topic], self._types[topic]
        # One that comes later than others has not sent anything unnoticed before.
        is_later = bool(types)
        present = {publisher.topic_type for publisher in self._publishers(topic)}
        for msgtype in sorted(present - types, key=lambda each: (each != wanted, each)):
            is_first = msgtype == wanted or not (wanted or types)
            label = topic if is_first else f"{topic} ({msgtype})"
            if label not in self._not_installed and self._hear(topic, msgtype, label, is_later):
                self._remark_on_types(label, msgtype, wanted, types - {msgtype})

    def _hear(self, topic: str, msgtype: str, label: str, is_later: bool) -> bool:
        """Subscribe to a topic that is published with a type; say whether that was possible."""
        publishers = self._publishers(topic, msgtype)
        offered = tuple(_quality(publisher.qos_profile) for publisher in publishers)
        found = FoundTopic(topic, msgtype, label, offered, _hashes(publishers))
        try:
            kind = message_class(msgtype)
        except DqlError as error:
            self._not_installed.add(label)
            self._refuse(label, str(error))
            return False
        try:
            type_hash = self._on_topic(found)
            quality = weakest_of(offered)
            node, subscription = self._subscribe_somewhere(found, kind, quality)
        except DqlError as error:
            self._refuse(label, str(error))
            return False
        self.refused.pop(label, None)
        self._types[topic].add(msgtype)
        self._heard[label] = _Heard(
            found,
            type_hash,
            node,
            subscription,
            quality,
            frozenset(bytes(publisher.endpoint_gid) for publisher in publishers),
            SequenceNumbers(from_start=is_later),
        )
        self._compare_definitions(found, type_hash, found.hashes)
        return True

    def _remark_on_types(self, label: str, msgtype: str, wanted: str, others: set[str]) -> None:
        if wanted and msgtype != wanted:
            text = f"is published as {msgtype}, but the contract says {wanted}: recorded as sent"
        elif others and not wanted:
            text = f"is published as {msgtype} and as {', '.join(sorted(others))}: both recorded"
        else:
            return
        self._remark(label, text)

    def _compare_definitions(
        self, found: FoundTopic, type_hash: str, hashes: frozenset[str]
    ) -> None:
        """Remark on publishers whose messages the recording's definition does not describe."""
        if type_hash and hashes - {type_hash}:
            self._remark(
                found.label,
                f"has a publisher with another definition of {found.msgtype} than is installed "
                f"here: its messages are recorded too, but cannot be decoded",
            )

    def _publishers(self, topic: str, msgtype: str = "") -> list[Any]:
        found = self._node.get_publishers_info_by_topic(topic)
        return [publisher for publisher in found if msgtype in {"", publisher.topic_type}]

    def _subscribe_somewhere(
        self, found: FoundTopic, kind: Any, quality: QualityOfService
    ) -> tuple[Node, Any]:
        """Subscribe in the first context that does not know the topic with another type."""
        taken = [each.node for each in self._heard.values() if each.found.name == found.name]
        for node in (self._node, *self._beside):
            if node not in taken:
                with suppress(RCLError):  # It has the topic with another type, for its own use.
                    return node, self._subscribe(node, found, kind, quality)
        self._beside.append(_node_beside(self._node, len(self._beside) + 2))
        return self._beside[-1], self._subscribe(self._beside[-1], found, kind, quality)

    def _ask_for_less(self, each: _Heard, quality: QualityOfService) -> None:
        self._take(each)
        each.node.destroy_subscription(each.subscription)
        kind = each.subscription.msg_type
        each.subscription = self._subscribe(each.node, each.found, kind, quality)
        each.quality = quality
        self._remark(
            each.found.label,
            f"got a publisher with a lower QoS ({quality.reliability}, {quality.durability}): "
            f"its first messages are not recorded",
        )

    def _subscribe(
        self, node: Node, found: FoundTopic, kind: Any, quality: QualityOfService
    ) -> Any:
        def receive(data: bytes, info: Mapping[str, Any]) -> None:
            self._receive(self._heard[found.label], data, info)
            # One wake-up costs more than many messages: take whatever else has come.
            self.take_all()

        callback: Any = receive  # rclpy's stubs do not know the message's information
        profile = qos_profile(quality, min_depth=self._depth)
        return node.create_subscription(kind, found.name, callback, profile, raw=True)

    def _take(self, each: _Heard) -> bool:
        any_came = False
        handle, kind = each.subscription.handle, each.subscription.msg_type
        with handle:
            while (taken := handle.take_message(kind, True)) is not None:
                any_came = True
                self._receive(each, *taken)
        return any_came

    def _receive(self, each: _Heard, data: bytes, info: Mapping[str, Any]) -> None:
        number = info.get("publication_sequence_number")
        if each.numbers.note(number, info["source_timestamp"], len(each.publishers)):
            self._on_message(each.found.label, data, info)

    def _refuse(self, label: str, why: str) -> None:
        if self.refused.get(label) != why:
            self.refused[label] = why
            self._node.get_logger().error(f"{label} is not recorded: {why}")

    def _remark(self, label: str, text: str) -> None:
        known = self.remarks.get(label, "")
        if text not in known:
            self.remarks[label] = f"{known}; {text}" if known else text
            self._node.get_logger().warning(f"{label} {text}")


def weakest_of(offered: Iterable[QualityOfService]) -> QualityOfService:
    """What every publisher can serve: one that offers less does not connect at all."""
    profiles = list(offered)
    return _quality_of(
        is_reliable=all(quality.reliability == "reliable" for quality in profiles),
        is_latched=all(quality.durability == "transient_local" for quality in profiles),
    )


def _asks_for_more(asked: QualityOfService, offered: QualityOfService) -> bool:
    return (asked.reliability == "reliable" and offered.reliability != "reliable") or (
        asked.durability == "transient_local" and offered.durability != "transient_local"
    )


def _quality(offered: QoSProfile) -> QualityOfService:
    return _quality_of(
        is_reliable=offered.reliability == ReliabilityPolicy.RELIABLE,
        is_latched=offered.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        depth=max(offered.depth, 1),
    )


def _quality_of(*, is_reliable: bool, is_latched: bool, depth: int = 1) -> QualityOfService:
    return QualityOfService(
        reliability="reliable" if is_reliable else "best_effort",
        durability="transient_local" if is_latched else "volatile",
        depth=depth,
    )


def _hashes(publishers: Iterable[Any]) -> frozenset[str]:
    """The publishers' hashes of their type; before Jazzy there are none."""
    texts = (str(getattr(publisher, "topic_type_hash", "")) for publisher in publishers)
    return frozenset(
        each for each in texts if each.startswith("RIHS01_") and each.strip("0_RIHS1")
    )


def _node_beside(node: Node, number: int) -> Node:
    """Make a node with a context of its own: one context knows a topic with one type only."""
    context = Context()
    rclpy.init(
        args=[*sys.argv, *ROS_ARGUMENTS],
        context=context,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    return Node(
        f"{node.get_name()}_{number}",
        namespace=node.get_namespace(),
        context=context,
        use_global_arguments=False,
        enable_rosout=False,
        start_parameter_services=False,
        parameter_overrides=[Parameter("start_type_description_service", value=False)],
    )


def type_definition(type_name: str) -> str:
    """Return a type's definition and those of the types that it uses, in ``ros2msg`` form.

    Constants, defaults and comments, which the classes do not know, are left out; they have no
    part in the type's hash.

    Args:
        type_name: ``package/msg/Name``, or ``package/srv/Name_Event``.

    Raises:
        ContractError: If a type is not installed.
    """
    pending, known = [type_name], {type_name}
    definitions = []
    while pending:
        current = pending.pop(0)
        lines = []
        for name, kind in _class_of(current).get_fields_and_field_types().items():
            text, used = _spelled(kind)
            lines.append(f"{text} {name}")
            if used and used not in known:
                known.add(used)
                pending.append(used)
        title = "" if current == type_name else f"MSG: {current}\n"
        definitions.append(title + "\n".join(lines))
    return _SEPARATOR.join(definitions) + "\n"


def _class_of(type_name: str) -> Any:
    package, kind, name = type_name.split("/")
    if kind == "srv" and not name.endswith("_Event"):
        return getattr(importlib.import_module(f"{package}.srv"), name)
    return message_class(type_name)


def _spelled(kind: str) -> tuple[str, str]:
    """How a definition spells a field's type, and the name of the type that it uses, if any."""
    if found := _SEQUENCE.match(kind):
        text, used = _spelled(found[1])
        return f"{text}[<={found[2]}]" if found[2] else f"{text}[]", used
    if found := _ARRAY.match(kind):
        text, used = _spelled(found[1])
        return f"{text}[{found[2]}]", used
    if found := _BOUNDED_TEXT.match(kind):
        return f"{found[1]}<={found[2]}", ""
    if "/" in kind:
        package, name = kind.split("/")
        used = f"{package}/{'srv' if _SERVICE.search(name) else 'msg'}/{name}"
        return used, used
    return _PRIMITIVES.get(kind, kind), ""
