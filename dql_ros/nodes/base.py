"""What all nodes share: one way to start, to spin, to fail and to end.

The nodes handle all signals that would end or suspend them, because a safe command must still go
out after them (``rclpy``'s own handlers would shut the context down first, and most signals have
none). They log the exceptions of lifecycle transitions, which ``rclpy.lifecycle`` swallows. This
is the one module that catches ``Exception``.
"""

from __future__ import annotations

import os
import sys
import traceback
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown

from dql_core.errors import DqlError
from dql_ros.nodes.end_request import END_REQUESTED, heed_signals, ignore_signals
from dql_ros.nodes.lifecycle_services import LifecycleServices
from dql_ros.nodes.node_log import ROS_ARGUMENTS, NodeLog
from dql_ros.processes import PARENT_VARIABLE
from dql_ros.sros2 import doubt_about_settings, explain_refusal, require_sound_settings

try:
    from rclpy.experimental.events_executor import EventsExecutor
except ImportError:  # before Jazzy's rclpy 7.1.4
    EventsExecutor = SingleThreadedExecutor

RCLError = rclpy_implementation.RCLError

# Bounds how long a signal waits for the executor, which Python cannot interrupt; in seconds.
_SPIN_TIMEOUT_S = 0.1


class RunnableNode(Protocol):
    """A node that `run` can run."""

    finished: bool

    def last_acts(self) -> None:
        """End the work while everything can still be published."""


def run(
    make_node: Callable[[], Any],
    make_executor: Callable[[], Executor] = EventsExecutor,
) -> int:
    """Run one node until it has finished or the process is asked to end.

    Args:
        make_node: Makes the node, a `RunnableNode`, once ``rclpy`` is initialised.
        make_executor: Makes the executor. ``EventsExecutor`` takes half the CPU of the default
            but, in rclpy 7.1.6, cannot tell a callback a message's time stamps.

    Returns:
        The exit code: 0, 2 after a user's mistake, 1 after a failure of ours.
    """
    heed_signals()
    log = NodeLog()
    node, name = None, "dql_ros"
    complaint, code = "", 0
    try:
        require_sound_settings(os.environ)
        rclpy.init(
            args=[*sys.argv, *ROS_ARGUMENTS], signal_handler_options=SignalHandlerOptions.NO
        )
        if doubt := doubt_about_settings(os.environ):
            get_logger("dql_ros").warning(doubt)
        if not END_REQUESTED.is_set:
            node = make_node()
            name = node.get_name()
            _spin(node, make_executor())
    except DqlError as error:
        complaint, code = str(error), 2
    except Exception as error:  # noqa: BLE001 - the process's last resort
        complaint, code = explain_refusal(str(error)), 2
        if not complaint:
            complaint, code = traceback.format_exc(), 1
    _tear_down(node)
    ignore_signals()
    if complaint:
        # Last of all, so that it is what a parent process finds on the last line.
        get_logger(name).fatal(complaint)
    log.close()
    return code


class ManagedNode(LifecycleNode):
    """A lifecycle node whose transitions log what went wrong.

    Attributes:
        finished: Set to end the process.
        failure: What made the last failed transition fail.
    """

    finished = False
    failure: Exception | None = None

    def __init__(self, name: str) -> None:
        """Make the node under ``name``, or the one that it is given when started."""
        super().__init__(name, enable_communication_interface=False)
        LifecycleServices(self)

    @abstractmethod
    def configure(self) -> None:
        """Acquire what the node needs."""

    @abstractmethod
    def activate(self) -> None:
        """Begin to work; the lifecycle publishers are enabled already."""

    @abstractmethod
    def deactivate(self) -> None:
        """Stop working; the lifecycle publishers are enabled still."""

    @abstractmethod
    def release(self) -> None:
        """Let go of what `configure` acquired, as far as it came."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure; what was acquired is released again if that fails."""
        return self._attempt("configure", self.configure, on_failure=self.release)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then begin to work."""
        super().on_activate(state)
        outcome = self._attempt("activate", self.activate, on_failure=self.deactivate)
        if outcome != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working, then disable the publishers."""
        self._attempt("deactivate", self.deactivate)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything."""
        return self._attempt("clean up", self.release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working and release everything, from any state."""
        if state.label == "active":
            self.on_deactivate(state)
        return self._attempt("shut down", self.release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, so that the node can be configured again."""
        return self._attempt("recover", self.release)

    def last_acts(self) -> None:
        """Shut down through the lifecycle, so that the safe command goes out."""
        try:
            self.trigger_shutdown()
        except RCLError:
            self.get_logger().debug("already shut down")

    def _attempt(
        self,
        what: str,
        action: Callable[[], None],
        on_failure: Callable[[], None] | None = None,
    ) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it
            message = str(error) if isinstance(error, DqlError) else traceback.format_exc()
            if on_failure is not None:
                self._attempt(f"undo '{what}'", on_failure)
            self.get_logger().error(f"could not {what}: {message}")
            self.failure = error
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS


def _spin(node: Any, executor: Executor) -> None:
    # EventsExecutor.spin() of the Jazzy wheels dispatches nothing; spin_once() does.
    parent = os.environ.get(PARENT_VARIABLE)
    executor.add_node(node)
    try:
        while not (END_REQUESTED.is_set or node.finished or _is_orphan(parent)):
            executor.spin_once(timeout_sec=_SPIN_TIMEOUT_S)
    finally:
        executor.remove_node(node)


def _is_orphan(parent: str | None) -> bool:
    return parent is not None and os.getppid() != int(parent)


def _tear_down(node: Any) -> None:
    try:
        if node is not None:
            node.last_acts()
            node.destroy_node()
    except Exception:  # noqa: BLE001 - the context must be shut down all the same
        get_logger(node.get_name()).error(traceback.format_exc())
    finally:
        try_shutdown()
