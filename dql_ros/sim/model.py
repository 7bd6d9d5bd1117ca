"""A robot given as an MJCF file, behind a contract: which of the model's numbers are which fields.

Joints are found by the names in the contract. A pose, point, twist or sensor topic shows the site,
body or sensor with the last part of the topic's name, or the part before it (``tool/pose`` shows
``tool``); the contract's key ``sim`` names another. A command moves the actuator of its joint, or
the one that is named like its field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import mujoco
import numpy as np
from numpy.typing import NDArray

from dql_core.errors import SimulationError, did_you_mean
from dql_core.sim.model_env import ModelEnv, load_model
from dql_core.sim.model_quantities import (
    JOINT_ARRAYS,
    ModelObject,
    ObjectKind,
    Reader,
    attached_sensor,
    find_object,
    joint_index,
    joint_reader,
    names_of,
    position_reader,
    quaternion_reader,
    sensor_reader,
    velocity_reader,
)
from dql_ros.codecs.transform import StreamTransform
from dql_ros.contract import Contract, Element, FieldSelection, ObservationStream
from dql_ros.contract.field import split_path

_KINDS: tuple[ObjectKind, ...] = ("site", "body", "sensor")
_POSITIONS = ("position", "point", "translation")
_ROTATIONS = ("orientation", "rotation")
# Where the parts of a velocity begin in MuJoCo's six numbers.
_VELOCITIES = {"angular": 0, "angular_velocity": 0, "linear": 3}
# Sensors on a site that measure what a message's field of this name holds.
_MEASURED = {
    "angular_velocity": "gyro",
    "linear_acceleration": "accelerometer",
    "force": "force",
    "torque": "torque",
    "magnetic_field": "magnetometer",
}
Servo = Literal["position", "velocity", "effort"]


def open_model(path: Path, contract: Contract, reset_noise_scale: float = 0.0) -> ModelEnv:
    """Make the environment of an MJCF file that has the vectors of ``contract``.

    ``reset_noise_scale`` is that of `ModelEnv`.

    Raises:
        SimulationError: If the model lacks what the contract names, with the nearest names.
    """
    model = load_model(path)
    observe = _Observe(model, contract)
    control = _Control(model, contract)
    spec = contract.policy_spec()
    return ModelEnv(
        model,
        observe,
        len(spec.observation),
        control,
        control.actuators,
        spec.action_low,
        spec.action_high,
        contract.period_ns / 1e9,
        reset_noise_scale,
    )


class _Observe:
    """The observation, in the contract's units, of a simulated instant."""

    def __init__(self, model: Any, contract: Contract) -> None:
        self._streams = [
            (StreamTransform(stream.fields), list(_stream_readers(model, stream)))
            for stream in contract.observation
        ]

    def __call__(self, data: Any) -> NDArray[np.float64]:
        return np.concatenate(
            [
                transform.decode(np.array([[read(data) for read in readers]], np.float64))[0]
                for transform, readers in self._streams
            ]
        )


