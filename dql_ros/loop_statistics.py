"""What a control loop tells of itself: rate, ages, inference times."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from dql_core.runtime.controller import Command
from dql_core.streams import Observation

_WINDOW = 1000  # ticks


@dataclass(frozen=True)
class LoopSummary:
    """The last ticks in figures.

    Attributes:
        ticks: How many ticks there were since the start.
        rate_hz: Mean rate over the last ticks; 0 before the second.
        ages_s: Age of each stream's newest value at the last tick; ``None`` if it never came.
        inference_p50_ms: Median time of inference; 0 before the first.
        inference_p99_ms: Its 99th percentile.
        command: What the last tick decided.
    """

    ticks: int
    rate_hz: float
    ages_s: dict[str, float | None]
    inference_p50_ms: float
    inference_p99_ms: float
    command: Command | None


class LoopStatistics:
    """Collects ticks on one thread, to be summarised on another."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lock = threading.Lock()
        self._ticks = 0
        self._times_ns: deque[int] = deque(maxlen=_WINDOW)
        self._inference_ns: deque[int] = deque(maxlen=_WINDOW)
        self._ages_ns: dict[str, int | None] = {}
        self._command: Command | None = None

    def add(self, steady_ns: int, observation: Observation, command: Command) -> None:
        """Take note of the tick that ended at ``steady_ns``."""
        with self._lock:
            self._ticks += 1
            self._times_ns.append(steady_ns)
            self._ages_ns = observation.ages_ns
            self._command = command
            if command.inference_ns is not None:
                self._inference_ns.append(command.inference_ns)

    def summary(self) -> LoopSummary:
        """Return the figures."""
        with self._lock:
            ticks, command, ages_ns = self._ticks, self._command, self._ages_ns
            times_ns, inference_ns = tuple(self._times_ns), tuple(self._inference_ns)
        span_ns = times_ns[-1] - times_ns[0] if times_ns else 0
        p50, p99 = np.percentile(inference_ns, (50, 99)) / 1e6 if inference_ns else (0.0, 0.0)
        return LoopSummary(
            ticks=ticks,
            rate_hz=(len(times_ns) - 1) / span_ns * 1e9 if span_ns else 0.0,
            ages_s={name: None if age is None else age / 1e9 for name, age in ages_ns.items()},
            inference_p50_ms=float(p50),
            inference_p99_ms=float(p99),
            command=command,
        )
