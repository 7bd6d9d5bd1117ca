"""A controller that knows actions only: a gripper's, or one that follows trajectories.

It tells all that happens to it on ``~/events``, a JSON text each: what, when on the steady clock,
to which goal, and that goal's numbers. ``~/mood`` says how it is to behave from then on:

- ``willing``: it works on a goal until another one comes, or for ``takes_s``, and succeeds;
- ``refusing``: it accepts no goal;
- ``busy``: it accepts no goal while it works on one;
- ``failing``: it aborts every goal;
- ``parallel``: it works on all goals at once;
- ``stubborn``: it neither cancels a goal nor lets it make way for another one.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from rclpy.action.server import ActionServer, CancelResponse, GoalResponse, ServerGoalHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String

from dql_ros.codecs.installed import action_class
from dql_ros.nodes.base import run
from dql_ros.nodes.topics import reliable

TROUBLE = "joint 'a' is\nstuck\x1b[2J"


class Controller(Node):
    """Serves one action.

    Attributes:
        finished: Never; it ends by a signal.
    """

    finished = False

    def __init__(self) -> None:
        super().__init__("controller")
        action = str(self.declare_parameter("action", "").value)
        self._kind = action_class(str(self.declare_parameter("type", "").value))
        self._takes_s = float(self.declare_parameter("takes_s", 3600.0).value)
        self._mood = str(self.declare_parameter("mood", "willing").value)
        self._events = self.create_publisher(String, "~/events", reliable(1000, latched=True))
        self.create_subscription(String, "~/mood", self._set_mood, reliable(10))
        self._active: ServerGoalHandle | None = None
        self._others: list[ServerGoalHandle] = []  # what it works on besides
        self._ends: dict[str, Future] = {}
        self._server = ActionServer(
            self,
            self._kind,
            action,
            self._execute,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
            handle_accepted_callback=self._on_accepted,
        )
        self.create_timer(0.01, self._look)
        self._tell("up")

    def on_exit(self) -> None:
        """Nothing is left to be done."""

    def _tell(self, what: str, goal: str = "", **more: Any) -> None:
        event = {"what": what, "at_s": time.monotonic(), "goal": goal, **more}
        self._events.publish(String(data=json.dumps(event)))

    def _set_mood(self, message: Any) -> None:
        self._mood = message.data
        self._tell(self._mood)

    def _on_goal(self, request: Any) -> GoalResponse:
        is_busy = self._mood == "busy" and self._active is not None
        if self._mood == "refusing" or is_busy:
            self._tell("refused", **numbers(request))
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        self._tell("goal", name(handle), **numbers(handle.request))
        self._ends[name(handle)] = Future(executor=self.executor)
        before, self._active = self._active, handle
        self._until_s = time.monotonic() + self._takes_s
        if self._mood == "parallel":
            self._others.append(handle)
        elif before is not None and self._mood != "stubborn":
            self._end(before, "replaced")
        handle.execute()
        if self._mood == "failing":
            self._end(handle, "aborted")

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        if self._mood == "stubborn":
            self._tell("kept", name(handle))
            return CancelResponse.REJECT
        self._tell("cancel", name(handle))
        return CancelResponse.ACCEPT

    def _look(self) -> None:
        """End the goal that is worked on, if it is time for that."""
        for other in self._others:
            if other.is_active and other.is_cancel_requested:
                self._end(other, "canceled")
        handle = self._active
        if handle is None:
            return
        if handle.is_cancel_requested:
            self._end(handle, "canceled")
        elif time.monotonic() > self._until_s:
            self._end(handle, "done")

    def _end(self, handle: ServerGoalHandle, how: str) -> None:
        if handle is self._active:
            self._active = None
        if not (end := self._ends[name(handle)]).done():
            end.set_result(how)

    async def _execute(self, handle: ServerGoalHandle) -> Any:
        how = await self._ends[name(handle)]
        result = self._kind.Result()
        if how == "done":
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        if how == "aborted" and hasattr(result, "error_string"):
            result.error_string = TROUBLE
        self._tell(how, name(handle))
        return result


def name(handle: ServerGoalHandle) -> str:
    return bytes(handle.goal_id.uuid).hex()


def numbers(request: Any) -> dict[str, Any]:
    """The numbers of a goal, and what else of it must be right."""
    if hasattr(request, "command"):
        return {"values": [request.command.position, request.command.max_effort]}
    (point,) = request.trajectory.points
    reached = point.time_from_start
    return {
        "values": list(point.positions),
        "joints": list(request.trajectory.joint_names),
        "within_s": reached.sec + reached.nanosec / 1e9,
    }


if __name__ == "__main__":
    sys.exit(run(Controller, SingleThreadedExecutor))
