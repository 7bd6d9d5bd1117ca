"""What the simulation bridge tells of itself on ``/diagnostics`` (REP-107) and in the log."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from dql_ros.nodes.interfaces import reliable
from dql_ros.sim_standing import Standing

_LOG_PERIOD_S = 10.0
_LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warning": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
}


class BridgeReporter:
    """Tells how the simulation stands: once a second, and at once when that changes.

    Attributes:
        told: The state that was told last.
    """

    def __init__(self, node: Node) -> None:
        """Open the topic on ``node``."""
        self.told = ""
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(10))

    def tell(self, standing: Standing, values: Mapping[str, str]) -> None:
        """Publish how the simulation stands, with figures; log it if it is new."""
        if standing.state != self.told:
            self.told = standing.state
            self._log(standing)
        elif standing.state == "behind":
            self._node.get_logger().warning(
                standing.reason, throttle_duration_sec=_LOG_PERIOD_S, skip_first=True
            )
        status = DiagnosticStatus(
            level=_LEVELS[standing.level],
            name=f"{self._node.get_name()}: simulation",
            message=standing.reason,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _log(self, standing: Standing) -> None:
        # One call for each severity, since rclpy raises where one place logs with several.
        if standing.level == "error":
            self._node.get_logger().error(standing.reason)
        elif standing.level == "warning":
            self._node.get_logger().warning(standing.reason)
        else:
            self._node.get_logger().info(standing.reason)
