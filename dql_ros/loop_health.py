"""Whether a control loop is well, in a level and a sentence; knows no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dql_core.runtime.controller import State
from dql_ros.diagnostic_level import Level

INACTIVE = "inactive"

_LEVELS = {State.RUNNING.value: 0, INACTIVE: 0, State.WAITING.value: 1, State.PAUSED.value: 1}
_ASKED_FOR = {
    State.STOPPED.value: "stopped by ~/stop: the safe command is sent; ~/reset_stop ends that",
    State.PAUSED.value: "paused: the safe command is sent; ~/resume ends that",
}


@dataclass(frozen=True)
class Health:
    """How a loop stands.

    Attributes:
        state: The controller's state, or ``inactive``.
        level: How bad that is.
        message: Why, in a sentence; the state itself if there is nothing to add.
    """

    state: str
    level: Level
    message: str


class HealthJudge:
    """Judges a loop by how it stands and by what its guards did since it was judged last."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._counts: dict[str, int] = {}

    def judge(
        self,
        state: str,
        fault: str,
        counts: Mapping[str, int],
        remarks: list[str],
        danger: str = "",
    ) -> Health:
        """Return how the loop stands.

        Args:
            state: The controller's state, or ``inactive``.
            fault: Why no action is sent, if one should be; or why the node has given up.
            counts: Objections of the guards and other incidents so far, by name.
            remarks: What else is wrong, a clause each.
            danger: What is an error in any state; empty if nothing is.
        """
        health = self._without_danger(state, fault, counts, remarks)
        if not danger or danger in health.message:
            return health
        return Health(state, Level.ERROR, f"{danger}; {health.message}")

    def _without_danger(
        self, state: str, fault: str, counts: Mapping[str, int], remarks: list[str]
    ) -> Health:
        since = [
            f"{name.replace('_', ' ')} {count - self._counts.get(name, 0)} times"
            for name, count in counts.items()
            if count > self._counts.get(name, 0)
        ]
        self._counts = dict(counts)
        if state in _ASKED_FOR:
            return Health(state, Level(_LEVELS.get(state, 2)), _ASKED_FOR[state])
        if fault:
            level = Level.WARN if _LEVELS.get(state) == 1 else Level.ERROR
            return Health(state, level, "; ".join([fault, *remarks]))
        if state == INACTIVE:
            return Health(state, Level.WARN if remarks else Level.OK, "; ".join([state, *remarks]))
        incidents = [*remarks, *([f"since the last report: {', '.join(since)}"] if since else [])]
        level = max(Level(_LEVELS.get(state, 2)), Level.WARN if incidents else Level.OK)
        return Health(state, level, "; ".join([state, *incidents]))
