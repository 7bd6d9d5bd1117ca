"""Whether a simulation's physics can be believed: what MuJoCo warns of ends the episode as failed.

MuJoCo resets an unstable simulation by itself, in the middle of an episode, and says so in a file
in the working folder. Here its warnings go to the log instead.
"""

from __future__ import annotations

import logging
from typing import Any

import gymnasium
import mujoco

from dql_core.sim import FAILURE_KEY

_logger = logging.getLogger(__name__)
# What each of MuJoCo's warnings means; the others are called by their names.
_MEANINGS = {
    "INERTIA": "an inertia matrix is close to singular",
    "CONTACTFULL": "there are more contacts than memory, and some are left out",
    "CNSTRFULL": "there are more constraints than memory, and some are left out",
    "BADQPOS": "a position is not finite or too large",
    "BADQVEL": "a velocity is not finite or too large",
    "BADQACC": "an acceleration is not finite or too large",
    "BADCTRL": "a control is not finite or too large",
}
_REMEDY = "use a smaller time step, softer actuators or closer bounds of the action"


class PhysicsWatch(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends an episode as failed when MuJoCo warns.

    The episode is then truncated, since the task itself did not end it; ``info`` has
    ``is_success`` false and under ``failure`` what happened. The observation is the last sound
    one: what MuJoCo shows by then is of no robot.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._bare: Any = env.unwrapped
        self._observation: Any = None
        self._known: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        # An environment that sets the state itself may leave those of the episode before.
        self._known = self._bare.data.warning.number.copy()
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and look at MuJoCo's warnings."""
        before_s = float(self._bare.data.time)
        observation, reward, terminated, truncated, info = self.env.step(action)
        failure = find_failure(self._bare.model, self._bare.data, before_s, self._known)
        if failure:
            ended = {**info, "is_success": False, FAILURE_KEY: failure}
            return self._observation, 0.0, False, True, ended
        self._observation = observation
        return observation, reward, bool(terminated), bool(truncated), info


def watch_physics(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return ``env``, watched if MuJoCo simulates it, whose warnings then go to the log."""
    bare: Any = env.unwrapped
    is_simulated = isinstance(getattr(bare, "data", None), mujoco.MjData)
    is_simulated &= isinstance(getattr(bare, "model", None), mujoco.MjModel)
    if not is_simulated:
        return env
    log_warnings()
    return PhysicsWatch(env)


def find_failure(model: Any, data: Any, time_s: float, known: Any) -> str:
    """Return what MuJoCo has warned of since the episode began, as a clause; empty if of nothing.

    Args:
        model: The ``mujoco.MjModel``.
        data: The ``mujoco.MjData``.
        time_s: When the last step began.
        known: How often it had warned of what when the episode began, shape (W,).
    """
    counts = data.warning.number
    # When MuJoCo resets the simulation by itself, it also counts anew.
    was_reset = float(data.time) < time_s
    new = counts > (0 if was_reset else known)
    if not new.any():
        return ""
    index = int(new.argmax())
    name = mujoco.mjtWarning(index).name.removeprefix("mjWARN_")
    where = _joint(model, name, int(data.warning[index].lastinfo))
    return (
        f"the physics was lost after {time_s:.3f} s: MuJoCo warns {name}: "
        f"{_MEANINGS.get(name, 'see its documentation')}{where}; {_REMEDY}"
    )


def log_warnings() -> None:
    """Let MuJoCo's warnings go to the log, not to MUJOCO_LOG.TXT in the working folder."""
    mujoco.set_mju_user_warning(_log)


def _log(text: str) -> None:
    _logger.debug("MuJoCo: %s", text)


def _joint(model: Any, warning: str, index: int) -> str:
    """Name the joint that a warning is about, if it is about one."""
    if warning == "BADQPOS" and 0 <= index < model.nq:
        joint = int((model.jnt_qposadr <= index).sum()) - 1
    elif warning in {"BADQVEL", "BADQACC"} and 0 <= index < model.nv:
        joint = int(model.dof_jntid[index])
    else:
        return ""
    return f" (joint '{model.joint(joint).name or joint}')"
