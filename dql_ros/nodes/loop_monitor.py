"""Watches a control loop from the executor's thread: tells how it stands, and ends what must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from dql_core.runtime.controller import State
from dql_core.runtime.guard import Guard
from dql_ros.deadline import steady_ns
from dql_ros.loop_health import INACTIVE, HealthJudge
from dql_ros.nodes.base import ManagedNode
from dql_ros.nodes.control_loop import ControlLoop
from dql_ros.nodes.diagnostics import LoopReporter, loop_values
from dql_ros.nodes.node_log import NodeLog

_PULSE_PERIOD_S = 0.02
_WATCH_PERIOD_S = 0.05
_REPORT_PERIOD_S = 1.0
_UNABLE = {State.WAITING, State.STALE, State.FAULT}
# Counted, but not worth a warning: the work itself, and what a policy may ask for at any time.
_UNREMARKABLE = {"published", Guard.WARM_UP.value, Guard.SLEW_LIMITED_ACTION.value}


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
        self._rivals = self._told_rivals = ""
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
        self._reporter.tell(health, values)

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
        if self._reporter.told_state != self._state() or self._rivals != self._told_rivals:
            self._told_rivals = self._rivals
            self.report()

    def _end_what_must(self) -> None:
        if self._rivals and self._loop.rivals_stop:
            self._deactivate(self._rivals)
        elif self._loop.controller.given_up:
            self._deactivate(self._reason())

    def _deactivate(self, reason: str) -> None:
        self._end_reason = f"deactivated itself, {reason}"
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
