"""The streams that a policy observes: subscriptions that feed an observer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node

from dql_core.errors import ContractError
from dql_ros.contract import Contract, ObservationStream
from dql_ros.deadline import steady_ns
from dql_ros.nodes.interfaces import message_class, qos_profile
from dql_ros.nodes.qos_conflicts import QosConflicts
from dql_ros.observer import Observer

_LOG_PERIOD_S = 1.0
_CLOCK_TOPIC = "/clock"

# Told of each message that was taken in: its stream and its time in nanoseconds.
OnArrival = Callable[[ObservationStream, int], None]


class StreamInputs:
    """Subscribes to the observation streams of a contract."""

    def __init__(
        self,
        node: Node,
        contract: Contract,
        observer: Observer,
        conflicts: QosConflicts,
        on_arrival: OnArrival,
    ) -> None:
        """Subscribe.

        Args:
            node: The node to subscribe with.
            contract: The robot contract.
            observer: Takes the messages in.
            conflicts: Takes note of publishers that cannot be heard.
            on_arrival: See `OnArrival`.

        Raises:
            ContractError: If a message type is not installed.
        """
        self._node = node
        self._observer = observer
        self._conflicts = conflicts
        self._on_arrival = on_arrival
        self._subscriptions: list[Any] = []
        for stream in contract.observation:
            # What cannot be heard is refused before anything is opened.
            message_class(stream.type)
        # The state last, since a lockstep simulator begins when all is subscribed to.
        for stream in sorted(contract.observation, key=lambda stream: not stream.latched):
            self._subscriptions.append(self._subscribe(stream))

    def poll(self) -> None:
        """Take in what has arrived, while the executor waits for the caller."""
        self._observer.pulse(steady_ns())
        # The clock first: states stamped by a simulated one are not to be ahead of it.
        for subscription in [*self._clock_subscriptions(), *self._subscriptions]:
            take_all(subscription)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _clock_subscriptions(self) -> list[Any]:
        """With simulated time, rclpy's own subscription to the clock."""
        return [each for each in self._node.subscriptions if each.topic_name == _CLOCK_TOPIC]

    def _subscribe(self, stream: ObservationStream) -> Any:
        def receive(message: Any) -> None:
            now_ns = self._node.get_clock().now().nanoseconds
            try:
                stamp_ns = self._observer.receive(stream.topic, message, now_ns, steady_ns())
            except ContractError as error:
                self._node.get_logger().error(str(error), throttle_duration_sec=_LOG_PERIOD_S)
                return
            self._on_arrival(stream, stamp_ns)

        return self._node.create_subscription(
            message_class(stream.type),
            stream.topic,
            receive,
            qos_profile(stream.qos),
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._conflicts.listener(stream.topic)
            ),
        )


def take_all(subscription: Any) -> None:
    """Hand a subscription's waiting messages to its callback, without an executor."""
    while (taken := subscription.handle.take_message(subscription.msg_type, False)) is not None:
        subscription.callback(taken[0])
