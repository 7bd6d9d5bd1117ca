"""From the contract's words to rclpy's: publishers, QoS profiles, stamps, clocks.

Also who else is on a topic: endpoints of incompatible QoS, and other nodes that command the robot;
and that no remapping leads a topic to another one of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]  # as below
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.publisher import (  # type: ignore[attr-defined]
    Publisher,
    PublisherEventCallbacks,
)
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.subscription import SubscriptionEventCallbacks  # type: ignore[attr-defined]
from rclpy.topic_endpoint_info import TopicEndpointInfo

from dql_core.errors import ConfigError
from dql_core.streams import SECOND_NS
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.installed import message_class, new_element
from dql_ros.codecs.message_path import MessagePath
from dql_ros.codecs.stamps import set_time
from dql_ros.contract import (
    ActionStream,
    Contract,
    FlagStream,
    QualityOfService,
    SignalStream,
    Stream,
)

# Imported from where Humble has them, too: it has neither `rclpy.clock_type` nor
# `rclpy.event_handler`.
PublisherEvents, SubscriptionEvents = PublisherEventCallbacks, SubscriptionEventCallbacks
_RELIABILITY = {
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
    "reliable": ReliabilityPolicy.RELIABLE,
}
_DURABILITY = {
    "volatile": DurabilityPolicy.VOLATILE,
    "transient_local": DurabilityPolicy.TRANSIENT_LOCAL,
}
# A node of another middleware, or one that discovery has not named yet: names come later.
NAMELESS = "a node without a name"
_UNNAMED = "_NODE_NAME_UNKNOWN_"


def steady_clock() -> Clock:
    """Return a clock that nobody sets, for timers that go on while simulated time stands."""
    return Clock(clock_type=ClockType.STEADY_TIME)


class StreamPublisher:
    """Publishes one stream's part of a vector.

    Attributes:
        publisher: Of the topic.
        part: Where the stream's values are in the whole vector.
        message: What was published last.
    """

    def __init__(
        self,
        publisher: Any,
        stream: Stream,
        part: slice,
        joint_order: Sequence[str] = (),
        unknown: float | None = None,
        frame_id: str = "",
        period_ns: int = 0,
    ) -> None:
        """Prepare to publish.

        Args:
            publisher: Of the stream's topic and type; rclpy's, managed by the lifecycle or not.
            stream: What the contract says of it.
            part: Where its values are in the whole vector.
            joint_order: Order of the joints in its messages; the contract's by default.
            unknown: Value of what the contract does not select; see `StreamEncoder`.
            frame_id: ``header.frame_id`` of an observation; a command has the contract's.
            period_ns: From one point of a trajectory to the next, where it has those of a chunk.
        """
        self.publisher = publisher
        self._encoder = StreamEncoder(stream, joint_order, unknown)
        self.message = message_class(stream.type)()
        if frame_id and hasattr(self.message, "header"):
            self.message.header.frame_id = frame_id
        self.part = part
        self._period_ns = period_ns
        self._takes_chunks = isinstance(stream, ActionStream) and stream.takes_chunks
        self._later: list[Any] = []  # messages whose points are those behind the first

    def publish(
        self,
        vector: NDArray[np.floating[Any]],
        stamp_ns: int,
        ahead: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Send this stream's part of ``vector``, stamped with ``stamp_ns``.

        Args:
            vector: Shape (A,).
            stamp_ns: Time for the stamps.
            ahead: What follows it, shape (n, A), which a trajectory has as its further points.
        """
        values = vector[self.part]
        self._encoder.encode(values, self.message, stamp_ns, new_element)
        if self._takes_chunks:
            rows = () if ahead is None else ahead[:, self.part]
            self.message.points = [self.message.points[0], *self._points(rows, stamp_ns)]
        self.publisher.publish(self.message)

    def _points(self, rows: Iterable[NDArray[np.floating[Any]]], stamp_ns: int) -> Iterator[Any]:
        """Yield a point for each row, a period after the one before."""
        for number, row in enumerate(rows):
            if number == len(self._later):
                self._later.append(type(self.message)())
            message = self._encoder.encode(row, self._later[number], stamp_ns, new_element)
            due = message.points[0].time_from_start
            first_ns = due.sec * SECOND_NS + due.nanosec
            set_time(due, first_ns + (number + 1) * self._period_ns)
            yield message.points[0]


class SignalPublisher:
    """Publishes one number or flag."""

    def __init__(self, publisher: Publisher, signal: SignalStream) -> None:
        """Prepare to publish ``signal`` through ``publisher``."""
        self.publisher = publisher
        self._message = message_class(signal.type)()
        self._path = MessagePath(signal.path, signal.topic)
        self._flag = signal if isinstance(signal, FlagStream) else None

    def publish(self, value: float) -> None:
        """Send ``value``; that of a flag is whether it is raised."""
        sent = value if self._flag is None else self._flag.value_of(bool(value))
        self._path.assign(self._message, sent, new_element)
        self.publisher.publish(self._message)


def wait_for_delivery(publishers: Sequence[Publisher], timeout_s: float = 0.0) -> bool:
    """Wait until every reliable subscriber has acknowledged everything; say whether all have.

    Fast DDS asks for acknowledgements with each message only where the history's depth is used up,
    as with a depth of 1; otherwise every 3 s.
    """
    timeout = Duration(seconds=timeout_s)
    delivered = [publisher.wait_for_all_acked(timeout) for publisher in publishers]
    return all(delivered)


def qos_profile(quality: QualityOfService, *, min_depth: int = 1) -> QoSProfile:
    """Return the profile that a contract asks for, with at least ``min_depth`` messages kept."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max(quality.depth, min_depth),
        reliability=_RELIABILITY[quality.reliability],
        durability=_DURABILITY[quality.durability],
    )


def reliable(depth: int, *, latched: bool = False) -> QoSProfile:
    """Return a reliable profile; a latched one also serves who subscribes later."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


