"""Which actuator of a MuJoCo model a field of the action moves."""

from __future__ import annotations

from typing import Any, Literal

import mujoco

from dql_core.errors import SimulationError, did_you_mean
from dql_core.sim.model_quantities import JOINT_ARRAYS, joint_index, names_of
from dql_ros.contract import Element, FieldSelection

Servo = Literal["position", "velocity", "effort"]


def actuator_of(model: Any, selection: FieldSelection, element: Element, name: str) -> int:
    """Return the number of the actuator that a field of the action moves."""
    if selection.rotation is not None:
        raise SimulationError(f"action '{name}' is a rotation, which no actuator takes")
    if isinstance(element.key, str):
        return _joint_actuator(model, element.key, element.path.rsplit(".", 1)[-1])
    index = int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_ACTUATOR, name))
    if index < 0:
        hint = did_you_mean(name, names_of(model, "actuator"))
        raise SimulationError(
            f"the model has no actuator '{name}'{hint}: give the action's field the actuator's "
            f"name by 'names' in the contract"
        )
    return index


def _joint_actuator(model: Any, joint: str, array: str) -> int:
    """Return the one actuator on a joint that takes what the array holds."""
    index = joint_index(model, joint)
    on_joint = [
        actuator
        for actuator in range(model.nu)
        if model.actuator_trntype[actuator] == int(mujoco.mjtTrn.mjTRN_JOINT)
        and model.actuator_trnid[actuator, 0] == index
    ]
    wanted = JOINT_ARRAYS.get(array, "effort")
    fitting = [actuator for actuator in on_joint if _servo(model, actuator) == wanted]
    if len(fitting) != 1:
        present = [f"{model.actuator(a).name or a} ({_servo(model, a)})" for a in on_joint]
        raise SimulationError(
            f"joint '{joint}' of the model has {len(fitting)} actuators that take a {wanted}, "
            f"where there must be 1 (on the joint: {', '.join(present) or 'none'})"
        )
    return fitting[0]


def _servo(model: Any, actuator: int) -> Servo:
    """Tell what an actuator's control is, by its feedback: of position, of velocity, or none."""
    if model.actuator_biastype[actuator] == int(mujoco.mjtBias.mjBIAS_NONE):
        return "effort"
    _, position, velocity = model.actuator_biasprm[actuator, :3]
    if position:
        return "position"
    return "velocity" if velocity else "effort"
