"""What a draft takes topics for: quantities, not codes; commands, not orders; a joint once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.ros.tools.draft_samples import (
    NUMBERS,
    TWIST,
    Messages,
    array,
    commands,
    drafted,
    joints,
    reported_setpoints,
    times,
    topics,
    trajectory,
)


def test_of_a_drone_the_odometry_is_observed_and_the_setpoint_commanded(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages: Messages = []
    nan = np.full(3, np.nan, np.float32)
    for now, x in times(50, 8):
        tick = round(now * 1e6)
        moved = np.array([x, 1 - x, x / 2], np.float32)
        for topic, kind, values in (
            ("/fmu/out/vehicle_odometry", "VehicleOdometry",
             {"position": moved, "pose_frame": 1, "reset_counter": int(now)}),
            ("/fmu/out/vehicle_status", "VehicleStatus",
             {"arming_state": 1 + (now > 2), "nav_state_timer": int(now), "failsafe": now > 4}),
            ("/fmu/out/timesync_status", "TimesyncStatus",
             {"observed_offset": tick, "round_trip": int(50 * x + 60)}),
            ("/fmu/in/offboard_control_mode", "OffboardControlMode", {"velocity": now > 1}),
            ("/fmu/in/trajectory_setpoint", "TrajectorySetpoint",
             {"position": nan, "velocity": moved, "yaw": x}),
            ("/fmu/out/vehicle_attitude_setpoint", "TrajectorySetpoint",
             {"position": moved, "velocity": moved, "yaw": x}),
        ):  # fmt: skip
            px4 = f"px4_msgs/msg/{kind}"
            messages.append((topic, px4, now, fill(px4, timestamp=tick, **values)))
    order = "px4_msgs/msg/VehicleCommand"
    messages += [("/fmu/in/vehicle_command", order, at, fill(order, param1=at)) for at in (1, 2)]
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/fmu/out/vehicle_odometry"], ["/fmu/in/trajectory_setpoint"])
    assert [field.path for field in found.observation[0].fields] == ["position"]
    assert [field.path for field in found.action[0].fields] == ["velocity", "yaw"]
    assert "often no number, and is sent as 0: CHECK" in text
    for reason in (
        "a code or a count, not a quantity",
        "about clocks, not about the robot",
        "orders to a state machine",
        "a flag of a state machine",
        "a set-point as the robot reports it",
    ):
        assert reason in text


def test_a_controllers_report_is_neither_observed_twice_nor_commanded(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + commands(fill) + joints(fill, "/joint_states_desired")
    messages += joints(fill, "/robot/joint_state_broadcaster/joint_states")
    report = "control_msgs/msg/JointTrajectoryControllerState"
    for now, x in times(50, 8):
        both = np.array([x, 2 * x])
        message = fill(report, joint_names=["a", "b"])
        message.reference.positions = message.feedback.positions = both
        message.error.positions = both - np.array([0.0, x])
        messages.append(("/arm_controller/controller_state", report, now, message))
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert "the same joints as /joint_states" in text
    assert "a set-point as the robot reports it" in text


def test_without_a_command_the_reported_setpoint_is_learnt_from_and_this_is_said(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + reported_setpoints(fill)
    found, _, printed = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/controller_state"])
    assert [field.path for field in found.action[0].fields] == ["reference.positions"]
    assert "no topic commands the robot" in printed


def test_an_array_of_many_lengths_leaves_no_command_and_its_layout_is_none(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + commands(fill)
    for index, (now, x) in enumerate(times(20, 8)):
        message = array(fill, [x] * (index % 20))
        message.layout.data_offset = index
        messages.append(("/gripper/command", NUMBERS, now, message))
    found, text, _ = drafted(recorded(messages))
    assert topics(found)[1] == ["/arm_controller/commands"]
    assert "data_offset" not in text


def test_arrays_of_more_than_64_are_named(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + commands(fill)
    messages += [
        (topic, NUMBERS, now, array(fill, [x] * 100))
        for now, x in times(20, 8)
        for topic in ("/skin", "/skin/command")
    ]
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert text.count("'data' has 100 elements; init proposes arrays of up to 64") == 2


def test_one_command_for_the_whole_recording_stays_in_force(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill)
    messages.append(("/arm_controller/commands", NUMBERS, 1.0, array(fill, [0.5, 1.0])))
    found, text, _ = drafted(recorded(messages))
    assert found.action[0].max_age_s >= 7
    assert "sent once, and in force until the end" in text


def test_an_order_beside_commands_that_come_all_the_time_is_none(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + commands(fill)
    messages.append(("/gripper/command", NUMBERS, 5.0, array(fill, [0.5])))
    twist = fill(TWIST, linear__x=1.0)
    messages.append(("/cmd_vel", TWIST, 6.0, twist))
    found, text, _ = drafted(recorded(messages))
    assert topics(found)[1] == ["/arm_controller/commands"]
    assert "sent once, beside /arm_controller/commands" in text


def test_an_operators_arm_commands_the_other(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill, "/follower/joint_states") + joints(fill, "/leader/joint_states")
    found, _, _ = drafted(recorded(messages))
    assert topics(found) == (["/follower/joint_states"], ["/leader/joint_states"])


def test_what_was_sent_once_is_observed_if_it_is_a_goal_or_differs(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    point = "geometry_msgs/msg/Point"
    bags = []
    for index in range(2):
        messages = joints(fill) + commands(fill)
        for topic, x in (("/goal", 1.0), ("/payload", 2.0), ("/start_place", float(index))):
            messages.append((topic, point, 0.5, fill(point, x=x)))
        bags.append(recorded(messages, f"bag_{index}"))
    found, text, _ = drafted(*bags)
    assert topics(found)[0] == ["/joint_states", "/goal", "/start_place"]
    assert "/payload (geometry_msgs/Point, 2 messages): sent 2 times, and always the same" in text


def test_two_arms_of_the_same_joint_names_have_a_command_each(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    sides, roles = ("left", "right"), ("follower", "leader")
    states = [f"/{role}_{side}/joint_states" for role in roles for side in sides]
    messages = [message for topic in states for message in joints(fill, topic)]
    found, _, _ = drafted(recorded(messages))
    assert topics(found) == (states[:2], states[2:])


def test_of_two_controllers_of_one_arm_the_busier_is_taken(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill)
    kind = "trajectory_msgs/msg/JointTrajectory"
    for name, rate_hz in (("scaled", 10), ("plain", 20)):
        messages += [
            (f"/{name}_controller/joint_trajectory", kind, now, trajectory(fill, 1, ["a", "b"]))
            for now, _ in times(rate_hz, 8)
        ]
    found, text, _ = drafted(recorded(messages))
    assert topics(found)[1] == ["/plain_controller/joint_trajectory"]
    assert "another command to the joints of /plain_controller/joint_trajectory" in text


def test_the_pose_that_an_impedance_controller_is_to_hold_is_a_command(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    pose = "geometry_msgs/msg/PoseStamped"
    topic = "/cartesian_impedance_controller/equilibrium_pose"
    messages = joints(fill)
    for now, x in times(25, 8):
        held = fill(pose, pose__position__x=0.4 + 1e-5 * x, pose__orientation__x=1.0)
        messages.append((topic, pose, now, held))
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], [topic])
    assert "was 0.39999 to 0.40001" in text


def test_whole_trajectories_now_and_then_are_no_match_for_reported_setpoints(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill)
    kind = "trajectory_msgs/msg/JointTrajectory"
    messages += [
        (
            "/arm_controller/joint_trajectory",
            kind,
            at,
            trajectory(fill, 60 + at, ["a", "b"]),
        )
        for at in (1, 3, 4, 6)
    ]
    found, _, printed = drafted(recorded(messages))
    assert topics(found)[1] == ["/arm_controller/joint_trajectory"]
    assert [field.path for field in found.action[0].fields] == ["points.0.positions"]
    assert found.action[0].max_age_s >= 2
    assert "only the first point is learnt: that says little of how the robot moves" in printed
    messages += reported_setpoints(fill)
    found, text, printed = drafted(recorded(messages, "reported"))
    assert topics(found)[1] == ["/arm_controller/controller_state"]
    assert "the action is the set-point that /arm_controller/controller_state reports" in printed
    assert "sent 4 times; /arm_controller/controller_state reports what came of it" in text


def test_of_an_array_of_motors_each_is_observed_and_commanded_by_its_place(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages: Messages = []
    state, command = "unitree_go/msg/LowState", "unitree_go/msg/LowCmd"
    for now, x in times(50, 8):
        measured, told = fill(state, tick=round(now * 1000)), fill(command)
        for index in range(3):
            measured.motor_state[index].mode = told.motor_cmd[index].mode = 1
            measured.motor_state[index].q = told.motor_cmd[index].q = x * (index + 1)
            measured.motor_state[index].dq, told.motor_cmd[index].kp = 2 * x, 60.0
        messages += [("/lowstate", state, now, measured), ("/lowcmd", command, now, told)]
    found, _, _ = drafted(recorded(messages))
    assert [field.path for field in found.observation[0].fields] == [
        f"motor_state.{index}.{name}" for index in range(3) for name in ("q", "dq")
    ]
    learnt = [field.path for field in found.action[0].fields if field.constant is None]
    assert learnt == [f"motor_cmd.{index}.q" for index in range(3)]
    sent = {field.path: field.constant for field in found.action[0].fields}
    assert (sent["motor_cmd.2.kp"], sent["motor_cmd.2.mode"]) == (60.0, 1.0)


def test_a_command_by_its_type_alone_is_observed_where_nothing_else_shows_a_state(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    messages += [("/wheels", TWIST, now, fill(TWIST, linear__x=x)) for now, x in times(50, 8)]
    found, _, _ = drafted(recorded(messages))
    assert topics(found) == (["/wheels"], ["/arm_controller/commands"])


def test_bounds_of_speeds_let_the_robot_stop_and_those_of_positions_do_not_move_it(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill)
    for now, x in times(25, 8):
        twist = fill(TWIST, linear__x=0.4 + 0.1 * x, angular__z=-0.2)
        messages.append(("/cmd_vel", TWIST, now, twist))
        values = [0.6 + 0.2 * x, 0.5]
        for topic in ("/wheel_velocity_controller/commands", "/arm_controller/commands"):
            messages.append((topic, NUMBERS, now, array(fill, values)))
    found, text, _ = drafted(recorded(messages))
    arm, base, wheels = found.action
    assert [(f.low, f.high) for f in base.fields if f.constant is None] == [
        (0.0, 0.5),
        (-0.2, 0.0),
    ]
    assert [(f.low, f.high, f.constant) for f in wheels.fields] == [
        (0.0, 0.8, None),
        (0.0, 0.5, None),
    ]
    assert [f.constant for f in arm.fields] == [None, 0.5]
    assert arm.fields[0].low == 0.4
    assert found.safe_command == (0.4, 0.0, 0.0, 0.0, 0.0)
    assert "never changed, but a constant would be sent with a stop, too; was -0.2" in text


def test_a_quaternion_in_an_array_of_px4_is_one(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    odometry, setpoint = "px4_msgs/msg/VehicleOdometry", "px4_msgs/msg/TrajectorySetpoint"
    messages: Messages = []
    for now, x in times(50, 8):
        turn = np.array([np.cos(x), 0, 0, np.sin(x)], np.float32)
        messages.append(("/fmu/out/vehicle_odometry", odometry, now, fill(odometry, q=turn)))
        messages.append(("/fmu/in/trajectory_setpoint", setpoint, now, fill(setpoint, yaw=x)))
    found, _, _ = drafted(recorded(messages))
    (field,) = found.observation[0].fields
    assert (field.path, field.rotation, field.quaternion_order) == ("q", "6d", "wxyz")


def test_batteries_and_modes_that_never_changed_are_named_with_their_reason(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    battery, mode = "sensor_msgs/msg/BatteryState", "px4_msgs/msg/OffboardControlMode"
    messages = joints(fill) + commands(fill)
    for now, x in times(10, 8):
        messages.append(("/battery", battery, now, fill(battery, voltage=24 + x)))
        messages.append(("/fmu/in/offboard_control_mode", mode, now, fill(mode, velocity=True)))
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert "/battery (sensor_msgs/BatteryState, 80 messages): a battery" in text
    assert "OffboardControlMode, 80 messages): nothing of it ever changed" in text
