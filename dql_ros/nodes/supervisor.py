"""Brings nodes of another process up through their lifecycle, and hears what episodes came to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import String

from dql_core.errors import SimulationError
from dql_ros.nodes.interfaces import reliable
from dql_ros.nodes.side_node import SideNode
from dql_ros.simulation import EpisodeResult

_SPIN_S = 0.05


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
                raise SimulationError(f"waited {timeout_s:.0f} s in vain for {what}")
            self._watch()
            self.spin_once(_SPIN_S)

    def _hears_episodes(self) -> bool:
        return bool(self._episodes.get_publisher_count() > 0)

    def _on_episode(self, message: Any) -> None:
        self.results.append(EpisodeResult.from_json(message.data))
