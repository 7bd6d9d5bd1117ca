"""A Gymnasium environment of any MuJoCo model: no task, only the robot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from dql_core.errors import SimulationError, did_you_mean, one_line
from dql_core.sim.physics import log_warnings

Vector = NDArray[np.float64]
_SCALAR_JOINTS = [int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)]


class ModelEnv(gymnasium.Env[Vector, Vector]):
    """Steps a model; its rewards are 0 and its episodes end only by a time limit.

    An episode begins in the model's own start, or with ``reset(options={"keyframe": name})`` in
    one of its keyframes; where there is ``reset_noise_scale``, that far from it at most.

    Attributes:
        model: The ``mujoco.MjModel``.
        data: The ``mujoco.MjData``.
        dt: Control period in seconds.

    Args:
        model: The model.
        observe: Gives the observation, shape (O,), of a ``mujoco.MjData``.
        width: Length O.
        control: Gives the control of each actuator in ``actuators`` for an action, shape (A,).
        actuators: Numbers of the actuators that are controlled.
        action_low: Smallest action, shape (A,).
        action_high: Largest action, shape (A,).
        period_s: Control period in seconds.
        reset_noise_scale: Each hinge and slide joint begins up to so many rad or m from its
            start, drawn evenly by the seed of the reset and kept within the joint's range.

    Raises:
        SimulationError: If the control period is not a multiple of the model's time step.
    """

    def __init__(
        self,
        model: Any,
        observe: Callable[[Any], Vector],
        width: int,
        control: Callable[[Vector], Vector],
        actuators: Sequence[int],
        action_low: NDArray[Any],
        action_high: NDArray[Any],
        period_s: float,
        reset_noise_scale: float = 0.0,
    ) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.dt = period_s
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float64)
        self.action_space = gymnasium.spaces.Box(
            action_low.astype(np.float64), action_high.astype(np.float64), dtype=np.float64
        )
        self._observe = observe
        self._control = control
        self._actuators = np.array(actuators, dtype=np.intp)
        self._reset_noise_scale = reset_noise_scale
        self._substeps = _substeps(period_s, float(model.opt.timestep))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, dict[str, Any]]:
        """Go back to the start, or to the keyframe that ``options`` names."""
        super().reset(seed=seed)
        keyframe = (options or {}).get("keyframe", "")
        if keyframe:
            mujoco.mj_resetDataKeyframe(
                self.model, self.data, keyframe_index(self.model, keyframe)
            )
        else:
            mujoco.mj_resetData(self.model, self.data)
        if self._reset_noise_scale:
            self._move_joints()
        mujoco.mj_forward(self.model, self.data)
        return self._observe(self.data), {}

    def _move_joints(self) -> None:
        model, scale = self.model, self._reset_noise_scale
        moving = np.isin(model.jnt_type, _SCALAR_JOINTS)
        places = model.jnt_qposadr[moving]
        moved = self.data.qpos[places] + self.np_random.uniform(-scale, scale, len(places))
        low, high = model.jnt_range[moving].T
        limited = model.jnt_limited[moving].astype(bool)
        self.data.qpos[places] = np.where(limited, np.clip(moved, low, high), moved)

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Hold an action, shape (A,), for one control period."""
        self.data.ctrl[self._actuators] = self._control(np.asarray(action, dtype=np.float64))
        mujoco.mj_step(self.model, self.data, self._substeps)
        # A step leaves positions and sensors one time step behind the state.
        mujoco.mj_forward(self.model, self.data)
        return self._observe(self.data), 0.0, False, False, {}


def load_model(path: Path) -> Any:
    """Compile an MJCF file into a ``mujoco.MjModel``.

    Raises:
        SimulationError: If there is no such file or MuJoCo refuses it, with its reason.
    """
    if not path.is_file():
        raise SimulationError(f"{path}: no such file; give a Gymnasium id or an MJCF file (.xml)")
    log_warnings()
    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as cause:
        raise SimulationError(f"{path}: MuJoCo refuses it: {one_line(cause)}") from cause


def keyframe_index(model: Any, name: str) -> int:
    """Return the number of a model's keyframe, given its name or number.

    Raises:
        SimulationError: If there is none.
    """
    index = int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_KEY, name))
    if index < 0 and name.isdigit() and int(name) < model.nkey:
        index = int(name)
    if index < 0:
        known = [model.key(number).name or str(number) for number in range(model.nkey)]
        hint = did_you_mean(name, known) if known else " (it has none)"
        raise SimulationError(f"the model has no keyframe '{name}'{hint}")
    return index


def _substeps(period_s: float, timestep_s: float) -> int:
    substeps = round(period_s / timestep_s)
    if substeps < 1 or abs(substeps * timestep_s - period_s) > 1e-9:
        raise SimulationError(
            f"the control period of {period_s:g} s is not a multiple of the model's time step of "
            f"{timestep_s:g} s: change <option timestep=…> in the MJCF file or the contract's "
            f"'rate_hz'"
        )
    return substeps
