"""What nodes told of themselves on ``/diagnostics`` during a run; knows no ROS.

How bad something is, as ``/diagnostics`` tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """The levels of ``diagnostic_msgs/msg/DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


LEVELS = tuple(level.name.lower() for level in Level)


@dataclass(frozen=True)
class Report:
    """One status that a node told.

    Attributes:
        name: Name of the status, ``node: component``.
        time_s: When it was heard, in seconds since the run began.
        level: A `Level`, unless the node tells another number.
        message: What is wrong, or the node's state.
        values: What else it told, by key.
    """

    name: str
    time_s: float
    level: int
    message: str
    values: Mapping[str, str]

    def number(self, key: str) -> float | None:
        """Return the value of ``key`` as a number; ``None`` if there is none."""
        try:
            return float(self.values[key])
        except (KeyError, ValueError):
            return None

    @property
    def has_begun(self) -> bool:
        """Whether the node had acted by then; one that counts neither ticks nor steps had."""
        return 0 not in (self.number("ticks"), self.number("steps"))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready form; what is a number becomes one."""
        numbers = {key: self.number(key) for key in self.values}
        values = {
            key: value if numbers[key] is None else _whole(numbers[key])
            for key, value in self.values.items()
        }
        level = LEVELS[self.level] if self.level < len(LEVELS) else str(self.level)
        return {"level": level, "message": self.message, "values": values}


@dataclass
class DiagnosticsLog:
    """All reports of a run.

    Attributes:
        reports: In the order in which they were heard.
    """

    reports: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Take note of a report."""
        self.reports.append(report)

    @property
    def last(self) -> dict[str, Report]:
        """The last report of each name."""
        return {report.name: report for report in self.reports}

    def of_node(self, node: str) -> list[Report]:
        """Return the reports of one node, in order."""
        return [report for report in self.reports if report.name.startswith(f"{node}: ")]

    def worst(self, node: str) -> Report | None:
        """Return the first of a node's reports with its highest level; ``None`` if it was well.

        What it said before it first acted does not count: everyone waits at the beginning.
        """
        reports = self.of_node(node)
        began = next((i for i, report in enumerate(reports) if report.has_begun), len(reports))
        worst = max(reports[began:], key=lambda report: report.level, default=None)
        return worst if worst is not None and worst.level else None


def _whole(number: float | None) -> float | int | None:
    return int(number) if number is not None and number.is_integer() else number
