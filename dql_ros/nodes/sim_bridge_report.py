"""What the simulation bridge tells of itself on ``/diagnostics`` and in the log."""

from __future__ import annotations

from collections.abc import Mapping

from rclpy.node import Node

from dql_ros.diagnostic_level import Level
from dql_ros.nodes.diagnostics_topic import DiagnosticsTopic
from dql_ros.sim_standing import Standing

_LOG_PERIOD_S = 10.0


class BridgeReporter:
    """Tells how the simulation stands: once a second, and at once where that is news.

    Attributes:
        publisher: Of ``/diagnostics``.
    """

    def __init__(self, node: Node) -> None:
        """Open the topic on ``node``."""
        self._told = ""
        self._listeners = 0
        self._node = node
        self._diagnostics = DiagnosticsTopic(node, "simulation")
        self.publisher = self._diagnostics.publisher

    def is_due(self, standing: Standing) -> bool:
        """Whether there is news, or somebody new who has heard nothing yet."""
        return standing.state != self._told or self._count_listeners() > self._listeners

    def tell(self, standing: Standing, values: Mapping[str, str]) -> None:
        """Publish how the simulation stands, with figures; log it if it is new."""
        if standing.state != self._told:
            self._told = standing.state
            self._log(standing)
        elif standing.state == "behind":
            self._node.get_logger().warning(
                standing.reason, throttle_duration_sec=_LOG_PERIOD_S, skip_first=True
            )
        self._listeners = self._count_listeners()
        self._diagnostics.tell(standing.level, standing.reason, values)

    def _count_listeners(self) -> int:
        return int(self.publisher.get_subscription_count())

    def _log(self, standing: Standing) -> None:
        # One call for each severity, since rclpy raises where one place logs with several.
        if standing.level is Level.ERROR:
            self._node.get_logger().error(standing.reason)
        elif standing.level is Level.WARN:
            self._node.get_logger().warning(standing.reason)
        else:
            self._node.get_logger().info(standing.reason)
