"""What all nodes share: how they start, spin, fail and end; the managed node; a client's node.

The nodes handle all signals that would end or suspend them, because a safe command must still go
out after them (``rclpy``'s own handlers would shut the context down first, and most signals have
none). They log the exceptions of lifecycle transitions, which ``rclpy.lifecycle`` swallows. This
is the one module that catches ``Exception``.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, TypeVar

import rclpy
from lifecycle_msgs.msg import State, Transition, TransitionDescription
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import get_rmw_implementation_identifier, try_shutdown
from std_srvs.srv import SetBool, Trigger

from dql_core.errors import ConfigError, DqlError, SimulationError
from dql_core.process import is_orphan
from dql_ros.contract.outcomes import DISCARD, FAILURE, SUCCESS, Label
from dql_ros.nodes.node_log import ROS_ARGUMENTS, NodeLog
from dql_ros.nodes.start import END_REQUESTED, handle_signals, ignore_signals
from dql_ros.nodes.topics import reliable
from dql_ros.sros2 import explain_refusal, require_valid_settings, settings_warning
from dql_ros.transport import inside, share_no_memory, shared_memory_warning

try:
    from rclpy.experimental.events_executor import EventsExecutor
except ImportError:  # before Jazzy's rclpy 7.1.4
    EventsExecutor = SingleThreadedExecutor
RCLError = rclpy_implementation.RCLError
# Bounds how long a signal waits for the executor, which Python cannot interrupt; in seconds.
_SPIN_TIMEOUT_S = 0.1
# How long a client waits for an event before it looks whether it waits still.
SPIN_S = 0.02
# As many as the services of parameters keep (rmw_qos_profile_parameters).
_QUEUE_DEPTH = 1000
_LOG_PERIOD_S = 1.0
T = TypeVar("T", bound="ClientNode")


class RunnableNode(Protocol):
    """A node that `run` can run."""

    finished: bool

    def on_exit(self) -> None:
        """End the work while everything can still be published."""


def run(
    make_node: Callable[[], Any],
    make_executor: Callable[[], Executor] = EventsExecutor,
) -> int:
    """Run one node until it has finished or the process is asked to end.

    Args:
        make_node: Makes the node, a `RunnableNode`, once ``rclpy`` is initialised.
        make_executor: Makes the executor. ``EventsExecutor`` takes half the CPU of the default
            but, in rclpy 7.1.6, does not pass a message's time stamps to a callback.

    Returns:
        The exit code: 0, 2 after a user's mistake, 1 after a failure of ours.
    """
    handle_signals()
    log = NodeLog()
    node, name = None, "dql_ros"
    complaint, code = "", 0
    try:
        require_valid_settings(os.environ)
        share_no_memory(get_rmw_implementation_identifier())
        rclpy.init(
            args=[*sys.argv, *ROS_ARGUMENTS], signal_handler_options=SignalHandlerOptions.NO
        )
        _refuse_other_arguments(sys.argv[1:])
        if doubt := settings_warning(os.environ):
            get_logger("dql_ros").warning(doubt)
        if not END_REQUESTED.is_set:
            node = make_node()
            name = node.get_name()
            if doubt := shared_memory_warning():
                node.get_logger().warning(doubt)
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


def _refuse_other_arguments(words: Sequence[str]) -> None:
    """Refuse what is not between ``--ros-args`` and ``--``: with ``shadow:=true`` one would drive.

    ROS takes it for a remapping of a name that nothing has, and ignores what has no ``:=``.

    Raises:
        ConfigError: If there are any.
    """
    others, is_ros = list[str](), False
    for word in words:
        if word in {"--ros-args", "--"}:
            is_ros = word == "--ros-args"
        elif not is_ros:
            others.append(word)
    if others:
        given = [word for word in others if ":=" in word]
        remedy = (
            f"write --ros-args -p {given[0]}, or -r for a remapping" if given else "see --help"
        )
        raise ConfigError(f"'{' '.join(others)}' is no argument of a node: {remedy}")


class ManagedNode(LifecycleNode):
    """A lifecycle node whose transitions log what went wrong.

    Attributes:
        finished: Set to end the process.
        failure: What made the last failed transition fail.
        ends_on_failure: Whether that ends the process, whose last line says what it was.
    """

    finished = False
    ends_on_failure = False
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
        return self._attempt("configure", self.configure, on_failure=("clean up", self.release))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then begin to work."""
        super().on_activate(state)
        outcome = self._attempt("activate", self.activate, on_failure=("stop", self.deactivate))
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

    def on_exit(self) -> None:
        """Shut down through the lifecycle, so that the safe command goes out."""
        try:
            self.trigger_shutdown()
        except RCLError:
            self.get_logger().debug("already shut down")

    def _attempt(
        self,
        what: str,
        action: Callable[[], None],
        on_failure: tuple[str, Callable[[], None]] | None = None,
    ) -> TransitionCallbackReturn:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it
            message = str(error) if isinstance(error, DqlError) else traceback.format_exc()
            if on_failure is not None:
                aim, undo = on_failure
                self._attempt(f"{aim} after a failed {what}", undo)
            if on_failure is None or not self.ends_on_failure:
                self.get_logger().error(f"could not {what}: {message}")
            self.failure = error
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS


def _spin(node: Any, executor: Executor) -> None:
    # EventsExecutor.spin() of the Jazzy wheels dispatches nothing; spin_once() does.
    executor.add_node(node)
    try:
        while not (END_REQUESTED.is_set or node.finished or is_orphan()):
            executor.spin_once(timeout_sec=_SPIN_TIMEOUT_S)
    finally:
        executor.remove_node(node)


