"""How a control loop stands, on ``~/status`` and ``/diagnostics`` and in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.diagnostic_level import Level
from dql_ros.loop_health import Health
from dql_ros.loop_statistics import LoopSummary, Spread
from dql_ros.nodes.diagnostics_topic import DiagnosticsTopic
from dql_ros.nodes.interfaces import reliable

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
        self._diagnostics = DiagnosticsTopic(node, "control loop")

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
        self._diagnostics.tell(health.level, health.message, values)

    def close(self) -> None:
        """Close the topics."""
        self._node.destroy_publisher(self._status)
        self._diagnostics.close()

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
