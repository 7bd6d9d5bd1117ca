"""What nodes report: on ``/diagnostics`` (REP-107), on ``~/status`` and in the log.

`StatusReporter` serves every node. `LoopMonitor` watches a control loop from the executor's
thread: it reports, and it deactivates the node or ends the process where that must be.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from std_msgs.msg import String

from dql_core.runtime.guard import Guard
from dql_ros.control.health import INACTIVE, UNABLE, LoopHealth
from dql_ros.control.ticking import steady_ns
from dql_ros.diagnostics import Level, Status
from dql_ros.nodes.base import ManagedNode
from dql_ros.nodes.control_loop import ControlLoop
from dql_ros.nodes.node_log import NodeLog
from dql_ros.nodes.topics import NAMELESS, reliable, steady_clock, wait_for_delivery

# A state that comes and goes is logged no more often; in seconds.
_LOG_PERIOD_S = 1.0
_DEPTH = 10
_DELIVERY_TIMEOUT_S = 0.5
_HEARTBEAT_PERIOD_S = 0.02
_WATCH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
# Counted, but not worth a warning: the work itself, what a policy may ask for at any time, and
# what is a little beyond the training data; what is far beyond is unusual, too.
_UNREMARKABLE = {
    "published",
    Guard.WARM_UP.value,
    Guard.AWAITED_CHUNK.value,
    Guard.UNSEEN_OBSERVATION.value,
    Guard.SLEW_LIMITED_ACTION.value,
}


class StatusReporter:
    """Publishes the status of a node, and logs it when the state changes.

    Attributes:
        state: The state that was reported last.
        publisher: Of ``/diagnostics``.
    """

    def __init__(
        self, node: Node, subject: str, *, has_topic: bool = True, logs: bool = True
    ) -> None:
        """Open the topics.

        Args:
            node: Whose status it is.
            subject: What of the node; the status is named ``NODE: SUBJECT``.
            has_topic: Whether the node has ``~/status``.
            logs: Whether a new state is logged.
        """
        self.state = ""
        self._node, self._name = node, f"{node.get_name()}: {subject}"
        self._logs = logs
        self._logged_at_s: dict[str, float] = {}
        self._is_closed = False
        latched = reliable(1, latched=True)
        self._topic = node.create_publisher(String, "~/status", latched) if has_topic else None
        self.publisher = node.create_publisher(DiagnosticArray, "/diagnostics", reliable(_DEPTH))

    def report(self, status: Status, values: Mapping[str, str], **details: str) -> None:
        """Publish a status.

        Args:
            status: The status.
            values: Figures for ``/diagnostics``, by name.
            details: What ``~/status`` has besides state and reason.
        """
        if self._is_closed:  # by a timer that was due before it was destroyed
            return
        if status.state != self.state:
            self.state = status.state
            self._log(status)
        reason = "" if status.message == status.state else status.message
        if self._topic is not None:
            document = {"state": status.state, **details, "reason": reason}
            self._topic.publish(String(data=json.dumps(document)))
        diagnostic = DiagnosticStatus(
            level=bytes([status.level]),
            name=self._name,
            message=status.message,
            hardware_id=self._node.get_fully_qualified_name(),
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        message = DiagnosticArray(status=[diagnostic])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self.publisher.publish(message)

    def flush(self) -> None:
        """Wait a while for the last report to arrive; a node that has left is heard no more."""
        topics = [self.publisher, *([self._topic] if self._topic is not None else [])]
        wait_for_delivery(topics, _DELIVERY_TIMEOUT_S)

    def close(self) -> None:
        """Close the topics."""
        self._is_closed = True
        self._node.destroy_publisher(self.publisher)
        if self._topic is not None:
            self._node.destroy_publisher(self._topic)

    def _log(self, status: Status) -> None:
        now_s = time.monotonic()
        if not self._logs or now_s < self._logged_at_s.get(status.state, -1.0) + _LOG_PERIOD_S:
            return
        self._logged_at_s[status.state] = now_s
        is_said = status.message.startswith(status.state)
        line = status.message if is_said else f"{status.state}: {status.message}"
        # Calls of their own, since rclpy raises where one place logs with several severities.
        if status.level is Level.ERROR:
            self._node.get_logger().error(line)
        elif status.level is Level.WARN:
            self._node.get_logger().warning(line)
        else:
            self._node.get_logger().info(line)


class LoopMonitor:
    """Reports once a second, and at once where the state changes."""

    def __init__(self, node: ManagedNode, loop: ControlLoop, facts: Mapping[str, str]) -> None:
        """Begin to watch; the diagnostics have ``facts`` besides the figures."""
        self._node = node
        self._loop = loop
        self._facts = dict(facts)
        self._end_reason = ""
        self._rivals = self._reported_rivals = ""
        self._health = LoopHealth()
        self._reporter = StatusReporter(node, "control loop")
        steady = steady_clock()
        self._timers: list[Any] = [
            node.create_timer(_HEARTBEAT_PERIOD_S, self._heartbeat, clock=steady),
            node.create_timer(_WATCH_PERIOD_S, self._watch, clock=steady),
            node.create_timer(_REPORT_PERIOD_S, self.report, clock=steady),
        ]

    def begin(self) -> None:
        """Forget why the loop ended last time."""
        self._end_reason = ""

    def report(self) -> None:
        """Report the status of the loop."""
        loop, state = self._loop, self._state()
        if loop.statistics.is_behind(state):
            return
        counts = loop.controller.counts
        incidents = {
            "missed ticks": loop.missed_ticks,
            "clock jumps": loop.clock_jumps,
            "overdue actions": loop.overdue,
            "log lines dropped": NodeLog.dropped,
            **self._arrival_counts(),
            **self._goal_counts(),
        }
        remarkable = {name: n for name, n in counts.items() if name not in _UNREMARKABLE}
        status = self._health.status(
            state,
            self._reason(),
            remarkable | incidents,
            loop.problems(),
            danger="; ".join(filter(None, [self._rivals, *loop.dangers()])),
            notes=loop.notes(),
        )
        values = {
            "state": state,
            **{name: _text(value, name) for name, value in loop.statistics.figures().items()},
            **{name: str(count) for name, count in incidents.items()},
            **{
                f"skipped messages of {topic}": str(arrivals.absent)
                for topic, arrivals in loop.observer.arrivals.items()
            },
            "QoS incompatibilities": str(loop.conflicts.total),
            **{f"goals of {goal.action}": str(goal.counts["sent"]) for goal in loop.goals},
            **{f"guard {guard}": str(count) for guard, count in counts.items()},
            **{f"last {guard}": why for guard, why in loop.controller.last_reasons.items()},
            **({} if loop.agreement is None else loop.agreement.figures()),
            **self._persons_figures(),
            **loop.chunk_figures(),
            **self._facts,
        }
        self._reporter.report(status, values)

    def close(self) -> None:
        """Stop watching, once what was reported last has arrived."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._reporter.flush()
        self._reporter.close()

    def _heartbeat(self) -> None:
        """Let the loop know that the process was not suspended."""
        self._loop.observer.heartbeat(steady_ns())

    def _watch(self) -> None:
        """End the process if the tick thread has failed, and the work where that must be."""
        loop = self._loop
        if loop.failure is not None:
            raise loop.failure
        self._rivals = loop.rivals.problem()
        if loop.active and self._rivals and loop.settings.rivals_stop:
            self._deactivate(self._rivals)
        elif loop.active and loop.controller.given_up:
            self._deactivate(self._reason())
        elif NAMELESS in self._end_reason and self._rivals and NAMELESS not in self._rivals:
            self._deactivate(self._rivals)  # as is known by now
        if self._reporter.state != self._state() or self._rivals != self._reported_rivals:
            self._reported_rivals = self._rivals
            self.report()

    def _deactivate(self, reason: str) -> None:
        """End the work, if it has not ended, and say why."""
        self._end_reason = f"deactivated: {reason}"
        if self._loop.active:
            self._node.trigger_deactivate()
        self._node.get_logger().error(self._end_reason)

    def _state(self) -> str:
        return self._loop.state.value if self._loop.active else INACTIVE

    def _reason(self) -> str:
        """Why no action is sent, if one should be."""
        if not self._loop.active:
            failure = self._loop.failure
            if failure is None:
                return self._end_reason
            return (
                f"the policy failed: {failure!r}; this node ends: see its log, then start it again"
            )
        command = self._loop.statistics.command
        if command is None or command.fault is None or command.state not in UNABLE:
            return ""
        return command.fault.reason

    def _persons_figures(self) -> dict[str, str]:
        person = self._loop.person
        if person is None:
            return {}
        return {"commands of a person": str(self._loop.controller.obeyed), **person.figures()}

    def _goal_counts(self) -> dict[str, int]:
        return {
            f"goals {what} of {goal.action}": count
            for goal in self._loop.goals
            for what, count in goal.counts.items()
            if what != "sent"
        }

    def _arrival_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for topic, arrivals in self._loop.observer.arrivals.items():
            counts[f"refused messages of {topic}"] = arrivals.refused
            counts[f"stamps ahead of {topic}"] = arrivals.ahead
            counts[f"delayed messages of {topic}"] = arrivals.delayed
        return counts


def _text(value: float | None, name: str) -> str:
    if value is None:
        return "never came"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if name.endswith("(s)") else f"{value:.3f}"
