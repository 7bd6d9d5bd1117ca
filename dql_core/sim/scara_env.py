"""The demo robot: a SCARA arm in MuJoCo that must reach a target past a post, either way round."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from dql_core.sim.physics import log_warnings
from dql_core.sim.scara import (
    CONTROL_PERIOD_S,
    MODEL_FILE,
    REGION_HALF_WIDTH,
    START_CENTRE,
    SUCCESS_RADIUS,
    TARGET_CENTRE,
    Way,
    joints_at,
    way_past_post,
)

MAX_JOINT_VELOCITY = 2.0  # rad/s

# The return is about +5.5 for the short way, +4 for the long one, -14 for a collision and
# -17 for a timeout.
STEP_COST = 0.5
PROGRESS_REWARD = 10.0  # per m nearer to the target
SUCCESS_REWARD = 10.0
COLLISION_COST = 10.0


class ScaraReachEnv(gymnasium.Env[NDArray[np.float64], NDArray[np.float64]]):
    """Reach a target on the table past a post, between base and post or beyond the post.

    Observation, float64 (4,): shoulder and elbow angle (rad), target x and y (m). Joint velocities
    are left out on purpose: they show the last command, and imitating that is how a policy learns
    to stay where it is. Action, float64 (2,): shoulder and elbow velocity (rad/s), held for
    0.1 s.

    The reward is ``10 * progress`` towards the target in m, minus 0.5 a step; plus 10 on arrival,
    minus 10 when the tool hits the post. Both end the episode (``terminated``). The registered
    time limit of 40 steps truncates it. ``info`` has ``is_success``, ``collision`` and ``way``:
    on which side the tool passed the post (``"inner"``, ``"outer"``, or ``None`` so far).
    It draws no pictures; `ScaraCamera` does.
    """

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = gymnasium.spaces.Box(
            -MAX_JOINT_VELOCITY, MAX_JOINT_VELOCITY, (2,), np.float64
        )
        log_warnings()
        self.model = mujoco.MjModel.from_xml_path(str(MODEL_FILE))
        self.data = mujoco.MjData(self.model)
        self._substeps = round(CONTROL_PERIOD_S / self.model.opt.timestep)
        self._target = TARGET_CENTRE.copy()
        self._distance = 0.0
        self._way: Way | None = None

    @property
    def tip(self) -> NDArray[np.float64]:
        """Where the tool is on the table: x and y in m, shape (2,)."""
        tip: NDArray[np.float64] = self.data.site("tip").xpos[:2].copy()
        return tip

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Draw start and target; the same ``seed`` gives the same episode."""
        super().reset(seed=seed)
        start, self._target = (
            centre + self.np_random.uniform(-REGION_HALF_WIDTH, REGION_HALF_WIDTH, 2)
            for centre in (START_CENTRE, TARGET_CENTRE)
        )
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = joints_at(start)
        self.data.mocap_pos[0, :2] = self._target
        mujoco.mj_forward(self.model, self.data)
        self._distance = self._distance_to_target()
        self._way = None
        return self._observation(), self._info(is_success=False, collision=False)

    def step(
        self, action: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Command joint velocities, shape (2,) in rad/s, for one control period."""
        before = self.tip
        collision = self._advance(np.asarray(action, dtype=np.float64))
        if self._way is None:
            self._way = way_past_post(before, self.tip)
        distance = self._distance_to_target()
        is_success = distance < SUCCESS_RADIUS and not collision
        reward = PROGRESS_REWARD * (self._distance - distance) - STEP_COST
        reward += SUCCESS_REWARD * is_success - COLLISION_COST * collision
        self._distance = distance
        info = self._info(is_success=is_success, collision=collision)
        return self._observation(), reward, is_success or collision, False, info

    def _advance(self, command: NDArray[np.float64]) -> bool:
        """Simulate one control period; return whether the tool touched the post in it."""
        self.data.ctrl[:] = command
        collision = False
        for _ in range(self._substeps):
            mujoco.mj_step(self.model, self.data)
            collision = collision or self.data.ncon > 0
        mujoco.mj_kinematics(self.model, self.data)  # a step leaves positions one substep behind
        return collision

    def _distance_to_target(self) -> float:
        return float(np.linalg.norm(self.tip - self._target))

    def _observation(self) -> NDArray[np.float64]:
        return np.concatenate([self.data.qpos, self._target])

    def _info(self, *, is_success: bool, collision: bool) -> dict[str, Any]:
        return {"is_success": is_success, "collision": collision, "way": self._way}
