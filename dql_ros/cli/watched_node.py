"""What `dql watch` shows of a node: its reports on /diagnostics, and a policy's candidates."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import qos_profile_sensor_data  # a watcher keeps no publisher waiting
from rclpy.validate_full_topic_name import validate_full_topic_name
from std_msgs.msg import Float64MultiArray

from dql_core.errors import ConfigError, counted
from dql_core.live_page import Chart, Level, Line, Table, View
from dql_ros.diagnostics import Level as Reported
from dql_ros.nodes.base import SPIN_S, ClientNode
from dql_ros.nodes.topics import reliable

ALONG = "s"
# How much of the past is shown.
WINDOW_S = 300.0
# A node reports once a second.
SILENT_S = 3.0
_DEPTH = 100
_DIGITS = 19  # of the largest count of 64 bits
_REPORTS, _ANSWERS, _OTHERS = 1000, 3000, 20
_GUARD, _LAST = "guard ", "last "
# ``inference p99 (ms)``: what, of which one of several numbers, in which unit.
_MEASURED = re.compile(r"(?P<what>.+?)(?: (?P<which>p50|p99|max))? \((?P<unit>[^()]+)\)")
_OF_TOPIC = re.compile(r"(?P<what>[^/]+?) of (?P<which>.+)")


class NodeView(ClientNode):
    """Hears a node; it asks it for nothing, and sends it nothing."""

    def __init__(self, name: str) -> None:
        """Join the environment's ROS domain.

        Args:
            name: Full name of the node, such as ``/policy``.

        Raises:
            ConfigError: If no node can have that name.
            SimulationError: If ROS 2's security does not let it.
        """
        try:
            validate_full_topic_name(name)
        except InvalidTopicNameException as cause:
            raise ConfigError(
                f"{name}: is no folder, nor can a node have that name; name the folder of a run, "
                f"or a node such as /policy"
            ) from cause
        super().__init__(None, "dql_watch")
        self._name = name
        self._begun_s = time.monotonic()
        # Messages come on the thread that spins, the page asks on another one.
        self._lock = threading.Lock()
        self._others: set[str] = set()
        self._level, self._message = 0, ""
        self._values: Mapping[str, str] = {}
        self._heard: deque[tuple[float, Mapping[str, str]]] = deque(maxlen=_REPORTS)
        # When candidates came, and their largest, mean and smallest Q.
        self._q: deque[tuple[float, tuple[float, float, float]]] = deque(maxlen=_ANSWERS)
        self._newest = np.empty((0, 1))
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_report, reliable(_DEPTH)
        )
        self.node.create_subscription(
            Float64MultiArray, f"{name}/candidates", self._on_candidates, qos_profile_sensor_data
        )

    def spin(self) -> None:
        """Hear what comes, until a signal ends it."""
        while True:
            self.spin_once(SPIN_S)

    def __call__(self) -> View:
        """Return what is known now."""
        now_s = time.monotonic()
        with self._lock:
            for past in (self._heard, self._q):
                while past and past[0][0] < now_s - WINDOW_S:
                    past.popleft()
            state, level = self._state(now_s)
            return View(
                title=self._name,
                state=state,
                level=level,
                remarks=self._remarks(now_s),
                facts=[(key, self._values[key]) for key in _FACTS if key in self._values],
                charts=[*self._candidate_charts(now_s), *_measured_charts(self._heard, now_s)],
                tables=self._tables(),
            )

    def _on_report(self, message: Any) -> None:
        with self._lock:
            for status in message.status:
                if status.hardware_id != self._name:
                    if len(self._others) < _OTHERS:
                        self._others.add(status.hardware_id or status.name)
                    continue
                level = status.level
                self._level = level[0] if isinstance(level, bytes) else int(level)
                self._message = status.message
                self._values = {each.key: each.value for each in status.values}
                self._heard.append((time.monotonic(), self._values))

    def _on_candidates(self, message: Any) -> None:
        rows = message.layout.dim[0].size if message.layout.dim else 0
        if rows and message.data and len(message.data) % rows == 0:
            table = np.asarray(message.data, dtype=np.float64).reshape(rows, -1)
            q = table[np.isfinite(table[:, -1]), -1]
            if not q.size:
                return
            with self._lock:
                self._newest = table
                self._q.append(
                    (time.monotonic(), (float(q.max()), float(q.mean()), float(q.min())))
                )

    def _state(self, now_s: float) -> tuple[str, Level]:
        last_s = self._heard[-1][0] if self._heard else self._begun_s
        if now_s - last_s > SILENT_S:
            return f"no report for {now_s - last_s:.0f} s", "error"
        if not self._heard:
            return "waiting for a report", "warn"
        known: dict[int, Level] = {Reported.OK: "ok", Reported.WARN: "warn"}
        return self._message, known.get(self._level, "error")

    def _remarks(self, now_s: float) -> list[str]:
        if not self._values and self._others:
            return [f"Others report: {', '.join(sorted(self._others))}."]
        if not self._values and now_s - self._begun_s > SILENT_S:
            return [f"There is no folder {self._name}; it is taken as the name of a node."]
        if "num_candidates" in self._values and not self._q:
            return [
                "Candidates and Q are shown if the node is started with "
                "--ros-args -p candidates_hz:=2"
            ]
        return []

    def _candidate_charts(self, now_s: float) -> Iterator[Chart]:
        """Yield Q by each number of the newest candidates, and Q over time."""
        if not self._q:
            return
        (at_s, _), newest = self._q[-1], self._newest
        times = [each_s - now_s for each_s, _ in self._q]
        lines = [
            Line(name, times, [values[index] for _, values in self._q]).thinned()
            for index, name in enumerate(("best", "mean", "worst"))
        ]
        yield Chart("Q of the candidates", ALONG, lines)
        q = newest[:, -1].tolist()
        for column in range(newest.shape[1] - 1):
            yield Chart(
                f"Q by action[{column}]",
                f"action[{column}]",
                [
                    Line(
                        f"{counted(len(q), 'candidate')}, {now_s - at_s:.0f} s ago",
                        newest[:, column].tolist(),
                        q,
                    )
                ],
                dots=True,
            )

    def _tables(self) -> list[Table]:
        """Return the guards, and all values that no chart shows."""
        values = self._values
        before = self._heard[0][1] if self._heard else {}
        guards = [key.removeprefix(_GUARD) for key in values if key.startswith(_GUARD)]
        since = f"in the last {WINDOW_S / 60:.0f} min"
        rows = [
            (
                name,
                _integer(values[_GUARD + name]),
                _more(values[_GUARD + name], before.get(_GUARD + name, "")),
                values.get(_LAST + name, ""),
            )
            for name in guards
        ]
        shown = {_GUARD + name for name in guards} | {_LAST + name for name in guards}
        others = [
            (key, value)
            for key, value in values.items()
            if key not in shown and not _MEASURED.fullmatch(key)
        ]
        found = [
            Table("Guards", ("guard", "tripped", since, "what it saw last"), rows),
            Table("Report", ("key", "value"), others),
        ]
        return [table for table in found if table.rows]


_FACTS = ("state", "ticks", "missed ticks", "num_candidates", "back end", "mode")


def _measured_charts(
    heard: Sequence[tuple[float, Mapping[str, str]]], now_s: float
) -> Iterator[Chart]:
    """Yield a chart for what has a unit; numbers of one kind share it."""
    charts: dict[str, dict[str, list[tuple[float, float | None]]]] = {}
    for at_s, values in heard:
        for key, value in values.items():
            if match := _MEASURED.fullmatch(key):
                what, which = match["what"], match["which"] or ""
                if not which and (of := _OF_TOPIC.fullmatch(what)):
                    what, which = of["what"], of["which"]
                lines = charts.setdefault(f"{what} ({match['unit']})", {})
                lines.setdefault(which, []).append((at_s - now_s, _number(value)))
    for title, lines in charts.items():
        yield Chart(
            title,
            ALONG,
            [
                Line(name, [x for x, _ in points], [y for _, y in points]).thinned()
                for name, points in lines.items()
            ],
        )


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _integer(value: str) -> int | str:
    return int(value) if value.isdecimal() and len(value) < _DIGITS else value


def _more(now: str, before: str) -> int | None:
    counts = [_integer(now), _integer(before)]
    last, first = (count if isinstance(count, int) else None for count in counts)
    return None if last is None or first is None else last - first
