"""The services of a managed node, answered however many requests come at once.

Those that ``rclpy`` makes keep ten requests: of a hundred at once, most are never answered. They
also leave without an answer who asks for a transition that the present state does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lifecycle_msgs.msg import State, Transition, TransitionDescription
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from dql_ros.nodes.interfaces import reliable

# As many as the services of parameters keep (rmw_qos_profile_parameters).
_QUEUE_DEPTH = 1000
_LOG_PERIOD_S = 1.0


class LifecycleServices:
    """Serves ``~/change_state`` and what tells of states and transitions.

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
        for kind, name, callback in (
            (ChangeState, "change_state", self._on_change_state),
            (GetState, "get_state", self._on_get_state),
            (GetAvailableStates, "get_available_states", self._on_get_available_states),
            (
                GetAvailableTransitions,
                "get_available_transitions",
                lambda _, response: _describe(self._machine.available_transitions, response),
            ),
            (
                GetAvailableTransitions,
                "get_transition_graph",
                lambda _, response: _describe(self._machine.transition_graph, response),
            ),
        ):
            answer: Any = callback
            node.create_service(kind, f"~/{name}", answer, qos_profile=reliable(_QUEUE_DEPTH))

    def _on_change_state(self, request: Any, response: Any) -> Any:
        asked: Transition = request.transition
        for number, label, *_ in self._machine.available_transitions:
            is_asked = label == asked.label if asked.label else number == asked.id
            if is_asked and number in self._triggers:
                made = self._triggers[number]()
                response.success = made == TransitionCallbackReturn.SUCCESS
                return response
        self._node.get_logger().warning(
            f"refused the transition '{asked.label or asked.id}': the state "
            f"'{self._machine.current_state[1]}' does not have it",
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
