"""How people stop, pause and resume a control node: a latched topic and three services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from dql_core.runtime.interlock import Interlock, StillStoppedError
from dql_ros.nodes.interfaces import reliable
from dql_ros.nodes.stream_inputs import take_all

# A button may repeat its state at 1 kHz, and the executor may be busy for as long as a second.
_DEPTH = 1000


class SafetyInputs:
    """``~/stop``, ``~/reset_stop``, ``~/pause`` and ``~/resume``.

    The stop topic is subscribed to twice. The latched subscription learns of a stop from before
    this node's start, but cannot hear publishers that are not latched; the other hears everyone.
    Both report a stop, which does no harm.
    """

    def __init__(self, node: Node, interlock: Interlock, on_change: Callable[[], None]) -> None:
        """Listen.

        Args:
            node: The node to listen with.
            interlock: Remembers what was asked for.
            on_change: Called after each change, which must take effect at once.
        """
        self._node = node
        self._interlock = interlock
        self._on_change = on_change
        everyone = QoSProfile(
            depth=_DEPTH,
            reliability=ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._subscriptions = [
            node.create_subscription(
                Bool,
                "~/stop",
                self._on_stop,
                qos,
                # That publishers are not latched is nothing to warn of.
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
            for qos in (reliable(_DEPTH, latched=True), everyone)
        ]
        node.create_service(Trigger, "~/reset_stop", self._on_reset)
        node.create_service(Trigger, "~/pause", self._on_pause)
        node.create_service(Trigger, "~/resume", self._on_resume)

    def poll(self) -> None:
        """Take in a stop that the executor has not come to; from any thread."""
        for subscription in self._subscriptions:
            take_all(subscription)

    def _on_stop(self, message: Any) -> None:
        if self._interlock.hear(message.data):
            self._on_change()
            self._node.get_logger().error("stopped by ~/stop; ~/reset_stop ends that")

    def _on_reset(self, _request: Any, response: Any) -> Any:
        try:
            was_stopped = self._interlock.reset()
        except StillStoppedError as error:
            return _answer(response, False, str(error))
        self._on_change()
        return _answer(response, True, "the stop is reset" if was_stopped else "was not stopped")

    def _on_pause(self, _request: Any, response: Any) -> Any:
        self._interlock.paused = True
        self._on_change()
        return _answer(response, True, "paused; ~/resume ends that")

    def _on_resume(self, _request: Any, response: Any) -> Any:
        was_paused, self._interlock.paused = self._interlock.paused, False
        self._on_change()
        if self._interlock.stopped:
            return _answer(response, False, "stopped; ~/reset_stop ends that")
        return _answer(response, True, "resumed" if was_paused else "was not paused")


def _answer(response: Any, success: bool, message: str) -> Any:
    response.success, response.message = success, message
    return response
