"""A node in this process, beside whatever else the process does with ``rclpy``.

Brings nodes of another process up through their lifecycle, and hears what episodes came to.

Hears what other processes' nodes tell on ``/diagnostics``, and asks one of them to end well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from dql_core.errors import SimulationError
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.nodes.base import RCLError
from dql_ros.nodes.topics import reliable
from dql_ros.processes import inside
from dql_ros.sim.episodes import EpisodeResult
from dql_ros.sros2 import explain_refusal

T = TypeVar("T", bound="SideNode")
_TRANSITION_SPIN_S = 0.05
# Reports that may wait while nobody listens.
_DEPTH = 100
_SPIN_S = 0.02


class SideNode:
    """A node with a context and an executor of its own; what is built upon it adds topics.

    Attributes:
        node: The node.
    """

    def __init__(self, domain: int, name: str) -> None:
        """Join the ROS domain ``domain`` under ``name``.

        Raises:
            SimulationError: If ROS 2's security does not let it.
        """
        self._context = Context()
        try:
            with inside(domain):
                rclpy.init(args=[], context=self._context)
                self.node = Node(
                    name,
                    context=self._context,
                    enable_rosout=False,
                    start_parameter_services=False,
                )
        except RCLError as error:
            if told := explain_refusal(str(error)):
                raise SimulationError(told) from error
            raise
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def spin_once(self, timeout_s: float) -> None:
        """Handle one event, if one comes within so many seconds."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class RefusedTransitionError(SimulationError):
    """A node was asked for a lifecycle transition and did not make it."""


class Supervisor(SideNode):
    """Joins the domain of the nodes that it brings up.

    Attributes:
        results: Episodes that have ended so far.
    """

    def __init__(self, domain: int, bridge: str, driver: str, watch: Callable[[], None]) -> None:
        """Join ``domain``.

        Args:
            domain: ROS domain of the nodes.
            bridge: Name of the simulation bridge.
            driver: Name of the lifecycle node that drives.
            watch: Called while waiting; raises if waiting has become pointless.
        """
        super().__init__(domain, "supervisor")
        self.results: list[EpisodeResult] = []
        self._watch = watch
        self._episodes = self.node.create_subscription(
            String, f"{bridge}/episode", self._on_episode, reliable(1000, latched=True)
        )
        self._driver = driver
        self._client = self.node.create_client(ChangeState, f"{driver}/change_state")

    def bring_up(self, timeout_s: float) -> None:
        """Configure and activate the driver once episodes will be heard.

        Raises:
            RefusedTransitionError: If it refuses.
            SimulationError: If it is not there in time.
        """
        node, client = self._driver, self._client
        self.wait_until(self._hears_episodes, timeout_s, "the simulation bridge")
        self.wait_until(client.service_is_ready, timeout_s, f"node '{node}'")
        for transition, label in (
            (Transition.TRANSITION_CONFIGURE, "configure"),
            (Transition.TRANSITION_ACTIVATE, "activate"),
        ):
            answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
            self.wait_until(answer.done, timeout_s, f"node '{node}' to {label}")
            if not answer.result().success:
                raise RefusedTransitionError(f"node '{node}' refused to {label}")

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Spin until ``condition`` holds.

        Raises:
            SimulationError: If it does not within ``timeout_s``.
        """
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                raise SimulationError(f"gave up after {timeout_s:.0f} s of waiting for {what}")
            self._watch()
            self.spin_once(_TRANSITION_SPIN_S)

    def _hears_episodes(self) -> bool:
        return bool(self._episodes.get_publisher_count() > 0)

    def _on_episode(self, message: Any) -> None:
        self.results.append(EpisodeResult.from_json(message.data))


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
