"""How a control loop stands, in the form that ROS tools show (``/diagnostics``, REP-107)."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.node import Node

from dql_core.runtime.controller import State
from dql_ros.loop_statistics import LoopSummary

_LEVELS = {
    State.WAITING.value: DiagnosticStatus.WARN,
    State.STALE.value: DiagnosticStatus.ERROR,
    State.FAULT.value: DiagnosticStatus.ERROR,
}


def loop_status(
    node: Node,
    state: str,
    reason: str,
    summary: LoopSummary,
    guard_counts: dict[str, int],
    missed_ticks: int,
) -> Any:
    """Return the ``diagnostic_msgs/msg/DiagnosticStatus`` of a control loop."""
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
    for guard, count in guard_counts.items():
        values[f"guard {guard}"] = str(count)
    return DiagnosticStatus(
        level=_LEVELS.get(state, DiagnosticStatus.OK),
        name=f"{node.get_name()}: control loop",
        message=reason or state,
        hardware_id=node.get_fully_qualified_name(),
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
