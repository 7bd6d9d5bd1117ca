"""Runs a piece of Python in a process of its own: what crashes there is only a finding here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

TIMEOUT_S = 60.0


class BrokenProcessError(Exception):
    """The process failed; the message is the last line that it wrote, or how it ended."""


def ask_python(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Run this Python with ``arguments`` and return the JSON on the last line of its output.

    Args:
        arguments: Such as ``["-c", code]`` or ``["-m", module]``.
        environment: Environment of the process; this one's by default.
        timeout_s: When it is killed.

    Raises:
        BrokenProcessError: If it fails, says nothing, or takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokenProcessError(f"no answer within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise BrokenProcessError(said[-1] if said else f"ended with code {done.returncode}")
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise BrokenProcessError("gave no answer") from error
