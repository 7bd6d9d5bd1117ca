"""Hears what other processes' nodes tell on ``/diagnostics``, and asks one of them to end well."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dql_ros.diagnostics_log import DiagnosticsLog, Report
from dql_ros.domain import inside
from dql_ros.nodes.interfaces import reliable

# Reports that may wait while nobody listens.
_DEPTH = 100
_SPIN_S = 0.02


class DiagnosticsListener:
    """A node in this process, beside whatever else the process does with ``rclpy``.

    Attributes:
        log: What was heard so far.
    """

    def __init__(self, domain: int, on_report: Callable[[Report], None] = lambda _: None) -> None:
        """Join ``domain`` and listen; ``on_report`` is called in `take` with each report."""
        self.log = DiagnosticsLog()
        self._on_report = on_report
        self._started_s = time.monotonic()
        self._context = Context()
        with inside(domain):
            rclpy.init(args=[], context=self._context)
            self._node = Node(
                "diagnostics_listener",
                context=self._context,
                enable_rosout=False,
                start_parameter_services=False,
            )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._node.create_subscription(
            DiagnosticArray, "/diagnostics", self._note, reliable(_DEPTH)
        )

    def take(self) -> None:
        """Handle one message, if any has come."""
        self._executor.spin_once(timeout_sec=0.0)

    def deactivate(self, node: str, timeout_s: float) -> bool:
        """Ask the lifecycle node ``node`` to stop, and hear its last report; say whether it did.

        A node that does not answer in time is left to whoever ends its process.
        """
        deadline_s = time.monotonic() + timeout_s
        client = self._node.create_client(ChangeState, f"{node}/change_state")
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
            self._executor.spin_once(timeout_sec=_SPIN_S)
        return True

    def _note(self, message: Any) -> None:
        time_s = time.monotonic() - self._started_s
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = int.from_bytes(status.level, "little")
            report = Report(status.name, time_s, level, status.message, values)
            self.log.add(report)
            self._on_report(report)

    def __enter__(self) -> DiagnosticsListener:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()
