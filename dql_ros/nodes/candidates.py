"""For looking at: the actions that the policy chose from, and what the critic thinks of them."""

from __future__ import annotations

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

from dql_core.runtime.policy import Decision
from dql_ros.nodes.interfaces import reliable


class CandidatePublisher:
    """Publishes the newest decision's candidates at a limited rate, off the control thread.

    ``~/candidates`` is a Float64MultiArray of K rows: the A numbers of an action, then its Q.

    Attributes:
        newest: The newest decision; set by the control thread.
    """

    def __init__(self, node: Node, rate_hz: float) -> None:
        """Publish at most ``rate_hz`` times a second."""
        self.newest: Decision | None = None
        self._node = node
        self._publisher = node.create_publisher(Float64MultiArray, "~/candidates", reliable(1))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(1.0 / rate_hz, self._publish, clock=steady)

    def close(self) -> None:
        """Close the topic."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _publish(self) -> None:
        decision, self.newest = self.newest, None
        if decision is None:
            return
        table = np.column_stack([decision.candidates, decision.q_values]).astype(np.float64)
        message = Float64MultiArray(data=table.ravel().tolist())
        rows, columns = table.shape
        message.layout.dim = [
            MultiArrayDimension(label="candidate", size=rows, stride=table.size),
            MultiArrayDimension(label="action and Q", size=columns, stride=columns),
        ]
        self._publisher.publish(message)
