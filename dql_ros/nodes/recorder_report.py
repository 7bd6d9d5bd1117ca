"""How a recording stands, on ``~/status`` and ``/diagnostics`` (REP-107)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.nodes.interfaces import reliable

STOPPED, RECORDING, FAILED = "stopped", "recording", "failed"


@dataclass(frozen=True)
class Standing:
    """How a recording stands.

    Attributes:
        state: ``stopped``, ``recording`` or ``failed``.
        reason: Why it has failed.
        bag: The bag that is being recorded, or was last.
        size_bytes: Bytes in the file that is being written.
        received: Messages received of each topic.
        lost: Messages lost of each topic.
        late: Messages that came too late to be written in order; only with simulated time.
        dropped: Messages from before the first clock; only with simulated time.
        unheard: Topics without a publisher so far.
        refused: Why a topic is not recorded although it is published.
    """

    state: str
    reason: str
    bag: Path | None
    size_bytes: int
    received: dict[str, int]
    lost: dict[str, int]
    late: int
    dropped: int
    unheard: list[str]
    refused: dict[str, str]

    @property
    def is_imperfect(self) -> bool:
        """Whether the recording lacks anything."""
        return bool(any(self.lost.values()) or self.late or self.dropped or self.refused)


class RecorderReporter:
    """Tells how the recording stands."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._told = ""
        self._status = node.create_publisher(String, "~/status", reliable(1, latched=True))
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(10))

    def tell(self, standing: Standing) -> None:
        """Publish it; ``~/status`` only if it has changed."""
        status = json.dumps(
            {
                "state": standing.state,
                "bag": "" if standing.bag is None else str(standing.bag),
                "reason": standing.reason,
            }
        )
        if status != self._told:
            self._told = status
            self._status.publish(String(data=status))
        message = DiagnosticArray(status=[self._diagnostic(standing)])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _diagnostic(self, standing: Standing) -> DiagnosticStatus:
        level, text = DiagnosticStatus.OK, standing.state
        if standing.state == FAILED:
            level, text = DiagnosticStatus.ERROR, standing.reason
        elif standing.is_imperfect:
            level, text = DiagnosticStatus.WARN, f"{standing.state}, not everything"
        return DiagnosticStatus(
            level=level,
            name=f"{self._node.get_name()}: recording",
            message=text,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in _values(standing).items()],
        )


def _values(standing: Standing) -> dict[str, str]:
    values = {
        "state": standing.state,
        "bag": "" if standing.bag is None else str(standing.bag),
        "file size (MB)": f"{standing.size_bytes / 1e6:.3f}",
        "messages received": str(sum(standing.received.values())),
        "messages lost": str(sum(standing.lost.values())),
        "messages late": str(standing.late),
        "messages dropped before the first clock": str(standing.dropped),
        "topics without a publisher": ", ".join(standing.unheard),
    }
    if standing.bag is not None and standing.bag.parent.is_dir():
        values["disk free (MB)"] = f"{shutil.disk_usage(standing.bag.parent).free / 1e6:.0f}"
    for topic, count in standing.received.items():
        values[f"received of {topic}"] = str(count)
    for topic, count in standing.lost.items():
        values[f"lost of {topic}"] = str(count)
    return values | {f"not recorded: {topic}": why for topic, why in standing.refused.items()}
