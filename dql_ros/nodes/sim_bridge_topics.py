"""What the simulated robot publishes: states, signals, results and the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from dql_ros.contract import Contract
from dql_ros.nodes.interfaces import message_class, reliable, time_message
from dql_ros.nodes.stream_io import (
    SignalPublisher,
    StreamPublisher,
    joints_of,
    parts,
    wait_for_delivery,
)
from dql_ros.sim_faults import FaultyLink, LinkFaults, Vector, link_rng
from dql_ros.simulation import Frame

# Deep enough that a recorder is sent again whatever it missed.
_DEPTH = 1000
_DELIVERY_TIMEOUT_S = 2.0
# The fixed frame of a model, and the messages that are of it; what an IMU measures is of its own.
_FRAME = "world"
_IN_FRAME = frozenset(
    f"geometry_msgs/msg/{name}Stamped"
    for name in ("Point", "Pose", "Transform", "Vector3", "Twist")
) | {"nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseWithCovarianceStamped"}


@dataclass(frozen=True)
class OutputSettings:
    """How states are sent.

    Attributes:
        lockstep: All topics of a state arrive or are lost together, and the newest is enough; a
            new episode waits for its latched topics to arrive.
        faults: What is wrong with the way of the states.
        seed: Of these faults.
    """

    lockstep: bool
    faults: LinkFaults
    seed: int


class BridgeOutputs:
    """All topics of the bridge, written in an order from which every reader can learn causes."""

    def __init__(self, node: Node, contract: Contract, settings: OutputSettings) -> None:
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
            joints = sorted(joints_of(stream))
            frame = _FRAME if stream.type in _IN_FRAME else ""
            output = StreamPublisher(publisher, stream, part, joints, np.nan, frame)
            (self._latched if stream.latched else self._live).append(output)
        self._lockstep = settings.lockstep
        groups = [self._live] if settings.lockstep else [[output] for output in self._live]
        self._links: list[tuple[FaultyLink[int], list[StreamPublisher]]] = [
            (FaultyLink(settings.faults, link_rng(settings.seed, 0, index)), group)
            for index, group in enumerate(groups)
        ]
        self._asked: tuple[Vector, int] | None = None

    @property
    def publishers(self) -> list[Publisher]:
        """All publishers."""
        return [self._clock, self._result, *self._signal_publishers, *self._state_publishers]

    def are_heard(self, recorders: int) -> bool:
        """Whether a policy hears the state, and ``recorders`` more hear everything."""
        state = all(p.get_subscription_count() > recorders for p in self._state_publishers)
        others = [self._clock, *self._signal_publishers]
        return state and all(p.get_subscription_count() >= recorders for p in others)

    @property
    def lost(self) -> int:
        """How many states the faults lost."""
        return sum(link.counts.dropped for link, _ in self._links)

    def publish(self, frame: Frame, now_ns: int) -> bool:
        """Send all that became known at one instant; say whether a state went out.

        The state goes last, since it asks for an answer, and the latched streams that are part of
        it have arrived by then. Faults concern only the state.

        Args:
            frame: The instant.
            now_ns: Time on the clock of the faults, which never goes back.
        """
        self._clock.publish(Clock(clock=time_message(frame.stamp_ns)))
        if frame.transition is None:
            for output in self._latched:
                output.publish(frame.observation, frame.stamp_ns)
            if self._lockstep:
                latched = [output.publisher for output in self._latched]
                wait_for_delivery(latched, _DELIVERY_TIMEOUT_S)
        else:
            for name, signal in self._signals.items():
                signal.publish(getattr(frame.transition, name))
        for link, _ in self._links:
            link.send(frame.observation, frame.stamp_ns, now_ns)
        sent = self.deliver(now_ns)
        if frame.result is not None:
            self._result.publish(String(data=frame.result.to_json()))
        return sent

    def deliver(self, now_ns: int) -> bool:
        """Send the states that are due; say whether there were any."""
        sent = False
        for link, outputs in self._links:
            due = list(link.due(now_ns))
            # In lockstep each state asks for one answer, and there can only be one.
            for _, values, stamp_ns in due[-1:] if self._lockstep else due:
                self._asked, sent = (values, stamp_ns), True
                for output in outputs:
                    output.publish(values, stamp_ns)
        return sent

    def repeat(self) -> None:
        """Send the last state again, and thereby ask again for its command."""
        if self._asked is not None:
            for output in self._live:
                output.publish(*self._asked)

    @property
    def _signal_publishers(self) -> list[Publisher]:
        return [signal.publisher for signal in self._signals.values()]

    @property
    def _state_publishers(self) -> list[Publisher]:
        return [output.publisher for output in (*self._latched, *self._live)]
