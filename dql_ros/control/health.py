"""Whether a control loop is well: its figures, and its status in a sentence; knows no ROS."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.controller import Command, State
from dql_core.streams import Observation
from dql_ros.diagnostics import Level, Status

_WINDOW = 1000  # ticks
INACTIVE = "inactive"
TO_CONTINUE = "to continue, release ~/stop (send false) and call ~/reset_stop"
# Any other state is an error.
_LEVELS = {
    State.RUNNING.value: Level.OK,
    INACTIVE: Level.OK,
    State.WAITING.value: Level.WARN,
    State.PAUSED.value: Level.WARN,
    State.TAKEOVER.value: Level.WARN,
}
UNABLE = {State.WAITING, State.STALE, State.FAULT}
_TAKEOVER = "takeover: a person commands the robot, the policy yields"
_ASKED_FOR = {
    State.STOPPED.value: f"stopped by ~/stop: the safe command is sent; {TO_CONTINUE}",
    State.PAUSED.value: "paused: the safe command is sent; to continue, call ~/resume",
}


class LoopStatistics:
    """Collects ticks on one thread, to be reported on another.

    Attributes:
        command: What the last tick decided; ``None`` before the first.
    """

    def __init__(self, period_ns: int | None = None) -> None:
        """Begin with nothing.

        Args:
            period_ns: What the time between ticks should be, in nanoseconds; ``None`` in
                lockstep, where the simulator decides.
        """
        self._lock = threading.Lock()
        self._period_ns = period_ns
        self.clear()

    def clear(self) -> None:
        """Begin anew, as when a node is activated."""
        with self._lock:
            self.command: Command | None = None
            self._ticks = 0
            self._times_ns: deque[int] = deque(maxlen=_WINDOW)
            self._inference_ns: deque[int] = deque(maxlen=_WINDOW)
            self._latency_ns: deque[int] = deque(maxlen=_WINDOW)
            self._ages_ns: dict[str, int | None] = {}

    def add(self, begun_ns: int, observation: Observation, command: Command) -> None:
        """Take note of the tick that began at ``begun_ns`` on the steady clock."""
        with self._lock:
            self.command = command
            self._ticks += 1
            self._times_ns.append(begun_ns)
            self._ages_ns = observation.ages_ns
            if command.inference_ns is not None:
                self._inference_ns.append(command.inference_ns)

    def add_latency(self, latency_ns: int) -> None:
        """Take note of how old the newest state was when its command was published."""
        with self._lock:
            self._latency_ns.append(latency_ns)

    def is_behind(self, state: str) -> bool:
        """Whether the tick that led to ``state`` is not over, so that its reason is not known."""
        acted = {State.RUNNING, State.TAKEOVER}
        return state in UNABLE and self.command is not None and self.command.state in acted

    def figures(self) -> dict[str, float | None]:
        """Return figures of the last ticks by the names that the diagnostics give them.

        Zeros stand for what was not measured, ``None`` for the age of a stream that never came.
        """
        with self._lock:
            ticks, ages_ns = self._ticks, self._ages_ns
            times_ns, inference_ns = tuple(self._times_ns), tuple(self._inference_ns)
            latency_ns = tuple(self._latency_ns)
        span_ns = times_ns[-1] - times_ns[0] if times_ns else 0
        jitter_ns = () if self._period_ns is None else np.abs(np.diff(times_ns) - self._period_ns)
        p50, p99, largest = _percentiles_ms(jitter_ns)
        figures: dict[str, float | None] = {
            "ticks": ticks,
            "rate (Hz)": (len(times_ns) - 1) / span_ns * 1e9 if span_ns else 0.0,
            "tick jitter p50 (ms)": p50,
            "tick jitter p99 (ms)": p99,
            "tick jitter max (ms)": largest,
        }
        for name, values_ns in (("inference", inference_ns), ("state to command", latency_ns)):
            p50, p99, _ = _percentiles_ms(values_ns)
            figures |= {f"{name} p50 (ms)": p50, f"{name} p99 (ms)": p99}
        ages = {name: None if age is None else age / 1e9 for name, age in ages_ns.items()}
        return figures | {f"age of {name} (s)": age_s for name, age_s in ages.items()}


def _percentiles_ms(values_ns: Sequence[int] | NDArray[np.int64]) -> tuple[float, float, float]:
    """Median, 99th percentile and largest value in milliseconds."""
    if not len(values_ns):
        return 0.0, 0.0, 0.0
    p50, p99, largest = np.percentile(values_ns, (50, 99, 100)) / 1e6
    return float(p50), float(p99), float(largest)


class LoopHealth:
    """Judges a loop by its state and by what its guards did since the last judgement."""

    def __init__(self) -> None:
        self._counts: Mapping[str, int] = {}

    def status(
        self,
        state: str,
        fault: str,
        counts: Mapping[str, int],
        remarks: list[str],
        danger: str = "",
        notes: Sequence[str] = (),
    ) -> Status:
        """Return the status of the loop.

        Args:
            state: The controller's state, or ``inactive``.
            fault: Why no action is sent, if one should be; or why the node has given up.
            counts: How often each guard has tripped, and other incidents, by name.
            remarks: What else is wrong, a clause each.
            danger: What is an error in any state; empty if nothing is.
            notes: What else is to be said and is nothing wrong, a clause each.
        """
        before, self._counts = self._counts, dict(counts)
        said = _TAKEOVER if state == State.TAKEOVER.value else state
        level, clauses = _LEVELS.get(state, Level.ERROR), [said]
        if state in _ASKED_FOR:
            clauses, remarks = [_ASKED_FOR[state]], []
        elif fault:
            level = Level.WARN if level is Level.WARN else Level.ERROR
            clauses = [fault]
        else:
            if state != INACTIVE and (incidents := _incidents(before, counts)):
                remarks = [*remarks, f"since the last report: {incidents}"]
            level = max(level, Level.WARN if remarks else Level.OK)
        message = "; ".join([*clauses, *remarks, *notes])
        if danger and danger not in message:
            return Status(Level.ERROR, state, f"{danger}; {message}")
        return Status(level, state, message)


def _incidents(before: Mapping[str, int], counts: Mapping[str, int]) -> str:
    new = {name: count - before.get(name, 0) for name, count in counts.items()}
    return ", ".join(f"{name.replace('_', ' ')} {n} times" for name, n in new.items() if n > 0)
