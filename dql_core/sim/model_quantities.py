"""Numbers that a MuJoCo model's sensors, joints, sites and bodies have, found by name.

Angles are in rad, lengths in m; quaternions are x, y, z, w as in ROS (MuJoCo stores w first).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import mujoco
import numpy as np

from dql_core.errors import SimulationError, did_you_mean

# Reads one number of a simulated instant; its argument is a ``mujoco.MjData``.
Reader = Callable[[Any], float]
ObjectKind = Literal["site", "body", "sensor"]
JointQuantity = Literal["position", "velocity", "effort"]

# What the arrays of joint messages are called.
JOINT_ARRAYS: dict[str, JointQuantity] = {
    "position": "position",
    "positions": "position",
    "velocity": "velocity",
    "velocities": "velocity",
    "effort": "effort",
}
_SCALAR_JOINTS = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
_OBJECT_TYPES = {
    "site": mujoco.mjtObj.mjOBJ_SITE,
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "sensor": mujoco.mjtObj.mjOBJ_SENSOR,
}


@dataclass(frozen=True)
class ModelObject:
    """A named part of a model.

    Attributes:
        kind: What it is.
        name: Its name.
        id: Its number among those of its kind.
    """

    kind: ObjectKind
    name: str
    id: int


def names_of(model: Any, kind: str) -> tuple[str, ...]:
    """Return the names of a model's parts of a kind such as ``joint`` or ``actuator``."""
    counts = {"joint": model.njnt, "actuator": model.nu, "site": model.nsite}
    counts |= {"body": model.nbody, "sensor": model.nsensor, "camera": model.ncam}
    found = (getattr(model, kind)(index).name for index in range(counts[kind]))
    return tuple(name for name in found if name)


def find_object(model: Any, name: str, kinds: Iterable[ObjectKind]) -> ModelObject | None:
    """Return the first of ``kinds`` that is called ``name``."""
    for kind in kinds:
        index = mujoco.mj_name2id(model, _OBJECT_TYPES[kind], name)
        if index >= 0:
            return ModelObject(kind, name, index)
    return None


def joint_reader(model: Any, joint: str, quantity: JointQuantity) -> Reader:
    """Return what reads a hinge's or slide's position, velocity or actuator force.

    Raises:
        SimulationError: If there is no such joint, or it has more than one degree of freedom.
    """
    index = joint_index(model, joint)
    if model.jnt_type[index] not in _SCALAR_JOINTS:
        raise SimulationError(
            f"joint '{joint}' of the model is free or a ball and has no single position: show its "
            f"body by a pose"
        )
    dof, position = int(model.jnt_dofadr[index]), int(model.jnt_qposadr[index])
    if quantity == "position":
        return lambda data: float(data.qpos[position])
    if quantity == "velocity":
        return lambda data: float(data.qvel[dof])
    return lambda data: float(data.qfrc_actuator[dof])


def joint_index(model: Any, joint: str) -> int:
    """Return the number of a joint.

    Raises:
        SimulationError: With the nearest name, if there is none.
    """
    index = int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint))
    if index < 0:
        hint = did_you_mean(joint, names_of(model, "joint"))
        raise SimulationError(f"the model has no joint '{joint}'{hint}")
    return index


def position_reader(found: ModelObject, axis: int) -> Reader:
    """Return what reads a coordinate of a site or body in the world."""
    if found.kind == "site":
        return lambda data: float(data.site_xpos[found.id, axis])
    return lambda data: float(data.xpos[found.id, axis])


def quaternion_reader(found: ModelObject, part: int) -> Reader:
    """Return what reads x, y, z or w (0 to 3) of a site's or body's rotation to the world."""
    at = (part + 1) % 4
    if found.kind == "body":
        return lambda data: float(data.xquat[found.id, at])

    def read(data: Any) -> float:
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[found.id])
        return float(quaternion[at])

    return read


def velocity_reader(model: Any, found: ModelObject, axis: int, *, local: bool) -> Reader:
    """Return what reads one of a site's or body's velocities.

    Args:
        model: The model.
        found: The site or body.
        axis: 0 to 2 for the angular velocity about x, y, z; 3 to 5 for the linear one.
        local: In its own frame, rather than the world's.
    """
    kind = mujoco.mjtObj.mjOBJ_SITE if found.kind == "site" else mujoco.mjtObj.mjOBJ_XBODY

    def read(data: Any) -> float:
        velocity = np.empty(6)
        mujoco.mj_objectVelocity(model, data, kind, found.id, velocity, int(local))
        return float(velocity[axis])

    return read


def sensor_reader(model: Any, sensor: ModelObject, index: int) -> Reader:
    """Return what reads element ``index`` of a sensor.

    Raises:
        SimulationError: If the sensor has fewer elements.
    """
    width = int(model.sensor_dim[sensor.id])
    if index >= width:
        raise SimulationError(
            f"sensor '{sensor.name}' of the model has {width} numbers, no index {index}"
        )
    at = int(model.sensor_adr[sensor.id]) + index
    return lambda data: float(data.sensordata[at])


def attached_sensor(model: Any, found: ModelObject, kind: str) -> ModelObject | None:
    """Return the sensor of a kind such as ``gyro`` on a site, or on one of a body's sites."""
    wanted = int(getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}"))
    for index in range(model.nsensor):
        if model.sensor_type[index] != wanted:
            continue
        on = int(model.sensor_objid[index])
        carrier = on if found.kind == "site" else int(model.site_bodyid[on])
        if carrier == found.id:
            return ModelObject("sensor", model.sensor(index).name, index)
    return None
