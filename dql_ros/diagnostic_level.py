"""How bad something is, as ``/diagnostics`` tells it."""

from __future__ import annotations

from enum import IntEnum


class Level(IntEnum):
    """The levels of ``diagnostic_msgs/msg/DiagnosticStatus``."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3