class _Control:
    """The actuators' controls for an action in the contract's units."""

    def __init__(self, model: Any, contract: Contract) -> None:
        self._streams = [StreamTransform(stream.fields) for stream in contract.action]
        self._kept: list[int] = []
        self.actuators: list[int] = []
        start = 0
        for stream in contract.action:
            for selection in stream.fields:
                names = [spec.name for spec in selection.fields(stream.topic)]
                for element, name in zip(selection.read_elements, names, strict=False):
                    actuator = actuator_of(model, selection, element, name)
                    if actuator in self.actuators:
                        raise SimulationError(
                            f"{stream.topic}: two fields of the action move actuator {actuator}"
                            f" ('{name}' is the second)"
                        )
                    self._kept.append(start + selection.read_elements.index(element))
                    self.actuators.append(actuator)
                start += len(selection.elements)

    def __call__(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        numbers, start = [], 0
        for transform in self._streams:
            numbers.append(transform.encode(action[start : start + transform.width]))
            start += transform.width
        return np.concatenate(numbers)[self._kept]


def _stream_readers(model: Any, stream: ObservationStream) -> Iterator[Reader]:
    for selection in stream.fields:
        for element in selection.read_elements:
            try:
                yield _reader(model, stream, element)
            except SimulationError as cause:
                raise SimulationError(f"{stream.topic}: {cause}") from cause


def _reader(model: Any, stream: ObservationStream, element: Element) -> Reader:
    parts = [str(step) for step in split_path(element.path)]
    leaf, parent = parts[-1], parts[-2] if len(parts) > 1 else ""
    if isinstance(element.key, str):
        quantity = JOINT_ARRAYS.get(leaf)
        if quantity is None:
            raise SimulationError(
                f"a joint has no '{element.path}' (it has: {', '.join(JOINT_ARRAYS)})"
            )
        return joint_reader(model, element.key, quantity)
    shown = _shown_by(model, stream)
    if shown.kind == "sensor":
        index = element.key if isinstance(element.key, int) else "xyzw".find(leaf)
        return sensor_reader(model, shown, max(index, 0))
    reader = _geometric_reader(model, shown, stream, parent, leaf)
    if reader is None:
        raise SimulationError(
            f"{shown.kind} '{shown.name}' has no '{element.path}'; name a sensor by 'sim: "
            f"sensor:NAME'"
        )
    return reader


def _geometric_reader(
    model: Any, shown: ModelObject, stream: ObservationStream, parent: str, leaf: str
) -> Reader | None:
    """Return what reads a coordinate of a site's or body's pose, velocity or measurements."""
    axis = "xyzw".find(leaf)
    if axis < 0 or (axis == 3 and parent not in _ROTATIONS):
        return None
    sensor = attached_sensor(model, shown, _MEASURED[parent]) if parent in _MEASURED else None
    if sensor is not None:
        return sensor_reader(model, sensor, axis)
    if parent in _POSITIONS:
        return position_reader(shown, axis)
    if parent in _ROTATIONS:
        return quaternion_reader(shown, axis)
    if parent not in _VELOCITIES:
        return None
    # An odometry's twist is in the frame of its body (nav_msgs/Odometry).
    local = stream.type == "nav_msgs/msg/Odometry" or parent == "angular_velocity"
    return velocity_reader(model, shown, _VELOCITIES[parent] + axis, local=local)


def _shown_by(model: Any, stream: ObservationStream) -> ModelObject:
    """Return the site, body or sensor that a topic shows."""
    kinds: Sequence[ObjectKind] = _KINDS
    names: Sequence[str] = [part for part in reversed(stream.topic.split("/")) if part]
    if stream.sim:
        kind, _, name = stream.sim.partition(":")
        kinds, names = (cast(ObjectKind, kind),), (name,)
    for name in names:
        found = find_object(model, name, kinds)
        if found is not None:
            return found
    known = [f"{kind}:{name}" for kind in kinds for name in names_of(model, kind)]
    hint = did_you_mean(stream.sim or f"site:{names[0]}", known)
    raise SimulationError(
        f"the model has no {' or '.join(kinds)} called {' or '.join(map(repr, names))}{hint}; "
        f"name what the topic shows by 'sim' in the contract"
    )


def actuator_of(model: Any, selection: FieldSelection, element: Element, name: str) -> int:
    """Return the number of the actuator that a field of the action moves."""
    if selection.rotation is not None:
        raise SimulationError(f"action '{name}' is a rotation, which no actuator takes")
    if isinstance(element.key, str):
        return _joint_actuator(model, element.key, str(split_path(element.path)[-1]))
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
    """Say what an actuator's control is, by its feedback: of position, of velocity, or none."""
    if model.actuator_biastype[actuator] == int(mujoco.mjtBias.mjBIAS_NONE):
        return "effort"
    _, position, velocity = model.actuator_biasprm[actuator, :3]
    if position:
        return "position"
    return "velocity" if velocity else "effort"
