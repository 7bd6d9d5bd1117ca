"""What a measured node takes down at each tick, and what such samples say."""

from __future__ import annotations

import os
import time
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLES_VARIABLE = "DQL_BENCHMARK_SAMPLES"
COLUMNS = ("begun", "cpu", "age", "latency", "inference", "running")
NONE = -1
# The first ticks after a start are left out: memory is touched, discovery still goes on.
SETTLING_NS = 1_000_000_000
Samples = NDArray[np.int64]


class SampleLog:
    """Rows of nanoseconds, kept in a flat array that the garbage collector need not look at."""

    def __init__(self) -> None:
        self._values = array("q")

    def add(
        self, begun_ns: int, age_ns: int = NONE, inference_ns: int = NONE, running: int = 1
    ) -> None:
        """Take note of a tick that began at ``begun_ns`` on the steady clock."""
        row = (begun_ns, time.process_time_ns(), age_ns, NONE, inference_ns, running)
        self._values.extend(row)

    def add_latency(self, latency_ns: int) -> None:
        """Take note of the last tick's time from the state's stamp to the command's departure."""
        self._values[-3] = latency_ns

    def save(self) -> None:
        """Write the rows to the file that the environment names."""
        rows = np.array(self._values, dtype=np.int64).reshape(-1, len(COLUMNS))
        with Path(os.environ[SAMPLES_VARIABLE]).open("wb") as file:
            np.save(file, rows)


def load(path: Path, seconds: float) -> Samples:
    """Return so many seconds of the rows of a file, after the first ones."""
    rows: Samples = np.load(path, allow_pickle=False)
    since = rows[:, 0] - rows[0, 0] - SETTLING_NS
    settled: Samples = rows[(since >= 0) & (since < seconds * 1e9)]
    return settled


def column(rows: Samples, name: str) -> Samples:
    """Return one column, without the ticks that have nothing there."""
    values: Samples = rows[:, COLUMNS.index(name)]
    present: Samples = values[values != NONE]
    return present


def jitter_ns(rows: Samples, period_ns: int) -> Samples:
    """Return how far the time between ticks was from the period."""
    off: Samples = np.abs(np.diff(column(rows, "begun")) - period_ns)
    return off


def missed(rows: Samples, period_ns: int) -> int:
    """Return how many ticks were due between the first and the last one, and did not come."""
    begun = column(rows, "begun")
    return max(0, round(int(begun[-1] - begun[0]) / period_ns) + 1 - len(begun))


def p99_of_all_ms(rows: Samples, name: str) -> float | None:
    """Return the 99th percentile over all ticks, of which those with nothing took for ever.

    Without this, what is dropped for being late would make the rest look fast. ``None`` says that
    more than one tick in a hundred has nothing.
    """
    values = rows[:, COLUMNS.index(name)].astype(float)
    values[values == NONE] = np.inf
    p99_ns = float(np.percentile(values, 99, method="higher"))
    return round(p99_ns / 1e6, 3) if np.isfinite(p99_ns) else None


def spread_ms(name: str, values_ns: Samples) -> dict[str, float]:
    """Return median, 99th percentile and maximum in milliseconds, by name."""
    if not len(values_ns):
        return {}
    keys = (f"{name}_p50_ms", f"{name}_p99_ms", f"{name}_max_ms")
    values = np.percentile(values_ns, (50, 99, 100)) / 1e6
    return {key: round(float(value), 3) for key, value in zip(keys, values, strict=True)}
