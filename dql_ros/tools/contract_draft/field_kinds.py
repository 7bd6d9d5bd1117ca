"""What kind of quantity a field of a message is: its unit; or a code, a flag, a set-point.

Units are those of ROS's message definitions and REP 103, where they give one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_ros.contract import Element
from dql_ros.tools.contract_draft.topic_profile import TopicProfile
from dql_ros.tools.topic_numbers import NumberFacts, field_names

Facts = Mapping[Element, NumberFacts]
# Parts of a path that are what a controller was told, or how far off it is: no state.
_TOLD = r"commands?|commanded|desired|goals?|ref|references?|setpoints?|targets?"
WISHED_PART = re.compile(rf"(\w+_)?({_TOLD})(_\w+)?")
TOLD_PART = re.compile(rf"(\w+_)?({_TOLD}|errors?)(_\w+)?|outputs?|\w*errors?|\w+_(cmd|d|des|sp)")
MEASURED_PART = re.compile(r"(\w+_)?(actual|feedback|measured|state)(_\w+)?")
# Names of whole numbers that are codes or counts.
CODE = re.compile(
    r"(\w+_)?(code|count(er)?|crc|flags?|heartbeat|id|index|instance|level|mode|seq|sequence|"
    r"source|state|status|system|tick|type|version)|(error|fault|reserve|warn)\w*"
)
# Names of flags, on topics of their own, that say what a state machine does.
MACHINE = re.compile(
    r"(\w+_)?(active|alive|armed|busy|connected|emergency|enabled|estop|heartbeat|idle|mode|ready|"
    r"running|state|status)"
)
# Words of quantities that are zero where nothing moves and nothing is pushed.
EFFORT = re.compile(
    r"efforts?|forces?|pwm|speeds?|throttle|thrust|torques?|twist|vel|velocit(y|ies)"
)
STILL_UNITS = {"m/s", "rad/s", "m/s^2", "rad/s^2", "m/s^3", "N", "N m"}
# Arrays that are quaternions, w first, by the packages that have them.
QUATERNIONS_WXYZ = {"px4_msgs": {"q", "q_d", "q_offset"}, "unitree_go": {"quaternion"}}
# A message with so many codes or flags, and without a fraction, is of a state machine.
SEVERAL = 2
# Whole numbers beyond this are not all different as float32.
LARGEST_WHOLE = 2**24
# By the type that has the field, without `msg/`: units of its fields, or of all that is below it.
UNITS: dict[str, dict[str, str]] = {
    "geometry_msgs/Point": dict.fromkeys("xyz", "m"),
    "geometry_msgs/Point32": dict.fromkeys("xyz", "m"),
    "geometry_msgs/Pose2D": {"x": "m", "y": "m", "theta": "rad"},
    "geometry_msgs/Transform": {"translation": "m"},
    "geometry_msgs/Twist": {"linear": "m/s", "angular": "rad/s"},
    "geometry_msgs/Accel": {"linear": "m/s^2", "angular": "rad/s^2"},
    "geometry_msgs/Wrench": {"force": "N", "torque": "N m"},
    "sensor_msgs/Imu": {"angular_velocity": "rad/s", "linear_acceleration": "m/s^2"},
    "sensor_msgs/JointState": {"position": "rad", "velocity": "rad/s", "effort": "N m"},
    "sensor_msgs/NavSatFix": {"latitude": "deg", "longitude": "deg", "altitude": "m"},
    "sensor_msgs/Range": {"range": "m"},
    "sensor_msgs/MagneticField": {"magnetic_field": "T"},
    "sensor_msgs/FluidPressure": {"fluid_pressure": "Pa"},
    "sensor_msgs/Temperature": {"temperature": "degC"},
    "sensor_msgs/BatteryState": {"voltage": "V", "current": "A", "temperature": "degC"},
    "trajectory_msgs/JointTrajectoryPoint": {
        "positions": "rad",
        "velocities": "rad/s",
        "accelerations": "rad/s^2",
        "effort": "N m",
    },
    "ackermann_msgs/AckermannDrive": {
        "steering_angle": "rad",
        "steering_angle_velocity": "rad/s",
        "speed": "m/s",
        "acceleration": "m/s^2",
        "jerk": "m/s^3",
    },
    "turtlesim/Pose": {
        "x": "m",
        "y": "m",
        "theta": "rad",
        "linear_velocity": "m/s",
        "angular_velocity": "rad/s",
    },
}


def reports_command(paths: Sequence[str]) -> bool:
    """Whether a message has what a controller was told beside what it measured."""
    parts = {part for path in paths for part in field_names(path)}
    return any(map(WISHED_PART.fullmatch, parts)) and any(map(MEASURED_PART.fullmatch, parts))


def has_part(path: str, pattern: re.Pattern[str]) -> bool:
    """Whether the name of a field on a path matches."""
    return any(map(pattern.fullmatch, field_names(path)))


def code_of(topic: TopicProfile, path: str, facts: Facts) -> str:
    """Why numbers are no quantity but a flag, a code or a count; empty if they are one."""
    kind = next(iter(facts.values())).dtype[1]
    if kind not in "biu":
        return ""
    is_alone = path == "data"
    name = (topic.last_segment if is_alone else field_names(path)[-1]).lower()
    if kind == "b":
        is_machine = not is_alone or MACHINE.fullmatch(name)
        return "a flag of a state machine" if is_machine else ""
    if CODE.fullmatch(name) or _is_enumeration(topic, path, facts):
        return "a code or a count, not a quantity"
    if any(max(abs(fact.low), abs(fact.high)) > LARGEST_WHOLE for fact in facts.values()):
        return "a time or a count that float32 does not hold"
    return ""


def is_of_machine(topic: TopicProfile, entries: Sequence[tuple[str, Facts]]) -> bool:
    """Whether a message has several codes or flags, and whole numbers besides, but no others.

    Args:
        topic: The topic.
        entries: The paths of its numbers, and what these were.
    """
    kinds = {fact.dtype[1] for _, facts in entries for fact in facts.values()}
    return "f" not in kinds and sum(bool(code_of(topic, *each)) for each in entries) >= SEVERAL


def stops_with_zero(topic: TopicProfile, path: str, unit: str, facts: Facts) -> bool:
    """Whether a command of 0 lets the robot stand or hang loose, as one of a speed or a force."""
    if any(fact.dtype[1] == "b" for fact in facts.values()):
        return False
    words = re.split(r"[^a-z]+", f"{topic.name} {path}".lower())
    return unit in STILL_UNITS or any(map(EFFORT.fullmatch, words))


def is_quaternion_array(topic: TopicProfile, path: str, facts: Facts) -> bool:
    """Whether an array is a quaternion, w first."""
    names = QUATERNIONS_WXYZ.get(topic.msgtype.partition("/")[0], ())
    is_within = all(fact.low >= -1.001 and fact.high <= 1.001 for fact in facts.values())
    return field_names(path)[-1] in names and len(facts) == 4 and is_within


def _is_enumeration(topic: TopicProfile, path: str, facts: Facts) -> bool:
    """Whether the message's definition has names for the values that the number had."""
    if topic.typestore is None:
        return False
    owner = _owner(topic.typestore, topic.msgtype, path)
    named = {
        float(value)
        for _, kind, value in topic.typestore.fielddefs[owner][0]
        if isinstance(value, int) and not isinstance(value, bool) and kind == _kind(topic, path)
    }
    return bool(named) and all(fact.low in named and fact.high in named for fact in facts.values())


def _kind(topic: TopicProfile, path: str) -> str:
    """ROS's name of a number's type."""
    assert topic.typestore is not None
    owner = _owner(topic.typestore, topic.msgtype, path)
    description: Any = dict(topic.typestore.get_msgdef(owner).fields)[field_names(path)[-1]]
    while description[0] in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
        description = description[1][0]
    return str(description[1][0])


def _owner(typestore: Typestore, msgtype: str, path: str) -> str:
    """The type of the message that has the field at the end of a path."""
    for part in field_names(path)[:-1]:
        description: Any = dict(typestore.get_msgdef(msgtype).fields)[part]
        while description[0] in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
            description = description[1][0]
        msgtype = description[1]
    return msgtype


def unit_at(typestore: Typestore, msgtype: str, path: str) -> str:
    """Return the unit of the number or array at a dotted path; empty where nothing is known."""
    unit = ""
    for part in field_names(path):
        unit = UNITS.get(msgtype.replace("/msg/", "/"), {}).get(part, unit)
        description: Any = dict(typestore.get_msgdef(msgtype).fields)[part]
        while description[0] in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
            description = description[1][0]
        if description[0] != Nodetype.NAME:
            break
        msgtype = description[1]
    return unit
