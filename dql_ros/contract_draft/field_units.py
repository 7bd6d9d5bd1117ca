"""The unit that ROS's message definitions and REP 103 give a number, where they give one."""

from __future__ import annotations

from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

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


def unit_at(typestore: Typestore, msgtype: str, path: str) -> str:
    """Return the unit of the number or array at a dotted path; empty where nothing is known."""
    unit = ""
    for part in path.split("."):
        unit = UNITS.get(msgtype.replace("/msg/", "/"), {}).get(part, unit)
        if part.isdigit():
            continue
        description: Any = dict(typestore.get_msgdef(msgtype).fields)[part]
        while description[0] in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
            description = description[1][0]
        if description[0] != Nodetype.NAME:
            break
        msgtype = description[1]
    return unit
