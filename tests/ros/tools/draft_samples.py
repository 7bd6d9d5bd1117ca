"""Small recordings of robots, and what `dql contract init` makes of them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from dql_ros.cli.contract import contract
from dql_ros.contract import Contract, load_contract

SECOND = 1_000_000_000
JOINTS, NUMBERS, TWIST = (
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "geometry_msgs/msg/Twist",
)
# As px4_msgs, control_msgs and mavros_msgs have them, shortened.
DEFINITIONS = {
    "px4_msgs/msg/VehicleStatus": """
uint64 timestamp
uint8 ARMING_STATE_DISARMED = 1
uint8 ARMING_STATE_ARMED = 2
uint8 arming_state
uint8 nav_state_timer
bool failsafe
""",
    "px4_msgs/msg/OffboardControlMode": "uint64 timestamp\nbool position\nbool velocity\n",
    "px4_msgs/msg/TrajectorySetpoint": """
uint64 timestamp
float32[3] position
float32[3] velocity
float32 yaw
""",
    "px4_msgs/msg/VehicleCommand": "uint64 timestamp\nfloat32 param1\nuint32 command\n",
    "px4_msgs/msg/TimesyncStatus": "uint64 timestamp\nint64 observed_offset\nuint32 round_trip\n",
    "px4_msgs/msg/VehicleOdometry": """
uint64 timestamp
uint8 POSE_FRAME_NED = 1
uint8 pose_frame
float32[3] position
float32[4] q
uint8 reset_counter
""",
    "unitree_go/msg/MotorState": "uint8 mode\nfloat32 q\nfloat32 dq\n",
    "unitree_go/msg/MotorCmd": "uint8 mode\nfloat32 q\nfloat32 kp\n",
    "unitree_go/msg/LowState": "unitree_go/MotorState[3] motor_state\nuint32 tick\n",
    "unitree_go/msg/LowCmd": "unitree_go/MotorCmd[3] motor_cmd\n",
    "control_msgs/msg/JointTrajectoryControllerState": """
std_msgs/Header header
string[] joint_names
trajectory_msgs/JointTrajectoryPoint reference
trajectory_msgs/JointTrajectoryPoint feedback
trajectory_msgs/JointTrajectoryPoint error
""",
}
Messages = list[tuple[str, str, float, Any]]


def drafted(*bags: Path) -> tuple[Contract, str, str]:
    """Return the draft, its text, and what `dql contract init` printed; it fits its bags."""
    out = bags[0].parent / f"{len(bags)}_{bags[0].name}.yaml"
    made = CliRunner().invoke(contract, ["init", *map(str, bags), "--out", str(out)])
    assert made.exit_code == 0, made.output
    checked = CliRunner().invoke(contract, ["check", str(out), *map(str, bags)])
    assert checked.exit_code == 0, checked.output
    return load_contract(out), " ".join(out.read_text().replace("#", " ").split()), made.output


def topics(found: Contract) -> tuple[list[str], list[str]]:
    return [s.topic for s in found.observation], [s.topic for s in found.action]


def filled(message: Any, values: Mapping[str, Any]) -> Any:
    """Return the message with values at paths such as ``linear__x``."""
    for path, value in values.items():
        *owners, last = path.split("__")
        owner = message
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, last, value)
    return message


def reported_setpoints(fill: Callable[..., Any]) -> Messages:
    """What a trajectory controller says that it wants, and where its joints are."""
    report = "control_msgs/msg/JointTrajectoryControllerState"
    messages: Messages = []
    for now, x in times(50, 8):
        message = fill(report, joint_names=["a", "b"])
        message.reference.positions = np.array([x, 3 * x])
        message.feedback.positions = np.array([x, 2 * x])
        messages.append(("/arm_controller/controller_state", report, now, message))
    return messages


def times(
    rate_hz: float, duration_s: float, start_s: float = 0.0
) -> Iterator[tuple[float, float]]:
    """Yield times, and a number that moves with them."""
    for tick in range(round(rate_hz * duration_s)):
        now = start_s + tick / rate_hz
        yield now, float(np.sin(now))


def joints(fill: Callable[..., Any], topic: str = "/joint_states", **more: Any) -> Messages:
    return [
        (topic, JOINTS, now, fill(JOINTS, name=["a", "b"], position=np.array([x, 2 * x]), **more))
        for now, x in times(50, 8)
    ]


def array(fill: Callable[..., Any], values: list[float]) -> Any:
    return fill(NUMBERS, data=np.array(values))


def commands(fill: Callable[..., Any], topic: str = "/arm_controller/commands") -> Messages:
    return [(topic, NUMBERS, now + 0.004, array(fill, [x, x])) for now, x in times(25, 8)]


def trajectory(fill: Callable[..., Any], points: int, names: list[str]) -> Any:
    kind = "trajectory_msgs/msg/JointTrajectory"
    values = [
        fill(
            f"{kind}Point",
            positions=np.full(len(names), index / points),
            velocities=np.ones(len(names)),
            accelerations=np.ones(len(names)),
        )
        for index in range(points)
    ]
    return fill(kind, joint_names=names, points=values)
