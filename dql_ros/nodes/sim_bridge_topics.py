"""The simulated robot's topics: commands in; states, signals, results and the clock out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from dql_ros.codecs import StreamDecoder
from dql_ros.contract import ActionStream, Contract
from dql_ros.nodes.interfaces import message_class, qos_profile, reliable, time_message
from dql_ros.nodes.stream_io import (
    SignalPublisher,
    StreamPublisher,
    joints_of,
    parts,
    wait_for_delivery,
)
from dql_ros.simulation import Frame

# Deep enough that a recorder is sent again whatever it missed.
_DEPTH = 1000
_DELIVERY_TIMEOUT_S = 2.0


class CommandInputs:
    """Collects one command of each action stream."""

    def __init__(self, node: Node, contract: Contract, on_complete: Callable[[], None]) -> None:
        self._node = node
        self._on_complete = on_complete
        self._topics: list[str] = []
        self._fresh: set[str] = set()
        self.held = np.array(contract.safe_command, dtype=np.float64)
        for stream, part in zip(contract.action, parts(contract.action), strict=True):
            self._subscribe(stream, part)

    def have_source(self) -> bool:
        """Whether every command topic has a publisher."""
        return all(self._node.count_publishers(topic) > 0 for topic in self._topics)

    def take(self) -> NDArray[np.float64]:
        """Return the whole command, shape (A,), and wait for the next."""
        self.forget()
        return self.held

    def forget(self) -> None:
        """Wait for new messages on all topics; what is held stays."""
        self._fresh.clear()

    def _subscribe(self, stream: ActionStream, part: slice) -> None:
        decode = StreamDecoder(stream)

        def receive(message: object) -> None:
            self.held[part] = decode(message)
            self._fresh.add(stream.topic)
            if len(self._fresh) == len(self._topics):
                self._on_complete()

        subscription = self._node.create_subscription(
            message_class(stream.type),
            stream.topic,
            receive,
            qos_profile(stream.qos, min_depth=10),
        )
        self._topics.append(subscription.topic_name)


class BridgeOutputs:
    """All topics of the bridge, written in an order from which every reader can learn causes."""

    def __init__(self, node: Node, contract: Contract) -> None:
        # The clock first: discovery keeps the order, so that a recorder that has found the other
        # topics has found the clock, without which it cannot date them.
        self._clock = node.create_publisher(Clock, "/clock", reliable(_DEPTH))
        self._result = node.create_publisher(String, "~/episode", reliable(_DEPTH, latched=True))
        self._signals = {
            name: SignalPublisher(
                node.create_publisher(message_class(signal.type), signal.topic, reliable(_DEPTH)),
                signal,
            )
            for name, signal in contract.signals.items()
        }
        self._latched: list[StreamPublisher] = []
        self._live: list[StreamPublisher] = []
        for stream, part in zip(contract.observation, parts(contract.observation), strict=True):
            qos = reliable(1, latched=True) if stream.latched else reliable(_DEPTH)
            publisher = node.create_publisher(message_class(stream.type), stream.topic, qos)
            # Alphabetical, as many drivers list them, lest anyone rely on the contract's order.
            output = StreamPublisher(publisher, stream, part, sorted(joints_of(stream)), np.nan)
            (self._latched if stream.latched else self._live).append(output)

    @property
    def publishers(self) -> list[Publisher]:
        """All publishers."""
        return [self._clock, self._result, *self._signal_publishers, *self._state_publishers]

    def are_heard(self, recorders: int) -> bool:
        """Whether a policy hears the state, and ``recorders`` more hear everything."""
        state = all(p.get_subscription_count() > recorders for p in self._state_publishers)
        others = [self._clock, *self._signal_publishers]
        return state and all(p.get_subscription_count() >= recorders for p in others)

    def publish(self, frame: Frame) -> None:
        """Send all that became known at one instant.

        The state goes last, since it asks for an answer, and the latched streams that are part of
        it have arrived by then.
        """
        self._clock.publish(Clock(clock=time_message(frame.stamp_ns)))
        if frame.transition is None:
            for output in self._latched:
                output.publish(frame.observation, frame.stamp_ns)
            wait_for_delivery([output.publisher for output in self._latched], _DELIVERY_TIMEOUT_S)
        else:
            for name, signal in self._signals.items():
                signal.publish(getattr(frame.transition, name))
        self.publish_state(frame)
        if frame.result is not None:
            self._result.publish(String(data=frame.result.to_json()))

    def publish_state(self, frame: Frame) -> None:
        """Send the streams that are not latched, and thereby ask for a command."""
        for output in self._live:
            output.publish(frame.observation, frame.stamp_ns)

    @property
    def _signal_publishers(self) -> list[Publisher]:
        return [signal.publisher for signal in self._signals.values()]

    @property
    def _state_publishers(self) -> list[Publisher]:
        return [output.publisher for output in (*self._latched, *self._live)]
