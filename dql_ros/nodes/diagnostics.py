"""How a control loop stands, on ``~/status`` and ``/diagnostics`` and in the log.

What a node tells of itself on ``/diagnostics``, which every node publishes alike (REP-107).

Watches a control loop from the executor's thread: tells how it stands, and ends what must.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import String

from dql_core.runtime.controller import State
from dql_core.runtime.guard import Guard
from dql_ros.control.health import INACTIVE, Health, HealthJudge, LoopSummary, Spread
from dql_ros.control.ticking import steady_ns
from dql_ros.diagnostics import Level
from dql_ros.nodes.base import ManagedNode
from dql_ros.nodes.control_loop import ControlLoop
from dql_ros.nodes.node_log import NodeLog
from dql_ros.nodes.topics import reliable

# A state that comes and goes is logged no more often; in seconds.
_LOG_PERIOD_S = 1.0
_DEPTH = 10
_PULSE_PERIOD_S = 0.02
_WATCH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
_UNABLE = {State.WAITING, State.STALE, State.FAULT}
# Counted, but not worth a warning: the work itself, and what a policy may ask for at any time.
_UNREMARKABLE = {"published", Guard.WARM_UP.value, Guard.SLEW_LIMITED_ACTION.value}


class LoopReporter:
    """Tells the state of a control loop: on ``~/status``, on ``/diagnostics`` and in the log.

    Attributes:
        reported_state: The state that was told last.
    """

    def __init__(self, node: Node) -> None:
        """Open the topics on ``node``."""
        self.reported_state = ""
        self._node = node
        self._logged_at_s: dict[str, float] = {}
        self._status = node.create_publisher(String, "~/status", reliable(1, latched=True))
        self._diagnostics = DiagnosticsTopic(node, "control loop")

    def report(self, health: Health, values: Mapping[str, str]) -> None:
        """Publish how the loop stands; log it if it stands otherwise than before.

        Args:
            health: How it stands.
            values: What to tell of it, by name.
        """
        if health.state != self.reported_state:
            self.reported_state = health.state
            self._log(health)
        reason = "" if health.message == health.state else health.message
        self._status.publish(String(data=json.dumps({"state": health.state, "reason": reason})))
        self._diagnostics.publish(health.level, health.message, values)

    def close(self) -> None:
        """Close the topics."""
        self._node.destroy_publisher(self._status)
        self._diagnostics.close()

    def _log(self, health: Health) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_at_s.get(health.state, -_LOG_PERIOD_S) < _LOG_PERIOD_S:
            return
        self._logged_at_s[health.state] = now_s
        line = health.message
        if not line.startswith(health.state):
            line = f"{health.state}: {line}"
        # Two calls, since rclpy raises where one place logs with different severities.
        if health.level is Level.ERROR:
            self._node.get_logger().error(line)
        else:
            self._node.get_logger().info(line)


def loop_values(state: str, summary: LoopSummary) -> dict[str, str]:
    """Return a loop's figures as the text of a diagnostic, by name.

    Args:
        state: The controller's state, or ``inactive``.
        summary: The last ticks in figures.
    """
    values = {
        "state": state,
        "ticks": str(summary.ticks),
        "rate (Hz)": f"{summary.rate_hz:.3f}",
        **_spread("tick jitter", summary.jitter, with_max=True),
        **_spread("inference", summary.inference),
        **_spread("state to command", summary.latency),
    }
    for stream, age_s in summary.ages_s.items():
        values[f"age of {stream} (s)"] = "never came" if age_s is None else f"{age_s:.4f}"
    return values


def _spread(name: str, spread: Spread, *, with_max: bool = False) -> dict[str, str]:
    values = {
        f"{name} p50 (ms)": f"{spread.p50_ms:.3f}",
        f"{name} p99 (ms)": f"{spread.p99_ms:.3f}",
    }
    return values | ({f"{name} max (ms)": f"{spread.max_ms:.3f}"} if with_max else {})


class DiagnosticsTopic:
    """Publishes one status of a node.

    Attributes:
        publisher: Of the topic.
    """

    def __init__(self, node: Node, subject: str) -> None:
        """Open the topic.

        Args:
            node: Whose status it is.
            subject: What of the node it tells; the status is named ``NODE: SUBJECT``.
        """
        self._node = node
        self._subject = subject
        self.publisher = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(_DEPTH))

    def publish(self, level: Level, text: str, values: Mapping[str, str]) -> None:
        """Publish how things stand, with figures by name."""
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"{self._node.get_name()}: {self._subject}",
            message=text,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self.publisher.publish(message)

    def close(self) -> None:
        """Close the topic."""
        self._node.destroy_publisher(self.publisher)


class LoopMonitor:
    """Reports once a second, and at once where the state changes."""

    def __init__(self, node: ManagedNode, loop: ControlLoop, facts: Mapping[str, str]) -> None:
        """Begin to watch.

        Args:
            node: The node that the loop belongs to.
            loop: The loop.
            facts: What else to tell in the diagnostics, by name.
        """
        self._node = node
        self._loop = loop
        self._facts = dict(facts)
        self._end_reason = ""
        self._rivals = self._reported_rivals = ""
        self._judge = HealthJudge()
        self._reporter = LoopReporter(node)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers: list[Any] = [
            node.create_timer(_PULSE_PERIOD_S, self._pulse, clock=steady),
            node.create_timer(_WATCH_PERIOD_S, self._watch, clock=steady),
            node.create_timer(_REPORT_PERIOD_S, self.report, clock=steady),
        ]

    def begin(self) -> None:
        """Forget why the loop ended last time."""
        self._end_reason = ""

    def report(self) -> None:
        """Tell how the loop stands."""
        loop, state = self._loop, self._state()
        counts = loop.controller.counts
        summary = loop.statistics.summary()
        incidents = {
            "missed ticks": loop.missed_ticks,
            "clock jumps": loop.clock_jumps,
            "overdue actions": loop.overdue,
            "log lines dropped": NodeLog.dropped,
            **self._arrival_counts(),
        }
        remarkable = {name: n for name, n in counts.items() if name not in _UNREMARKABLE}
        health = self._judge.judge(
            state, self._reason(), remarkable | incidents, self._loop.troubles(), self._rivals
        )
        values = {
            **loop_values(state, summary),
            **{name: str(count) for name, count in incidents.items()},
            "QoS incompatibilities": str(loop.conflicts.total),
            **{f"guard {guard}": str(count) for guard, count in counts.items()},
            **self._facts,
        }
        self._reporter.report(health, values)

    def close(self) -> None:
        """Stop watching."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._reporter.close()

    def _pulse(self) -> None:
        """Let the loop know that the process was not suspended."""
        self._loop.observer.pulse(steady_ns())

    def _watch(self) -> None:
        """Let a failure of the tick thread end the process, and a long fault end the work."""
        failure = self._loop.failure
        if failure is not None:
            raise failure
        self._rivals = self._loop.rivals.trouble()
        if self._loop.active:
            self._end_what_must()
        if self._reporter.reported_state != self._state() or self._rivals != self._reported_rivals:
            self._reported_rivals = self._rivals
            self.report()

    def _end_what_must(self) -> None:
        if self._rivals and self._loop.rivals_stop:
            self._deactivate(self._rivals)
        elif self._loop.controller.given_up:
            self._deactivate(self._reason())

    def _deactivate(self, reason: str) -> None:
        self._end_reason = f"deactivated: {reason}"
        self._node.trigger_deactivate()
        self._node.get_logger().error(self._end_reason)

    def _state(self) -> str:
        return self._loop.state.value if self._loop.active else INACTIVE

    def _reason(self) -> str:
        """Why no action is sent, if one should be."""
        if not self._loop.active:
            failure = self._loop.failure
            return self._end_reason if failure is None else f"the policy failed: {failure!r}"
        command = self._loop.statistics.summary().command
        if command is None or command.fault is None or command.state not in _UNABLE:
            return ""
        return command.fault.reason

    def _arrival_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for topic, arrivals in self._loop.observer.arrivals.items():
            counts[f"refused messages of {topic}"] = arrivals.refused
            counts[f"stamps ahead of {topic}"] = arrivals.ahead
            counts[f"delayed messages of {topic}"] = arrivals.delayed
        return counts
