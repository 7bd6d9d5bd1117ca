"""Commands as goals of ROS actions, for robots that know nothing else.

An action is three services and two topics; the services are called directly. rclpy's
``ActionClient`` is not made for this: in rclpy 7.1.6 it may lose the answer to a goal that another
thread than the executor's sends (https://github.com/ros2/rclpy/issues/1123), and it takes answers
in only where an executor spins, which none does while a node stops.

Source: https://design.ros2.org/articles/actions.html, "Introspection tools" and "Topics and
Services Used".
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.task import Future

from dql_core.errors import MAX_LINE, visible
from dql_core.streams import SECOND_NS
from dql_ros.codecs.installed import action_class, goal_part
from dql_ros.contract import ActionStream, Goals
from dql_ros.control.ticking import steady_ns
from dql_ros.nodes.topics import StreamPublisher

# A server that takes longer to accept a goal, or to refuse it, is taken for one that has died.
_ANSWER_NS = SECOND_NS
# The safe command is offered again so soon where it was refused, as while another goal is active.
_INSIST_NS = SECOND_NS // 10
_LOG_PERIOD_NS = SECOND_NS
# Of the period of goals, so that a tick that is a little early does not cost one.
_EARLY = 0.9
_POLL_PERIOD_S = 0.005
# A goal that was canceled and has not ended by then goes on.
_CANCEL_NS = SECOND_NS // 2
# Goals that were replaced and whose end was not heard: as many are canceled by a stop.
_MOST_UNDER_WAY = 32
# Requests to cancel that may be unanswered: a server's queue has room for ten, and what comes
# when it is full is lost (rmw_qos_profile_services_default).
_MOST_CANCELS = 8
_SUCCEEDED, _CANCELED, _ABORTED = (
    GoalStatus.STATUS_SUCCEEDED,
    GoalStatus.STATUS_CANCELED,
    GoalStatus.STATUS_ABORTED,
)
_SEE_LOG = "see its server's log"


@dataclass
class _Goal:
    """One goal that was sent.

    Attributes:
        id: Its ``unique_identifier_msgs/msg/UUID``.
        values: The command, shape (width,).
        sent_ns: When, on the steady clock.
        is_safe: Whether it is the safe command, which ends all others.
        answer: Of the server: whether it accepts the goal.
        outcome: How the goal ended; asked for once it is accepted.
        is_unwanted: Whether it is to be canceled.
        cancel: Answer to the request to cancel it; ``None`` before it is sent.
        cancel_ns: When that was asked for, on the steady clock.
        goes_on: Whether it did not end all the same.
        is_lost: Whether no answer came in time; it may still come.
        is_over: Whether the server was heard to refuse it, or to have ended it.
    """

    id: Any
    values: NDArray[np.float32]
    sent_ns: int
    is_safe: bool
    answer: Future
    outcome: Future | None = None
    is_unwanted: bool = False
    cancel: Future | None = None
    cancel_ns: int = 0
    goes_on: bool = False
    is_lost: bool = False
    is_over: bool = False

    @property
    def is_accepted(self) -> bool:
        return self.answer.done() and bool(self.answer.result().accepted)

    @property
    def has_failed(self) -> bool:
        """Whether the server does not have it, so that its command is still to be sent."""
        return not self.is_accepted if self.answer.done() else self.is_lost


class GoalOutput:
    """Sends one stream's commands as goals of an action, from any thread; never waits.

    A goal follows another one at the earliest after ``min_period_s``, once that one was answered,
    and if the command is another by more than ``min_change``. Only the safe command goes out at
    once, and has the node's other goals canceled; those of other nodes are theirs.

    Attributes:
        action: The action's name.
        counts: How many goals were sent, and how many were refused, and so on, by name.
    """

    def __init__(
        self,
        node: Node,
        stream: ActionStream,
        goals: Goals,
        output: StreamPublisher,
        min_period_ns: int,
    ) -> None:
        """Open the action's services.

        Args:
            node: Sends.
            stream: The contract's description of the commands.
            goals: Its ``send_as``.
            output: Publishes them, too, and has their message.
            min_period_ns: From one goal to the next, on the steady clock.

        Raises:
            ContractError: If the action is not installed, or its goal has no part of the stream's
                type.
        """
        self.action = goals.action
        names = ("sent", "refused", "unanswered", "aborted", "canceled by others", "not canceled")
        self.counts = dict.fromkeys(names, 0)
        self._node, self._output = node, output
        self._field = goal_part(goals.type, stream.type)
        self._title = f"'{goals.action}' ({goals.type})"
        self._min_period_ns = round(_EARLY * min_period_ns)
        self._min_change: NDArray[np.float64] | None = None
        if goals.min_change is not None:
            spans = [spec.high - spec.low for spec in stream.specs]
            self._min_change = goals.min_change * np.array(spans)
        services, name = action_class(goals.type).Impl, node.resolve_service_name(goals.action)
        self._clients: tuple[Any, ...] = tuple(
            node.create_client(kind, f"{name}/_action/{service}")
            for kind, service in (
                (services.SendGoalService, "send_goal"),
                (services.GetResultService, "get_result"),
                (services.CancelGoalService, "cancel_goal"),
            )
        )
        self._goals, self._outcomes, self._cancels = self._clients
        self._status_topic = f"{name}/_action/status"
        self._lock = threading.RLock()
        self._under_way: list[_Goal] = []
        self._newest: _Goal | None = None
        self._due_ns = 0
        self._servers: set[bytes] = set()
        self._problem = ""
        self._said_ns = -_LOG_PERIOD_NS

    def begin(self) -> None:
        """Forget what was sent; the robot may have been moved since then."""
        with self._lock:
            self._newest = None

    def offer(self, vector: NDArray[np.float32], *, is_safe: bool) -> None:
        """Send a command if it is time for a goal.

        Args:
            vector: The whole command, shape (A,), which was published just now.
            is_safe: Whether it is the safe command, to which everything else is to give way.
        """
        values, now_ns = vector[self._output.part], steady_ns()
        with self._lock:
            self._look(now_ns)
            newest = self._newest
            if is_safe and not (newest is not None and newest.is_safe):
                for goal in self._under_way:
                    _give_up(self._cancels, goal.cancel)
                    goal.is_unwanted, goal.cancel = True, None
                self._call_off_some(now_ns)
                self._send(values, now_ns, is_safe)
                if absence := self.missing():
                    self._complain(absence)
            elif now_ns >= self._due_ns and self._is_news(values):
                self._due_ns = now_ns + self._min_period_ns
                if not self.missing():
                    self._send(values, now_ns, is_safe)
                else:
                    self._note_absence()

    def missing(self) -> str:
        """Say that there is no server; empty if there is one."""
        if all(client.service_is_ready() for client in self._clients):
            return ""
        return (
            f"no action server of {self._title} is there: start its controller, or correct "
            f"'send_as' in the contract; where there is none, as in a simulation, leave it out"
        )

    def problem(self) -> str:
        """What is wrong with the goals of a node that acts, as a clause; empty if nothing is."""
        with self._lock:
            self._look(steady_ns())
            self._look_for_server()
            return self._problem

    def is_settled(self, safe_command: NDArray[np.float32]) -> bool:
        """Whether the server has the safe command, and has ended what was canceled.

        Args:
            safe_command: Shape (A,), published last; it is offered again if it was refused.
        """
        with self._lock:
            self.offer(safe_command, is_safe=True)
            newest = self._newest
            is_there = newest is not None and newest.is_safe and newest.is_accepted
            return is_there and not any(goal.is_unwanted for goal in self._under_way)

    def complain_of_end(self, waited_s: float) -> None:
        """Log that the server has not taken in the end of the work."""
        reason = self.missing() or self._problem or f"'{self.action}' is slow to answer"
        self._node.get_logger().error(
            f"the safe command was not accepted as a goal of '{self.action}', or its other goals "
            f"had not ended, within {waited_s:g} s: {reason}"
        )

    def close(self) -> None:
        """Close the services."""
        for client in self._clients:
            self._node.destroy_client(client)

    def _is_news(self, values: NDArray[np.float32]) -> bool:
        """Whether the robot is to have a goal of this command."""
        newest = self._newest
        if newest is None or newest.has_failed:
            return True
        if not newest.answer.done():
            return False
        if self._min_change is None:
            return True
        return bool((np.abs(values - newest.values) > self._min_change).any())

    def _send(self, values: NDArray[np.float32], now_ns: int, is_safe: bool) -> None:
        request = self._goals.srv_type.Request()
        request.goal_id.uuid = np.frombuffer(uuid.uuid4().bytes, np.uint8)
        setattr(request.goal, self._field, self._output.message)
        answer = self._goals.call_async(request)
        self._newest = _Goal(request.goal_id, values.copy(), now_ns, is_safe, answer)
        self._under_way.append(self._newest)
        self._due_ns = now_ns + self._min_period_ns
        self.counts["sent"] += 1

    def _look(self, now_ns: int) -> None:
        """Take in what the server has answered."""
        for client in self._clients:
            _take_answers(client)
        for goal in self._under_way:
            self._follow(goal, now_ns)
        open_goals = [goal for goal in self._under_way if not goal.is_over]
        for goal in open_goals[:-_MOST_UNDER_WAY]:
            self._forget(goal)
        self._under_way = open_goals[-_MOST_UNDER_WAY:]
        self._call_off_some(now_ns)

    def _follow(self, goal: _Goal, now_ns: int) -> None:
        """See what has become of a goal that was not over."""
        if not goal.answer.done():
            if not goal.is_lost and now_ns - goal.sent_ns > _ANSWER_NS:
                goal.is_lost = True
                self._count("unanswered", "does not answer: see that its server still runs")
        elif not goal.is_accepted:
            goal.is_over = True
            self._count("refused", f"refuses goals: {_SEE_LOG}")
            if goal.is_safe:
                self._due_ns = min(self._due_ns, goal.sent_ns + _INSIST_NS)
        elif goal.outcome is None:
            self._note_acceptance(goal, now_ns)
        elif goal.outcome.done():
            goal.is_over = True
            if goal is self._newest:
                self._judge(goal, goal.outcome.result())
        if goal.cancel and not (goal.is_over or goal.goes_on or goal.is_lost):
            goal.goes_on = now_ns - goal.cancel_ns > _CANCEL_NS
            if goal.goes_on:
                self._count("not canceled", f"goes on with a goal that was canceled: {_SEE_LOG}")

    def _note_acceptance(self, goal: _Goal, now_ns: int) -> None:
        """Ask how an accepted goal ends, and to end it where it is not wanted any more."""
        request = self._outcomes.srv_type.Request(goal_id=goal.id)
        goal.outcome = self._outcomes.call_async(request)
        if goal.cancel is not None:  # that request may have come before the goal
            self._call_off(goal, now_ns)
        if goal is self._newest:
            self._problem = ""

    def _judge(self, goal: _Goal, found: Any) -> None:
        """Say how the newest goal ended, if not well."""
        why = visible(str(getattr(found.result, "error_string", "")))[:MAX_LINE]
        if found.status == _ABORTED:
            self._count("aborted", f"aborted its last goal{why and f' ({why})'}: {_SEE_LOG}")
        elif found.status == _CANCELED and not goal.is_unwanted:
            self._count(
                "canceled by others",
                "canceled its last goal, which this node did not ask for: stop whoever else "
                "commands it, also by a topic",
            )
        elif found.status not in {_SUCCEEDED, _CANCELED}:  # a server that knows no such goal
            self._newest = None

    def _call_off_some(self, now_ns: int) -> None:
        """Ask the server to cancel what is not wanted, the newest first, as far as it has room."""
        unasked = [goal for goal in self._under_way if goal.is_unwanted and goal.cancel is None]
        if unasked:
            asked = [goal for goal in self._under_way if goal.cancel and not goal.cancel.done()]
            busy = sum(not (goal.goes_on or goal.is_lost) for goal in asked)
            for goal in unasked[::-1][: max(0, _MOST_CANCELS - busy)]:
                self._call_off(goal, now_ns)

    def _call_off(self, goal: _Goal, now_ns: int) -> None:
        """Ask the server to cancel a goal."""
        _give_up(self._cancels, goal.cancel)
        request = self._cancels.srv_type.Request()
        request.goal_info.goal_id = goal.id
        goal.cancel, goal.cancel_ns = self._cancels.call_async(request), now_ns

    def _look_for_server(self) -> None:
        """Begin anew where a server has gone or another one has come, which has no goal."""
        found = self._node.get_publishers_info_by_topic(self._status_topic)
        servers = {bytes(each.endpoint_gid) for each in found}
        if self.missing():
            self._note_absence()
        elif self._servers and servers - self._servers:
            self._newest = None
        self._servers = servers or self._servers

    def _note_absence(self) -> None:
        self._newest = None
        self._complain(self.missing())

    def _count(self, what: str, problem: str) -> None:
        self.counts[what] += 1
        self._complain(f"{self._title} {problem}")

    def _complain(self, problem: str) -> None:
        """Take note of a problem, and log it unless one was logged just now."""
        self._problem, now_ns = problem, steady_ns()
        if now_ns - self._said_ns >= _LOG_PERIOD_NS:
            self._said_ns = now_ns
            self._node.get_logger().error(problem)

    def _forget(self, goal: _Goal) -> None:
        """Hear of a goal no more."""
        _give_up(self._goals, goal.answer)
        _give_up(self._outcomes, goal.outcome)
        _give_up(self._cancels, goal.cancel)


def _take_answers(client: Any) -> None:
    """Take in a service's answers, while the executor is kept waiting, or from another thread."""
    while True:
        header, response = client.handle.take_response(client.srv_type.Response)
        if header is None:
            return
        with suppress(KeyError):  # nobody waits for it any more
            client.get_pending_request(header.request_id.sequence_number).set_result(response)


def _give_up(client: Any, answer: Future | None) -> None:
    """Wait for an answer no more."""
    if answer is not None and not answer.done():
        client.remove_pending_request(answer)


def flush_goals(
    goals: Sequence[GoalOutput], safe_command: NDArray[np.float32], timeout_s: float
) -> None:
    """Wait a while until servers have the safe command, shape (A,), and nothing else to do."""
    give_up_s = time.monotonic() + timeout_s
    while left := [goal for goal in goals if not goal.is_settled(safe_command)]:
        if time.monotonic() >= give_up_s or all(goal.missing() for goal in left):
            for goal in left:
                goal.complain_of_end(timeout_s)
            return
        time.sleep(_POLL_PERIOD_S)