def time_message(stamp_ns: int) -> Any:
    """Return a ``builtin_interfaces/msg/Time``."""
    seconds, nanoseconds = divmod(stamp_ns, SECOND_NS)
    return Time(sec=seconds, nanosec=nanoseconds)


class QosConflicts:
    """Counts endpoints whose quality of service does not go with this node's, and names them.

    Attributes:
        counts: How many there were, by topic.
    """

    def __init__(self, logger_name: str) -> None:
        """Log to ``logger_name``."""
        self.counts: dict[str, int] = {}
        self._policies: dict[str, str] = {}
        self._logger = get_logger(logger_name)

    @property
    def total(self) -> int:
        """How many there were on all topics."""
        return sum(self.counts.values())

    def listener(self, topic: str) -> Callable[[Any], None]:
        """Return what is to be called with the events of an endpoint of ``topic``."""

        def note(event: Any) -> None:
            self.counts[topic] = event.total_count
            policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
            self._policies[topic] = policy
            self._logger.warning(self.problem(topic))

        return note

    def problem(self, topic: str) -> str:
        """What is wrong on a topic, as a clause; empty if nothing is."""
        if not self.counts.get(topic):
            return ""
        return (
            f"{self.counts[topic]} publisher(s) or subscriber(s) of '{topic}' use another "
            f"{self._policies[topic]} than the contract, so no messages are exchanged: change "
            f"'qos' in the contract or in that node"
        )


class Rivals:
    """Looks for publishers, and clients of actions, beside a robot's one commander.

    DDS reports them as soon as they are discovered, whether they have sent anything or not.
    """

    def __init__(
        self,
        node: Node,
        topics: Sequence[str],
        actions: Sequence[str] = (),
        *,
        is_commander: bool,
    ) -> None:
        """Look for others.

        Args:
            node: Looks.
            topics: Where commands are published.
            actions: Of which they are goals.
            is_commander: Whether the node itself sends them.
        """
        self._node = node
        self._is_commander = is_commander
        self._own_name = _full_name(node.get_namespace(), node.get_name())
        self._topics, self._actions = tuple(topics), tuple(actions)

    def problem(self) -> str:
        """Who commands the robot beside the one that may, and the remedy; empty if nobody."""
        found: list[str] = []
        for topic in self._topics:
            names = self._publishers(topic)
            if len(names) > 1:
                found.append(f"'{topic}' has {len(names)} publishers: {', '.join(names)}")
        for action in self._actions:
            names = self._clients(action)
            if len(names) > 1:
                found.append(f"'{action}' has {len(names)} clients: {', '.join(names)}")
        return f"{'; '.join(found)}: stop the other node" if found else ""

    def are_commanded(self) -> bool:
        """Whether every topic has a publisher."""
        return all(self._publishers(topic) for topic in self._topics)

    def _publishers(self, topic: str) -> list[str]:
        # rclpy expands and remaps the name; one that is resolved already would be remapped twice.
        return self._names(self._node.get_publishers_info_by_topic(topic))

    def _clients(self, action: str) -> list[str]:
        # Each publishes its goals, and DDS knows on what, by the names that rmw gives services.
        service = f"{self._node.resolve_service_name(action)}/_action/send_goal"
        topic = f"rq{service}Request"
        return self._names(self._node.get_publishers_info_by_topic(topic, no_mangle=True))

    def _names(self, endpoints: Sequence[TopicEndpointInfo]) -> list[str]:
        names = [_full_name(each.node_namespace, each.node_name) for each in endpoints]
        if self._is_commander and self._own_name not in names:
            names.append(self._own_name)  # not discovered yet
        return sorted(names)


def require_unremapped(node: Node, shadows: Sequence[ActionStream]) -> None:
    """See that shadow commands go where their name says.

    Raises:
        ConfigError: If a remapping leads one of them elsewhere, such as to the robot.
    """
    for stream in shadows:
        own = node.resolve_topic_name(stream.topic, only_expand=True)
        if (led_to := node.resolve_topic_name(stream.topic)) != own:
            raise ConfigError(
                f"'{own}' is remapped to '{led_to}', which may command a robot, but nothing may "
                f"in shadow mode: leave that remapping out"
            )


def require_unmixed(node: Node, contract: Contract) -> None:
    """See that no person's topic is one that the node itself sends on.

    Raises:
        ConfigError: If a remapping makes it one.
    """
    takeover = contract.takeover
    if takeover is None:
        return
    sent = [*(stream.topic for stream in contract.action), takeover.intervention]
    names = {node.resolve_topic_name(topic) for topic in sent}
    for topic in takeover.heard_topics:
        if node.resolve_topic_name(topic) in names:
            raise ConfigError(
                f"a remapping leads '{topic}', by which a person takes over, to "
                f"'{node.resolve_topic_name(topic)}', on which this node sends: leave it out"
            )


def require_apart(topics: Iterable[str], commands: Collection[str]) -> None:
    """See that nothing that a node publishes is on a topic that commands the robot.

    Args:
        topics: On which it publishes, resolved.
        commands: The topics that command the robot, resolved.

    Raises:
        ConfigError: If a remapping leads something there.
    """
    for topic in topics:
        if topic in commands:
            raise ConfigError(
                f"a remapping leads what this node publishes to '{topic}', which commands the "
                f"robot, but nothing may in shadow mode: leave that remapping out"
            )


def _full_name(namespace: str, name: str) -> str:
    if name == _UNNAMED:
        return NAMELESS
    return f"{namespace.rstrip('/')}/{name}"
