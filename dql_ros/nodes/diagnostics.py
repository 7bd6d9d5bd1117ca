"""How a control loop stands, in the form that ROS tools show (``/diagnostics``, REP-107)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.loop_health import Health, Level
from dql_ros.loop_statistics import LoopSummary, Spread
from dql_ros.nodes.interfaces import reliable

_LEVELS = {
    Level.OK: DiagnosticStatus.OK,
    Level.WARN: DiagnosticStatus.WARN,
    Level.ERROR: DiagnosticStatus.ERROR,
}
# A state that comes and goes is logged no more often; in seconds.
_LOG_PERIOD_S = 1.0


class LoopReporter:
    """Tells the state of a control loop: on ``~/status``, on ``/diagnostics`` and in the log.

    Attributes:
        told_state: The state that was told last.
    """

    def __init__(self, node: Node) -> None:
        """Open the topics on ``node``."""
        self.told_state = ""
        self._node = node
        self._logged_at_s: dict[str, float] = {}
        self._status = node.create_publisher(String, "~/status", reliable(1, latched=True))
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(10))

    def tell(self, health: Health, values: Mapping[str, str]) -> None:
        """Publish how the loop stands; log it if it stands otherwise than before.

        Args:
            health: How it stands.
            values: What to tell of it, by name.
        """
        if health.state != self.told_state:
            self.told_state = health.state
            self._log(health)
        reason = "" if health.message == health.state else health.message
        self._status.publish(String(data=json.dumps({"state": health.state, "reason": reason})))
        status = DiagnosticStatus(
            level=_LEVELS[health.level],
            name=f"{self._node.get_name()}: control loop",
            message=health.message,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def close(self) -> None:
        """Close the topics."""
        self._node.destroy_publisher(self._status)
        self._node.destroy_publisher(self._diagnostics)

    def _log(self, health: Health) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_at_s.get(health.state, -_LOG_PERIOD_S) < _LOG_PERIOD_S:
            return
        self._logged_at_s[health.state] = now_s
        line = health.message
        if not line.startswith(health.state):
            line = f"{health.state}: {line}"
        # Two calls, since rclpy raises where one place logs with different severities.
        if health.level is Level.ERROR:
            self._node.get_logger().error(line)
        else:
            self._node.get_logger().info(line)


def loop_values(state: str, summary: LoopSummary) -> dict[str, str]:
    """Return a loop's figures as the text of a diagnostic, by name.

    Args:
        state: The controller's state, or ``inactive``.
        summary: The last ticks in figures.
    """
    values = {
        "state": state,
        "ticks": str(summary.ticks),
        "rate (Hz)": f"{summary.rate_hz:.3f}",
        **_spread("tick jitter", summary.jitter, with_max=True),
        **_spread("inference", summary.inference),
        **_spread("state to command", summary.latency),
    }
    for stream, age_s in summary.ages_s.items():
        values[f"age of {stream} (s)"] = "never came" if age_s is None else f"{age_s:.4f}"
    return values


def _spread(name: str, spread: Spread, *, with_max: bool = False) -> dict[str, str]:
    values = {
        f"{name} p50 (ms)": f"{spread.p50_ms:.3f}",
        f"{name} p99 (ms)": f"{spread.p99_ms:.3f}",
    }
    return values | ({f"{name} max (ms)": f"{spread.max_ms:.3f}"} if with_max else {})
