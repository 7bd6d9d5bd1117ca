"""The result of one check of a machine, and a process for what may crash while it is checked."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dql_core.process import ChildProcess, ChildProcesses

TIMEOUT_S = 60.0


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
        return {**vars(self), "verdict": self.verdict.value}


def fine(check: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(check, Verdict.FINE, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding of something that works, but worse than it could."""
    return Finding(check, Verdict.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(check, Verdict.FAILURE, found, remedy)


class ProcessError(Exception):
    """The process failed; the message is the last line that it wrote, or how it ended."""


def run_python(
    arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Run this Python with ``arguments`` and return the JSON on the last line of its output.

    Args:
        arguments: Such as ``["-c", code]`` or ``["-m", module]``.
        environment: Environment of the process; this one's by default.
        timeout_s: When it is killed.

    Raises:
        ProcessError: If it fails, says nothing, or takes too long.
    """
    output: list[str] = []

    def start() -> ChildProcess:
        command = [sys.executable, *arguments]
        return ChildProcess(
            "python", command, environment, on_output=lambda line: output.append(line or "")
        )

    with ChildProcesses() as children:
        child = children.add(start)
        if not child.wait(timeout_s):
            child.kill()
            raise ProcessError(f"no answer within {timeout_s:.0f} s")
    if child.exit_code:
        raise ProcessError(child.last_words)
    try:
        return json.loads("".join(output).splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ProcessError("printed no result") from error
