"""A scripted operator who watches a policy drive the SCARA arm and takes over if it goes wrong.

As a person does who gates a policy (HG-DAgger, Kelly et al. 2019, arXiv 1810.02890): the operator
lets it drive until the tool is about to hit the post or gets no nearer to the target, and then
drives to the target with a steady hand.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.policy import Committed, Decision
from dql_core.sim.scara import PEG_RADIUS, POST_CENTRE, POST_RADIUS, tip_position
from dql_core.sim.scara_demonstrator import (
    SPEED_M_S,
    Plan,
    corners_past_post,
    follow,
    joint_velocities,
)
from dql_core.spec import PolicySpec

CLEARANCE_M = 0.03  # distance between peg and post that the operator keeps
MARGIN_M = 0.015  # the peg must not be about to come nearer to the post
FORESIGHT_TICKS = 2.0  # for so long the tool is taken to go on as it goes
PATIENCE_TICKS = 8
PROGRESS_M = 0.03  # by so much the tool must come nearer to the target in that time


class ScaraWatcher:
    """Says at each tick whether to take over, and what to command then; a `Policy`.

    It knows of a new episode only by a new target, as a node on the robot's topics does, and then
    lets go. Its action is the joint velocities, and 1 while it takes over, else 0; shape (3,).

    Attributes:
        spec: What observation and action mean; the last field of the action is the switch.
    """

    horizon = 1

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._target: NDArray[np.float64] | None = None
        self._plan: Plan | None = None
        self._seen: deque[NDArray[np.float64]] = deque(maxlen=PATIENCE_TICKS + 1)

    def reset(self) -> None:
        """Watch as in a new episode."""
        self._target = None

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        """Look on, or drive, for one control period.

        Args:
            observation: Joint angles and target, shape (4,).
            rng: Not used: nothing is drawn.
            committed: Not used: a single action is free.
        """
        joints, target = observation[:2].astype(np.float64), observation[2:].astype(np.float64)
        tip = tip_position(joints)
        if self._target is None or not np.array_equal(self._target, target):
            self._target, self._plan = target, None
            self._seen.clear()
        self._seen.append(tip)
        if self._plan is None and self._goes_wrong(target):
            self._plan = _plan_from(tip, target)
        velocities, switch = np.zeros(2, dtype=np.float32), 0.0
        if self._plan is not None:
            limits = self.spec.action_high[:2]
            velocities = joint_velocities(joints, follow(self._plan, tip), limits)
            switch = 1.0
        action = np.array([*velocities, switch], dtype=np.float32)
        return Decision(action, np.zeros(1, dtype=np.float32), action[None])

    def _goes_wrong(self, target: NDArray[np.float64]) -> bool:
        """Whether the tool is about to hit the post, or has come no nearer to the target."""
        if len(self._seen) < 2:
            return False
        before, tip = self._seen[-2], self._seen[-1]
        soon = tip + FORESIGHT_TICKS * (tip - before)
        gap = _distance(POST_CENTRE, tip, soon) - POST_RADIUS - PEG_RADIUS
        progress = np.linalg.norm(self._seen[0] - target) - np.linalg.norm(tip - target)
        is_stuck = len(self._seen) == self._seen.maxlen and progress < PROGRESS_M
        return bool(gap < MARGIN_M or is_stuck)


def _plan_from(tip: NDArray[np.float64], target: NDArray[np.float64]) -> Plan:
    """Lead the tool past the post on the side on which it is, without a detour backwards."""
    side = -1.0 if tip[0] < POST_CENTRE[0] else 1.0
    corners = [c for c in corners_past_post(side, CLEARANCE_M) if c[1] > tip[1]]
    return Plan(target, np.array([tip, *corners, target]), SPEED_M_S)


def _distance(
    point: NDArray[np.float64], begin: NDArray[np.float64], end: NDArray[np.float64]
) -> float:
    """Distance of a point from the line from ``begin`` to ``end``, all of shape (2,)."""
    way = end - begin
    length = float(way @ way)
    share = float(np.clip((point - begin) @ way / length, 0.0, 1.0)) if length else 0.0
    return float(np.linalg.norm(point - begin - share * way))
