"""What one check of a machine came to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """How bad it is: WARNING works, but worse than it could; FAILURE does not work."""

    FINE = "fine"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        check: What was looked at.
        verdict: How it is.
        found: What was found, as a clause.
        remedy: How to mend it; empty where all is fine.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return a JSON-ready form."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "found": self.found,
            "remedy": self.remedy,
        }


def fine(check: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check, Verdict.FINE, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding of something that works, but worse than it could."""
    return Finding(check, Verdict.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(check, Verdict.FAILURE, found, remedy)
