"""What the lines of a benchmark tell of the machine, and how they are kept."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
IMAGES = RESULTS.parents[1] / "docs" / "images"

Line = dict[str, Any]


def machine() -> Line:
    """Return what a line tells of where it was measured."""
    return {
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "commit": commit(),
    }


def commit() -> str:
    """Return the commit that is measured; with a plus if files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(
        command, cwd=RESULTS, capture_output=True, text=True, check=False
    ).stdout.strip()
    return found or "unknown"


def memory_mb(key: str) -> int:
    """Resident memory of this process now (VmRSS) or at its peak (VmHWM), in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{key}:")[1].split()[0]) // 1024


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy in a process of its own."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def show(line: Line) -> Line:
    """Print a line and return it."""
    print(json.dumps(line), flush=True)
    return line


def keep(name: str, lines: Sequence[Line], table: str) -> None:
    """Write the lines to ``results/<name>.jsonl`` and their table to ``results/<name>.md``.

    Args:
        name: Of the benchmark.
        lines: As printed.
        table: Markdown with heading, command and table.
    """
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (RESULTS / f"{name}.jsonl").write_text(text)
    (RESULTS / f"{name}.md").write_text(table)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def where(lines: Sequence[Line]) -> str:
    """Say in one line where and of what commit lines were measured."""
    loads = [line["load"] for line in lines]
    last = lines[-1]
    return (
        f"Commit {last['commit']}, Python {last['python']}, {last['cpus']} cores, load "
        f"{min(loads)} to {max(loads)} with the benchmark itself."
    )
