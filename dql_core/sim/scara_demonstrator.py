"""A scripted operator of the SCARA arm, as imperfect as people are.

Each episode it goes one of the two ways round the post at random. It hurries or dawdles, its hand
trembles, it sometimes cuts the corner and sometimes stops beside the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.policy import Committed, Decision
from dql_core.sim.scara import (
    CONTROL_PERIOD_S,
    PEG_RADIUS,
    POST_CENTRE,
    POST_RADIUS,
    tip_jacobian,
    tip_position,
)
from dql_core.spec import PolicySpec

INNER_SHARE = 0.5
CLEARANCE_M = 0.014  # mean distance between peg and post that the operator aims at
CLEARANCE_SPREAD_M = 0.022
SPEED_M_S = 0.30
SPEED_SPREAD = 0.25  # standard deviation of the logarithm
DAWDLING_SHARE = 0.12
DAWDLING_SPEED_M_S = 0.11
MISSING_SHARE = 0.08
MISS_M = 0.045  # how far beside the target the hand stops
TREMBLE_M_S = 0.06
TREMBLE_TIME_S = 0.25
LOOK_AHEAD_M = 0.05
DAMPING = 1e-3  # of the inverse Jacobian, in m^2


@dataclass(frozen=True)
class Plan:
    """What the operator means to do in one episode.

    Attributes:
        target: The target that was seen when the plan was made, shape (2,).
        corners: Corners of the intended path, the first behind the tool, shape (n, 2), in m.
        speed: Along the path, in m/s.
    """

    target: NDArray[np.float64]
    corners: NDArray[np.float64]
    speed: float


class ScaraDemonstrator:
    """Commands joint velocities that lead the tool round the post; a `Policy`.

    It knows of a new episode only by a new target, as a node on the robot's topics does.

    Attributes:
        spec: What observation and action mean.
    """

    horizon = 1

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._plan: Plan | None = None
        self._tremble = np.zeros(2)

    def reset(self) -> None:
        """Make a new plan with the next observation."""
        self._plan = None

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        """Follow the plan for one control period.

        Args:
            observation: Joint angles and target, shape (4,).
            rng: Source of the plan and of the hand's tremble.
            committed: Not used: a single action is free.
        """
        joints, target = observation[:2].astype(np.float64), observation[2:].astype(np.float64)
        tip = tip_position(joints)
        if self._plan is None or not np.array_equal(self._plan.target, target):
            self._plan = _make_plan(tip, target, rng)
            self._tremble = np.zeros(2)
        velocity = follow(self._plan, tip) + self._next_tremble(rng)
        action = joint_velocities(joints, velocity, self.spec.action_high)
        return Decision(action, np.zeros(1, dtype=np.float32), action[None])

    def _next_tremble(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Ornstein-Uhlenbeck noise on the tool's velocity, shape (2,), in m/s."""
        kept = np.exp(-CONTROL_PERIOD_S / TREMBLE_TIME_S)
        fresh = TREMBLE_M_S * np.sqrt(1.0 - kept**2) * rng.standard_normal(2)
        self._tremble = kept * self._tremble + fresh
        return self._tremble


def _make_plan(
    tip: NDArray[np.float64], target: NDArray[np.float64], rng: np.random.Generator
) -> Plan:
    """Choose a way from the tool to the target, a clearance, a speed and where to stop."""
    side = -1.0 if rng.random() < INNER_SHARE else 1.0  # inner way: nearer to the base
    clearance = rng.normal(CLEARANCE_M, CLEARANCE_SPREAD_M)
    speed = SPEED_M_S * np.exp(SPEED_SPREAD * rng.standard_normal())
    if rng.random() < DAWDLING_SHARE:
        speed = DAWDLING_SPEED_M_S
    stop = target
    if rng.random() < MISSING_SHARE:
        angle = rng.uniform(0.0, 2.0 * np.pi)
        stop = target + MISS_M * np.array([np.cos(angle), np.sin(angle)])
    return Plan(target, np.array([tip, *corners_past_post(side, clearance), stop]), float(speed))


def corners_past_post(side: float, clearance: float) -> list[tuple[float, float]]:
    """The corners of the way past the post, x and y in m, in the order in which they come.

    Args:
        side: -1 between base and post, 1 beyond the post.
        clearance: Distance between peg and post, in m.
    """
    beside = float(POST_CENTRE[0] + side * (POST_RADIUS + PEG_RADIUS + clearance))
    return [(beside, float(POST_CENTRE[1]) + POST_RADIUS * end) for end in (-1, 1)]


def follow(plan: Plan, tip: NDArray[np.float64]) -> NDArray[np.float64]:
    """Velocity towards a point a little ahead on the intended path, shape (2,), in m/s."""
    segments = np.diff(plan.corners, axis=0)  # (n - 1, 2)
    lengths = np.linalg.norm(segments, axis=1)
    along = np.einsum("ij,ij->i", tip - plan.corners[:-1], segments) / lengths**2
    nearest = plan.corners[:-1] + np.clip(along, 0.0, 1.0)[:, None] * segments
    segment = int(np.linalg.norm(tip - nearest, axis=1).argmin())
    position = lengths[:segment].sum() + np.clip(along[segment], 0.0, 1.0) * lengths[segment]
    arc = np.concatenate([[0.0], np.cumsum(lengths)])
    ahead = min(position + LOOK_AHEAD_M, arc[-1])
    carrot = np.array([np.interp(ahead, arc, plan.corners[:, axis]) for axis in (0, 1)])
    offset = carrot - tip
    distance = float(np.linalg.norm(offset))
    velocity: NDArray[np.float64] = plan.speed * offset / max(distance, LOOK_AHEAD_M / 2)
    return velocity


def joint_velocities(
    joints: NDArray[np.float64], velocity: NDArray[np.float64], limits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Joint velocities that move the tool so, shape (2,) in rad/s.

    Both joints are slowed alike, so that the direction is kept.

    Args:
        joints: Shoulder and elbow angle in rad, shape (2,).
        velocity: Of the tool, shape (2,), in m/s.
        limits: Largest velocity of each joint, shape (2,), in rad/s.
    """
    jacobian = tip_jacobian(joints)
    damped = jacobian @ jacobian.T + DAMPING * np.eye(2)
    wanted = jacobian.T @ np.linalg.solve(damped, velocity)
    excess = float(np.max(np.abs(wanted) / limits))
    return (wanted / max(excess, 1.0)).astype(np.float32)
