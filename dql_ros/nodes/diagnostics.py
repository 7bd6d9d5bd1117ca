"""How a control loop stands, in the form that ROS tools show (``/diagnostics``, REP-107)."""

from __future__ import annotations

import json
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import String

from dql_core.runtime.controller import State
from dql_ros.loop_statistics import LoopSummary
from dql_ros.nodes.interfaces import reliable

_LEVELS = {
    State.WAITING.value: DiagnosticStatus.WARN,
    State.STALE.value: DiagnosticStatus.ERROR,
    State.FAULT.value: DiagnosticStatus.ERROR,
}


class LoopReporter:
    """Tells the state of a control loop: on ``~/status``, on ``/diagnostics`` and in the log.

    Attributes:
        told_state: The state that was told last.
    """

    def __init__(self, node: Node) -> None:
        """Open the topics on ``node``."""
        self.told_state = ""
        self._node = node
        self._status = node.create_publisher(String, "~/status", reliable(1, latched=True))
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(10))

    def tell(
        self,
        state: str,
        reason: str,
        summary: LoopSummary,
        guard_counts: dict[str, int],
        missed_ticks: int,
    ) -> None:
        """Publish how the loop stands; log it if it stands otherwise than before.

        Args:
            state: The controller's state, or ``inactive``.
            reason: Why, if something is wrong.
            summary: The last ticks in figures.
            guard_counts: `Controller.counts`.
            missed_ticks: Ticks that were left out.
        """
        if state != self.told_state:
            self.told_state = state
            self._log(state, reason)
        self._status.publish(String(data=json.dumps({"state": state, "reason": reason})))
        values = _values(state, summary, guard_counts, missed_ticks)
        status = DiagnosticStatus(
            level=_LEVELS.get(state, DiagnosticStatus.OK),
            name=f"{self._node.get_name()}: control loop",
            message=reason or state,
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

    def _log(self, state: str, reason: str) -> None:
        # Two calls, since rclpy raises where one place logs with different severities.
        if _LEVELS.get(state) == DiagnosticStatus.ERROR:
            self._node.get_logger().error(f"{state}: {reason}")
        else:
            self._node.get_logger().info(state)


def _values(
    state: str, summary: LoopSummary, guard_counts: dict[str, int], missed_ticks: int
) -> dict[str, Any]:
    values = {
        "state": state,
        "ticks": str(summary.ticks),
        "missed ticks": str(missed_ticks),
        "rate (Hz)": f"{summary.rate_hz:.3f}",
        "inference p50 (ms)": f"{summary.inference_p50_ms:.3f}",
        "inference p99 (ms)": f"{summary.inference_p99_ms:.3f}",
    }
    for stream, age_s in summary.ages_s.items():
        values[f"age of {stream} (s)"] = "never came" if age_s is None else f"{age_s:.4f}"
    return values | {f"guard {guard}": str(count) for guard, count in guard_counts.items()}
