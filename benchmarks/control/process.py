"""What the kernel tells of another process."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def process_memory_mb(pid: int, key: str = "VmRSS") -> float:
    """Return a process's resident memory now (VmRSS) or at its peak (VmHWM), in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split(f"{key}:")[1].split()[0]) / 1024, 1)


def open_files(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def cpu_s(pid: int) -> float:
    """Return how long a process has computed so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
