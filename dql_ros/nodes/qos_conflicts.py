"""Publishers and subscribers that share a topic with this node but cannot meet it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.logging import get_logger
from rclpy.qos import qos_policy_name_from_kind


class QosConflicts:
    """Counts endpoints whose quality of service does not go with this node's, and names them.

    Attributes:
        counts: How many there were, by topic.
    """

    def __init__(self, logger_name: str) -> None:
        """Log to ``logger_name``."""
        self.counts: dict[str, int] = {}
        self._policies: dict[str, str] = {}
        self._logger = get_logger(logger_name)

    @property
    def total(self) -> int:
        """How many there were on all topics."""
        return sum(self.counts.values())

    def listener(self, topic: str) -> Callable[[Any], None]:
        """Return what is to be called with the events of an endpoint of ``topic``."""

        def note(event: Any) -> None:
            self.counts[topic] = event.total_count
            policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
            self._policies[topic] = policy
            self._logger.warning(self.trouble(topic))

        return note

    def trouble(self, topic: str) -> str:
        """What is wrong on a topic, as a clause; empty if nothing is."""
        if not self.counts.get(topic):
            return ""
        return (
            f"{self.counts[topic]} endpoint(s) of '{topic}' have another {self._policies[topic]} "
            f"than the contract's 'qos' and do not reach this node"
        )
