"""The status that a node reports on ``/diagnostics``, and all reports of a run; knows no ROS."""

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


@dataclass(frozen=True)
class Status:
    """How a node's work goes.

    Attributes:
        level: How bad that is.
        state: A word, such as ``running``.
        message: Why, in a sentence; the state itself if there is nothing to add.
    """

    level: Level
    state: str
    message: str


@dataclass(frozen=True)
class Report:
    """One status as it was received.

    Attributes:
        name: Name of the status, ``node: component``.
        time_s: When it was received, in seconds since the run began.
        level: A `Level`, unless the node reports another number.
        message: What is wrong, or the node's state.
        values: The other values, by key.
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
        values: dict[str, Any] = dict(self.values)
        for key in values:
            if (number := self.number(key)) is not None:
                values[key] = int(number) if number.is_integer() else number
        is_known = self.level in list(Level)
        level = Level(self.level).name.lower() if is_known else str(self.level)
        return {"level": level, "message": self.message, "values": values}


@dataclass
class DiagnosticsLog:
    """All reports of a run.

    Attributes:
        reports: In the order in which they were received.
    """

    reports: list[Report] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Report]:
        """The last report of each name."""
        return {report.name: report for report in self.reports}

    def of_node(self, node: str) -> list[Report]:
        """Return the reports of one node, in order."""
        return [report for report in self.reports if report.name.startswith(f"{node}: ")]

    def last_of(self, node: str) -> Report | None:
        """Return a node's last report; ``None`` if there is none."""
        return next(iter(self.of_node(node)[::-1]), None)

    def worst(self, node: str) -> Report | None:
        """Return the first of a node's reports with its highest level; ``None`` if it was well.

        Reports from before it first acted do not count: every node waits at the beginning.
        """
        reports = self.of_node(node)
        began = next((i for i, report in enumerate(reports) if report.has_begun), len(reports))
        worst = max(reports[began:], key=lambda report: report.level, default=None)
        return worst if worst is not None and worst.level else None
