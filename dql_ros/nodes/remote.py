"""Nodes of other processes, as seen from this one: lifecycle, reports, episodes and labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from dql_core.errors import ConfigError, SimulationError
from dql_ros.contract.outcomes import DISCARD, SUCCESS, Label
from dql_ros.diagnostics import DiagnosticsLog, Report
from dql_ros.nodes.base import SPIN_S, ClientNode
from dql_ros.nodes.topics import reliable
from dql_ros.sim.result import EpisodeResult
from dql_ros.transport import share_no_memory

# Reports that may wait while nobody listens.
_DEPTH = 100


class RefusedTransitionError(SimulationError):
    """A node was asked for a lifecycle transition and did not make it."""


class Supervisor(ClientNode):
    """Brings a driver up, and receives its reports and the results of a bridge's episodes.

    Attributes:
        results: Episodes that have ended so far.
        log: All reports so far, of any node.
    """

    def __init__(
        self,
        domain: int,
        bridge: str,
        driver: str,
        watch: Callable[[], None],
        on_report: Callable[[Report], None] = lambda _: None,
    ) -> None:
        """Join ``domain``.

        Args:
            domain: ROS domain of the nodes.
            bridge: Name of the simulation bridge.
            driver: Name of the lifecycle node that drives.
            watch: Called while waiting; raises if waiting has become pointless.
            on_report: Called with each report.
        """
        super().__init__(domain, "supervisor")
        self.results: list[EpisodeResult] = []
        self.log = DiagnosticsLog()
        self._watch = watch
        self._on_report = on_report
        self._started_s = time.monotonic()
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable(_DEPTH)
        )
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
            answer = self._request(transition)
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
                raise SimulationError(
                    f"gave up after {timeout_s:.0f} s of waiting for {what}; check this machine "
                    f"with 'dql doctor'"
                )
            self._watch()
            self.spin_once(SPIN_S)

    def deactivate(self, timeout_s: float) -> bool:
        """Ask the driver to stop, and receive its last report; say whether it did.

        One that does not answer in time is left to whoever ends its process.
        """
        deadline_s = time.monotonic() + timeout_s
        if not self.spin_until(self._client.service_is_ready, deadline_s):
            return False
        answer = self._request(Transition.TRANSITION_DEACTIVATE)
        if not self.spin_until(answer.done, deadline_s):
            return False
        # It reported its last state before it answered, but on another channel.
        return self.spin_until(self._is_inactive, deadline_s) and bool(answer.result().success)

    def take_all(self) -> None:
        """Handle all messages that have come, as when their senders have ended."""
        heard, since_s = len(self.log.reports), time.monotonic()
        # An event may be something else than a report.
        while time.monotonic() - since_s < SPIN_S:
            self.spin_once(SPIN_S)
            if len(self.log.reports) > heard:
                heard, since_s = len(self.log.reports), time.monotonic()

    def _request(self, transition: int) -> Any:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self._client.call_async(request)

    def _hears_episodes(self) -> bool:
        return bool(self._episodes.get_publisher_count() > 0)

    def _is_inactive(self) -> bool:
        last = self.log.last_of(self._driver)
        return last is not None and last.values.get("state") == "inactive"

    def _on_episode(self, message: Any) -> None:
        self.results.append(EpisodeResult.from_json(message.data))

    def _on_diagnostics(self, message: Any) -> None:
        time_s = time.monotonic() - self._started_s
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            level = int.from_bytes(status.level, "little")
            report = Report(status.name, time_s, level, status.message, values)
            self.log.reports.append(report)
            self._on_report(report)


class Labeller(ClientNode):
    """Labels episodes by the services of a recorder or a policy node, in this process's domain."""

    def __init__(self, node: str) -> None:
        """Look for the node, of which ``node`` is the full name."""
        share_no_memory(get_rmw_implementation_identifier())
        super().__init__(None, "labeller")
        self._name = node
        self._label = self.node.create_client(SetBool, f"{node}/label_episode")
        self._discard = self.node.create_client(Trigger, f"{node}/discard_episode")

    def await_node(self, timeout_s: float) -> None:
        """Wait until it is there.

        Raises:
            ConfigError: If it is not in time.
        """
        clients = (self._label, self._discard)
        self._wait(lambda: all(each.service_is_ready() for each in clients), timeout_s)

    def label(self, label: Label, timeout_s: float) -> tuple[bool, str]:
        """Label the present; return whether the node did it, and what it says.

        Raises:
            ConfigError: If it does not answer in time.
        """
        if label == DISCARD:
            answer = self._discard.call_async(Trigger.Request())
        else:
            answer = self._label.call_async(SetBool.Request(data=label == SUCCESS))
        self._wait(answer.done, timeout_s)
        return answer.result().success, answer.result().message

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        if not self.spin_until(condition, time.monotonic() + timeout_s):
            raise ConfigError(
                f"no node '{self._name}' answers that labels episodes: start it in this ROS "
                f"domain, or name another one (ros2 node list)"
            )