def _tear_down(node: Any) -> None:
    try:
        if node is not None:
            node.on_exit()
            node.destroy_node()
    except Exception:  # noqa: BLE001 - the context must be shut down all the same
        get_logger(node.get_name()).error(traceback.format_exc())
    finally:
        try_shutdown()


class LifecycleServices:
    """Serves ``~/change_state`` and the requests for states and transitions.

    The services that ``rclpy`` makes keep ten requests: of a hundred at once, most are never
    answered. Nor do they answer a request for a transition that the present state does not have.

    Source: https://design.ros2.org/articles/node_lifecycle.html, "Management Interface".
    """

    def __init__(self, node: LifecycleNode) -> None:
        """Serve a node that was made without services of ``rclpy``'s."""
        self._node, self._machine = node, node._state_machine
        self._triggers: dict[int, Callable[[], Any]] = {
            Transition.TRANSITION_CONFIGURE: node.trigger_configure,
            Transition.TRANSITION_CLEANUP: node.trigger_cleanup,
            Transition.TRANSITION_ACTIVATE: node.trigger_activate,
            Transition.TRANSITION_DEACTIVATE: node.trigger_deactivate,
            Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: node.trigger_shutdown,
            Transition.TRANSITION_INACTIVE_SHUTDOWN: node.trigger_shutdown,
            Transition.TRANSITION_ACTIVE_SHUTDOWN: node.trigger_shutdown,
        }
        services: dict[str, tuple[Any, Any]] = {
            "change_state": (ChangeState, self._on_change_state),
            "get_state": (GetState, self._on_get_state),
            "get_available_states": (GetAvailableStates, self._on_get_available_states),
            "get_available_transitions": (GetAvailableTransitions, self._on_get_transitions),
            "get_transition_graph": (GetAvailableTransitions, self._on_get_graph),
        }
        for name, (kind, answer) in services.items():
            node.create_service(kind, f"~/{name}", answer, qos_profile=reliable(_QUEUE_DEPTH))

    def _on_change_state(self, request: Any, response: Any) -> Any:
        asked: Transition = request.transition
        possible: list[str] = []
        for number, label, *_ in self._machine.available_transitions:
            possible.append(label)
            is_asked = label == asked.label if asked.label else number == asked.id
            if is_asked and number in self._triggers:
                made = self._triggers[number]()
                response.success = made == TransitionCallbackReturn.SUCCESS
                return response
        self._node.get_logger().warning(
            f"refused the transition '{asked.label or asked.id}': not possible in state "
            f"'{self._machine.current_state[1]}'; possible are: {', '.join(possible) or 'none'}",
            throttle_duration_sec=_LOG_PERIOD_S,
        )
        response.success = False
        return response

    def _on_get_state(self, _: Any, response: Any) -> Any:
        number, label = self._machine.current_state
        response.current_state = State(id=number, label=label)
        return response

    def _on_get_available_states(self, _: Any, response: Any) -> Any:
        response.available_states = [
            State(id=number, label=label) for number, label in self._machine.available_states
        ]
        return response

    def _on_get_transitions(self, _: Any, response: Any) -> Any:
        return _describe(self._machine.available_transitions, response)

    def _on_get_graph(self, _: Any, response: Any) -> Any:
        return _describe(self._machine.transition_graph, response)


def _describe(transitions: Iterable[tuple[int, str, int, str, int, str]], response: Any) -> Any:
    response.available_transitions = [
        TransitionDescription(
            transition=Transition(id=number, label=label),
            start_state=State(id=start, label=start_label),
            goal_state=State(id=goal, label=goal_label),
        )
        for number, label, start, start_label, goal, goal_label in transitions
    ]
    return response


class OutcomeServices:
    """``~/label_episode`` and ``~/discard_episode``, by which a person labels an episode."""

    def __init__(self, node: Node, label: Callable[[Label], str]) -> None:
        """Serve them.

        Args:
            node: The node.
            label: Labels the present, and returns what is wrong with that; empty if nothing is.
        """
        self._label = label
        node.create_service(SetBool, "~/label_episode", self._on_label)
        node.create_service(Trigger, "~/discard_episode", self._on_discard)

    def _on_label(self, request: Any, response: Any) -> Any:
        return self._answer(SUCCESS if request.data else FAILURE, response)

    def _on_discard(self, _request: Any, response: Any) -> Any:
        return self._answer(DISCARD, response)

    def _answer(self, label: Label, response: Any) -> Any:
        problem = self._label(label)
        response.success, response.message = not problem, problem or f"labelled '{label}'"
        return response


class ClientNode:
    """A node with a context and an executor of its own, beside whatever else the process runs.

    Attributes:
        node: The node.
    """

    def __init__(self, domain: int | None, name: str) -> None:
        """Join the ROS domain ``domain``, by default the environment's, under ``name``.

        Raises:
            SimulationError: If ROS 2's security does not let it.
        """
        self._context = Context()
        try:
            rmw = get_rmw_implementation_identifier()
            with nullcontext() if domain is None else inside(domain, rmw):
                rclpy.init(args=[], context=self._context)
                self.node = Node(
                    name,
                    context=self._context,
                    enable_rosout=False,
                    start_parameter_services=False,
                )
        except RCLError as error:
            if reason := explain_refusal(str(error)):
                raise SimulationError(reason) from error
            raise
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def spin_once(self, timeout_s: float) -> None:
        """Handle one event, if one comes within so many seconds."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def spin_until(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        """Handle events until a condition holds; say whether it did by a time on the steady clock.

        Args:
            condition: Asked after each event.
            deadline_s: As of `time.monotonic`.
        """
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            self.spin_once(SPIN_S)
        return True

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
