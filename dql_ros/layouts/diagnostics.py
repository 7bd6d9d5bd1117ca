"""What a viewer shows of the policy node itself: its diagnostics, topics and services."""

from __future__ import annotations

from dataclasses import dataclass

from dql_ros.layouts.curves import absolute

TOPIC = "/diagnostics"


@dataclass(frozen=True)
class Diagnosed:
    """The policy node as it names itself in ``/diagnostics``.

    Attributes:
        name: Of its status.
        hardware_id: Of its status.
    """

    name: str
    hardware_id: str


# Plots of the diagnostics' values: title -> keys.
TIMING_PLOTS = {
    "rate (Hz)": ("rate (Hz)",),
    "inference and state to command (ms)": (
        "inference p50 (ms)",
        "inference p99 (ms)",
        "state to command p50 (ms)",
        "state to command p99 (ms)",
    ),
    "tick jitter (ms)": ("tick jitter p50 (ms)", "tick jitter p99 (ms)"),
}
STATE_KEY = "state"


def diagnosed(node: str, namespace: str) -> Diagnosed:
    """Say how the control node ``node`` in ``namespace`` names itself."""
    return Diagnosed(f"{node}: control loop", absolute(node, namespace))
