"""What a node tells of itself on ``/diagnostics``, which every node publishes alike (REP-107)."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from dql_ros.diagnostic_level import Level
from dql_ros.nodes.interfaces import reliable

_DEPTH = 10


class DiagnosticsTopic:
    """Publishes one status of a node.

    Attributes:
        publisher: Of the topic.
    """

    def __init__(self, node: Node, subject: str) -> None:
        """Open the topic.

        Args:
            node: Whose status it is.
            subject: What of the node it tells; the status is named ``NODE: SUBJECT``.
        """
        self._node = node
        self._subject = subject
        self.publisher = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(_DEPTH))

    def tell(self, level: Level, text: str, values: Mapping[str, str]) -> None:
        """Publish how things stand, with figures by name."""
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"{self._node.get_name()}: {self._subject}",
            message=text,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self.publisher.publish(message)

    def close(self) -> None:
        """Close the topic."""
        self._node.destroy_publisher(self.publisher)
