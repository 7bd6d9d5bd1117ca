"""What a draft makes of topics whose messages differ, and of numbers that never change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dql_ros.cli.contract import contract
from dql_ros.contract import ObservationStream
from tests.ros.tools.draft_samples import (
    JOINTS,
    NUMBERS,
    Messages,
    array,
    commands,
    drafted,
    times,
    topics,
)

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"


def arm(fill: Callable[..., Any], x: float, velocity: bool = True, **more: Any) -> Any:
    speeds = np.array([x, -x]) if velocity else np.zeros(0)
    positions = np.array([x, 2 * x])
    return fill(JOINTS, name=["a", "b"], position=positions, velocity=speeds, **more)


def selected(stream: ObservationStream) -> list[tuple[str, tuple[str, ...]]]:
    return [(field.path, field.joints) for field in stream.fields]


def test_velocities_in_every_second_message_are_a_stream_of_their_own(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        messages.append(("/joint_states", JOINTS, now, arm(fill, x, index % 2 == 0)))
    found, text, _ = drafted(recorded(messages))
    first, second = found.observation
    assert selected(first) == [("position", ("a", "b"))]
    assert selected(second) == [("velocity", ("a", "b"))]
    assert (first.key, second.key) == ("/joint_states", "joint_states/velocity")
    assert (first.max_age_s, second.max_age_s, found.rate_hz) == (0.2, 0.3, 25)
    assert "when_absent: skip 200 of 400 messages have not all of these" in text


def test_where_most_messages_have_velocities_the_others_are_skipped(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        messages.append(("/joint_states", JOINTS, now, arm(fill, x, index % 10 != 5)))
    found, text, _ = drafted(recorded(messages))
    (stream,) = found.observation
    assert selected(stream) == [("position", ("a", "b")), ("velocity", ("a", "b"))]
    assert "when_absent: skip 40 of 400 messages have not all of these" in text


def test_velocities_in_hardly_any_message_are_named_in_a_comment(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        messages.append(("/joint_states", JOINTS, now, arm(fill, x, index in {7, 9})))
    found, text, _ = drafted(recorded(messages))
    (stream,) = found.observation
    assert (stream.when_absent, selected(stream)) == (None, [("position", ("a", "b"))])
    assert "- {path: velocity, joints: [a, b]} in 2 of 400 messages only" in text


def test_velocities_that_are_always_0_cost_no_message(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        message = fill(JOINTS, name=["a"], position=np.array([x]))
        message.velocity = np.zeros(int(index % 10 != 5))
        messages.append(("/joint_states", JOINTS, now, message))
    found, _, _ = drafted(recorded(messages))
    (stream,) = found.observation
    assert (stream.key, selected(stream)) == ("/joint_states", [("position", ("a",))])


def test_arm_and_gripper_on_one_topic_are_a_stream_each(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        messages.append(("/joint_states", JOINTS, now, arm(fill, x)))
        names = ["gripper_left", "gripper_right"]
        gripper = fill(JOINTS, name=names, position=np.array([x, -x]))
        if index % 10 == 0:
            messages.append(("/joint_states", JOINTS, now + 0.0001, gripper))
        messages.append(("/force", NUMBERS, now, array(fill, [x, x] if index % 5 else [])))
    found, text, _ = drafted(recorded(messages))
    force, first, second = found.observation
    assert selected(first) == [("position", ("a", "b")), ("velocity", ("a", "b"))]
    assert selected(second) == [("position", ("gripper_left", "gripper_right"))]
    assert (first.key, second.key) == ("/joint_states", "joint_states/gripper")
    assert (first.max_age_s, second.max_age_s) == (0.2, 2.0)
    assert [field.indices for field in force.fields] == [(0, 1)]
    assert (force.when_absent, force.skips_absent) == ("skip", True)
    assert "40 of 440 messages have not all of these" in text
    assert "400 of 440 messages have not all of these" in text


def test_streams_have_names_whatever_topic_and_joints_are_called(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for now, x in times(50, 8):
        for index, names in enumerate((["a", "b"], ["fingér[1]"], ["x y", "z"], ["z_1", "z_2"])):
            message = fill(JOINTS, name=names, position=np.full(len(names), x))
            messages.append(("/odd[1]/joint_states", JOINTS, now + 0.0001 * index, message))
    found, _, _ = drafted(recorded(messages))
    first, *others = found.observation
    assert first.key == "/odd[1]/joint_states"
    assert {stream.key for stream in others} == {
        f"odd_1_/joint_states/{label}" for label in ("fingér_1_", "x_y", "z")
    }


@pytest.mark.parametrize("has_gripper", [0, 1])
def test_what_one_of_the_recordings_has_not_is_named_and_no_stream(
    fill: Callable[..., Any], recorded: Callable[..., Path], has_gripper: int
) -> None:
    bags = []
    for index in range(2):
        messages = commands(fill)
        for now, x in times(50, 8):
            is_whole = index == has_gripper
            messages.append(("/joint_states", JOINTS, now, arm(fill, x, velocity=is_whole)))
            gripper = fill(JOINTS, name=["g"], position=np.array([x]))
            if is_whole:
                messages.append(("/joint_states", JOINTS, now + 0.0001, gripper))
        bags.append(recorded(messages, f"bag_{index}"))
    found, text, printed = drafted(*bags)
    (stream,) = found.observation
    assert selected(stream) == [("position", ("a", "b"))]
    lacking = bags[1 - has_gripper]
    assert f"{lacking} has none of it - {{path: position, joints: [g]}}" in text
    assert f"{lacking} has none of it - {{path: velocity, joints: [a, b]}}" in text
    assert "is not used" not in printed


def test_frames_of_two_broadcasters_are_a_stream_each(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    kind, single = "tf2_msgs/msg/TFMessage", "geometry_msgs/msg/TransformStamped"
    messages = commands(fill)
    for now, x in times(50, 8):
        for offset, name in enumerate(("base", "tool0")):
            frame = fill(
                single,
                child_frame_id=name,
                transform__translation__x=x,
                transform__rotation__w=1.0,
            )
            message = fill(kind, transforms=[frame])
            messages.append(("/tf", kind, now + 0.001 * offset, message))
    found, _, _ = drafted(recorded(messages))
    assert [stream.key for stream in found.observation] == ["/tf", "tf/tool0"]


def test_of_commands_in_several_messages_one_is_taken_and_this_is_said(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages: Messages = []
    for now, x in times(50, 8):
        messages.append(("/joint_states", JOINTS, now, arm(fill, x)))
        for offset, names in enumerate((["a", "b"], ["g"])):
            point = fill(f"{TRAJECTORY}Point", positions=np.full(len(names), x))
            message = fill(TRAJECTORY, joint_names=names, points=[point])
            messages.append(("/command", TRAJECTORY, now + 0.001 * offset, message))
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/command"])
    assert found.action[0].fields[0].joints == ("a", "b")
    assert (
        "/command, g (trajectory_msgs/JointTrajectory, 400 messages): in other messages than the "
        "command that is taken; a command is one message"
    ) in text


def test_trajectories_with_part_of_the_joints_are_skipped_where_most_have_all(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages: Messages = []
    for index, (now, x) in enumerate(times(50, 8)):
        messages.append(("/joint_states", JOINTS, now, arm(fill, x)))
        names = ["a"] if index % 10 == 5 else ["a", "b"]
        positions, speeds = np.full(len(names), x), np.full(len(names) * (index % 2), x)
        point = fill(f"{TRAJECTORY}Point", positions=positions, velocities=speeds)
        message = fill(TRAJECTORY, joint_names=names, points=[point])
        messages.append(("/command", TRAJECTORY, now, message))
    found, _, _ = drafted(recorded(messages))
    # Half of them have velocities, too, which are not sent.
    assert (found.rate_hz, found.action[0].max_age_s) == (50, 0.1)
    assert found.action[0].fields[0].joints == ("a", "b")


def test_joints_that_never_moved_are_not_observed_and_are_sent_as_they_were(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    bags = []
    for still in (0.0, 0.5):
        messages: Messages = []
        for now, x in times(50, 8):
            positions = np.array([x, 0.25, still])
            efforts = np.zeros(3)
            message = fill(JOINTS, name=["a", "b", "c"], position=positions, effort=efforts)
            messages.append(("/joint_states", JOINTS, now, message))
            values = [1.0, x, 0.0, 1.0, 0.3 + still]
            messages.append(("/arm/commands", NUMBERS, now, array(fill, values)))
        bags.append(recorded(messages, f"bag_{still}"))
    found, text, _ = drafted(bags[0])
    assert selected(found.observation[0]) == [("position", ("a",))]
    assert "- {path: position, joints: [b], unit: rad} never changed; was 0.25" in text
    assert "- {path: position, joints: [c], unit: rad} never changed; was 0" in text
    assert [(field.indices, field.constant) for field in found.action[0].fields] == [
        ((1,), None),
        ((0, 3), 1.0),
        ((2,), 0.0),
        ((4,), 0.3),
    ]
    checked = CliRunner().invoke(
        contract, ["check", str(bags[0].parent / f"1_{bags[0].name}.yaml"), str(bags[1])]
    )
    assert checked.exit_code == 0, checked.output
    (line,) = (line for line in checked.output.splitlines() if "constant" in line)
    assert line == (
        f"warning: {bags[1]}: /arm/commands: 'data' is sent as the constant 0.3, but was 0.8 to "
        f"0.8; if it matters, make it a field with bounds"
    )
    found, _, _ = drafted(*bags)
    assert selected(found.observation[0]) == [("position", ("a", "c"))]
    assert [(field.indices, field.constant) for field in found.action[0].fields] == [
        ((1, 4), None),
        ((0, 3), 1.0),
        ((2,), 0.0),
    ]


def test_one_is_not_said_in_the_plural(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        message = arm(fill, np.nan if index == 100 else x, velocity=False)
        message.position[1] = x
        messages.append(("/joint_states", JOINTS, now, message))
    messages.append(("/note", "std_msgs/msg/String", 1.0, fill("std_msgs/msg/String", data="x")))
    bag = recorded(messages)
    _, text, _ = drafted(bag)
    assert "nonfinite: split 1 needed number is NaN or infinite" in text
    assert "/note (std_msgs/String, 1 message):" in text
    file = bag.parent / f"1_{bag.name}.yaml"
    for end_s, transitions in ((0.11, "2 transitions"), (0.07, "1 transition")):
        short = recorded([each for each in messages if each[2] < end_s], f"{end_s}")
        checked = CliRunner().invoke(contract, ["check", str(file), str(short)])
        assert f"fits: 1 episode, {transitions}: " in checked.output
