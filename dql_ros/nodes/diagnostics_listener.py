"""Hears what other processes' nodes tell on ``/diagnostics``, and asks one of them to end well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from dql_ros.diagnostics_log import DiagnosticsLog, Report
from dql_ros.nodes.interfaces import reliable
from dql_ros.nodes.side_node import SideNode

# Reports that may wait while nobody listens.
_DEPTH = 100
_SPIN_S = 0.02


class DiagnosticsListener(SideNode):
    """Joins the domain of the nodes that it listens to.

    Attributes:
        log: What was heard so far.
    """

    def __init__(self, domain: int, on_report: Callable[[Report], None] = lambda _: None) -> None:
        """Join ``domain`` and listen; ``on_report`` is called in `take` with each report."""
        super().__init__(domain, "diagnostics_listener")
        self.log = DiagnosticsLog()
        self._on_report = on_report
        self._started_s = time.monotonic()
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", self._note, reliable(_DEPTH)
        )

    def take(self) -> None:
        """Handle one message, if any has come."""
        self.spin_once(0.0)

    def take_all(self) -> None:
        """Handle all messages that have come, as when their senders have ended."""
        heard, since_s = len(self.log.reports), time.monotonic()
        # An event may be something else than a report.
        while time.monotonic() - since_s < _SPIN_S:
            self.spin_once(_SPIN_S)
            if len(self.log.reports) > heard:
                heard, since_s = len(self.log.reports), time.monotonic()

    def deactivate(self, node: str, timeout_s: float) -> bool:
        """Ask the lifecycle node ``node`` to stop, and hear its last report; say whether it did.

        A node that does not answer in time is left to whoever ends its process.
        """
        deadline_s = time.monotonic() + timeout_s
        client = self.node.create_client(ChangeState, f"{node}/change_state")
        if not self._until(client.service_is_ready, deadline_s):
            return False
        request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
        answer = client.call_async(request)
        if not self._until(answer.done, deadline_s):
            return False
        # It told its last state before it answered, but on another channel.
        heard = self._until(lambda: self._is_inactive(node), deadline_s)
        return heard and bool(answer.result().success)

    def _is_inactive(self, node: str) -> bool:
        reports = self.log.of_node(node)
        return bool(reports) and reports[-1].values.get("state") == "inactive"

    def _until(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            self.spin_once(_SPIN_S)
        return True

    def _note(self, message: Any) -> None:
        time_s = time.monotonic() - self._started_s
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = int.from_bytes(status.level, "little")
            report = Report(status.name, time_s, level, status.message, values)
            self.log.add(report)
            self._on_report(report)
