"""How a recording stands, on ``~/status`` and ``/diagnostics``."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from std_msgs.msg import String

from dql_ros.diagnostic_level import Level
from dql_ros.nodes.diagnostics_topic import DiagnosticsTopic
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
        remarks: What is odd about a topic that is recorded.
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
    remarks: dict[str, str]

    @property
    def is_imperfect(self) -> bool:
        """Whether the recording lacks anything, or has what nobody expects."""
        is_incomplete = any(self.lost.values()) or self.late or self.dropped or self.refused
        return bool(is_incomplete or self.remarks)


class RecorderReporter:
    """Tells how the recording stands."""

    def __init__(self, node: Node) -> None:
        self._told = ""
        self._status = node.create_publisher(String, "~/status", reliable(1, latched=True))
        self._diagnostics = DiagnosticsTopic(node, "recording")

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
        self._diagnostics.tell(*_judged(standing), _values(standing))


def _judged(standing: Standing) -> tuple[Level, str]:
    if standing.state == FAILED:
        return Level.ERROR, standing.reason
    if standing.is_imperfect:
        told = [f"{label} {text}" for label, text in standing.remarks.items()]
        return Level.WARN, "; ".join([f"{standing.state}, not everything", *told])
    return Level.OK, standing.state


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
    values |= {f"not recorded: {topic}": why for topic, why in standing.refused.items()}
    return values | {f"remark on {topic}": text for topic, text in standing.remarks.items()}
