"""How a draft is made to fit: pauses, several recordings, parts that are not always there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dql_ros.bag.reader import Bag
from dql_ros.cli.contract import contract
from dql_ros.tools.contract_draft.topic_profile import Profiler, TopicProfile
from tests.ros.tools.draft_samples import (
    NUMBERS,
    TWIST,
    array,
    commands,
    drafted,
    joints,
    times,
    topics,
    trajectory,
)


@pytest.mark.parametrize("pause_s", [0.0, 3600.0])
def test_a_pause_changes_neither_rate_nor_ages(
    fill: Callable[..., Any], recorded: Callable[..., Path], pause_s: float
) -> None:
    messages = [
        (topic, kind, now + pause_s * (now > 4), message)
        for topic, kind, now, message in joints(fill) + commands(fill)
    ]
    found, _, _ = drafted(recorded(messages))
    assert found.rate_hz == 25
    assert [found.observation[0].max_age_s, found.action[0].max_age_s] == [0.2, 0.2]


def test_bounds_and_topics_are_those_of_all_recordings(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    bags = []
    for index, size in enumerate((1.0, 5.0)):
        messages = joints(fill)
        messages += [
            ("/arm_controller/commands", NUMBERS, now, array(fill, [size * x, x]))
            for now, x in times(25, 8)
        ]
        if index == 0:
            messages += joints(fill, "/other/joint_states")
            messages += [
                ("/cmd_vel", TWIST, now, fill(TWIST, linear__x=x)) for now, x in times(20, 8)
            ]
        bags.append(recorded(messages, f"bag_{index}"))
    found, text, _ = drafted(*bags)
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert found.action[0].fields[0].high == (5.0, 1.0)
    assert f"{bags[1]} has no message of it" in text


def test_times_between_recordings_are_no_pauses(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    profiler = Profiler()
    for name in ("one", "two"):
        with Bag(recorded(joints(fill), name)) as bag:
            profiler.add(bag)
    (topic,) = profiler.topics()
    assert isinstance(topic, TopicProfile)
    assert topic.count == 800
    assert topic.timing["longest_pause_s"] == 0.02
    assert topic.timing["rate_hz"] == 50.0


def test_a_topic_that_leaves_little_is_taken_out_and_this_is_said(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + commands(fill)
    messages += [
        ("/wrench", "geometry_msgs/msg/Vector3", now, fill("geometry_msgs/msg/Vector3", x=x))
        for now, x in times(20, 0.5)
    ]
    found, text, printed = drafted(recorded(messages))
    assert topics(found)[0] == ["/joint_states"]
    assert "/wrench is not used: it would cost" in printed
    assert "/wrench (geometry_msgs/Vector3, 10 messages): it would cost" in text


def test_of_commands_that_are_never_there_together_one_is_left(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill)
    kind = "trajectory_msgs/msg/JointTrajectory"
    messages += [("/cmd_vel", TWIST, now, fill(TWIST, linear__x=x)) for now, x in times(20, 4)]
    messages += [
        ("/arm_controller/commands", NUMBERS, now, array(fill, [x, x]))
        for now, x in times(20, 1.5, 5.0)
    ]
    messages += [
        ("/torso_controller/joint_trajectory", kind, now, trajectory(fill, 1, ["a"]))
        for now, _ in times(20, 0.8, 7.0)
    ]
    found, _, printed = drafted(recorded(messages))
    assert topics(found)[1] == ["/cmd_vel"]
    assert printed.count("the least of all") + printed.count("it would cost") == 2


def test_what_came_nearest_is_named_where_nothing_commands(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill)
    for now, x in times(20, 8):
        messages.append(("/arm_controller/commands", NUMBERS, now, array(fill, [x] * 100)))
    bag = recorded(messages)
    made = CliRunner().invoke(contract, ["init", str(bag), "--out", str(bag.parent / "c.yaml")])
    assert (
        "fill in action: no topic was found that commands the robot (/arm_controller/commands: "
        "'data' has 100 elements; init proposes arrays of up to 64)"
    ) in made.output.replace("\n", " ")


def test_frames_are_observed_by_name_where_nothing_else_shows_the_state(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    kind, single = "tf2_msgs/msg/TFMessage", "geometry_msgs/msg/TransformStamped"
    messages = commands(fill)
    for index, (now, x) in enumerate(times(50, 8)):
        frames = [
            fill(
                single,
                child_frame_id=name,
                transform__translation__x=x,
                transform__rotation__w=1.0,
            )
            for name in ("base", "tool0")
        ]
        message = fill(kind, transforms=frames[:: 1 - 2 * (index % 2)])
        messages.append(("/tf", kind, now, message))
    bag = recorded(messages)
    found, _, _ = drafted(bag)
    assert [field.path for field in found.observation[0].fields] == [
        f"transforms[child_frame_id={name}].transform.translation.x" for name in ("base", "tool0")
    ]
    found, text, _ = drafted(recorded([*messages, *joints(fill)], "with_joints"))
    assert topics(found)[0] == ["/joint_states"]
    assert "a tree of frames" in text


def test_numbers_that_float32_would_blur_are_counted_from_another_zero(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = [
        (
            "/place",
            "geometry_msgs/msg/Vector3",
            now,
            fill("geometry_msgs/msg/Vector3", x=5.9e6 + x, y=x),
        )
        for now, x in times(50, 8)
    ]
    messages += [
        ("/arm_controller/commands", NUMBERS, now, array(fill, [5.9e6 + x]))
        for now, x in times(25, 8)
    ]
    found, text, _ = drafted(recorded(messages))
    assert [field.offset for field in found.observation[0].fields] == ["first", 0.0]
    (command,) = found.action[0].fields
    assert isinstance(command.offset, float)
    assert (command.low, command.high) != (0.0, 0.0)
    assert 5.9e6 - 20 < command.offset + command.low <= 5.9e6 - 1  # type: ignore[operator]
    assert "else float32 has steps of 0.5 there" in text


def test_where_the_recorders_clock_was_set_back_episodes_are_split(
    fill: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(fill) + commands(fill)
    found, _, _ = drafted(recorded(messages))
    assert (found.observation[0].stamp, found.clock) == ("header", "refuse")

    def set_back(at_s: float) -> float:
        return at_s - 3.0 * (at_s > 4)

    for name, stamp in (("apart", lambda at_s: at_s), ("alike", set_back)):
        back = recorded(
            messages, name, clock=set_back, stamp=lambda at_s, of=stamp: of(at_s) - 0.001
        )
        found, text, printed = drafted(back)
        assert (found.clock, found.rate_hz) == ("split", 25)
        # Stamps that went back with the clock are as good as before.
        assert found.observation[0].stamp == ("header" if name == "alike" else "receive")
        assert "episodes end where the clock jumps ('clock: split'): " in printed
        assert "so the recorder's clock was set back\n" in printed
        assert "cut the recording" not in printed
        assert "clock: split the recorder's clock was set back; episodes end there" in text


@pytest.mark.parametrize("moved", ["/other/joint_states", "the rest"])
def test_a_topic_of_another_clock_than_the_rest_is_not_used(
    fill: Callable[..., Any], recorded: Callable[..., Path], moved: str
) -> None:
    def set_back(message: tuple[str, str, float, Any]) -> tuple[str, str, float, Any]:
        topic, kind, at_s, content = message
        other = "/other/joint_states"
        back_s = 3.0 * (at_s > 4) * ((topic == other) == (moved == other))
        return topic, kind, at_s - back_s, content

    messages = joints(fill) + joints(fill, "/other/joint_states")
    for topic, _, _, message in messages:
        message.name = [f"{topic}_{name}" for name in message.name]
    messages += commands(fill)
    in_order = sorted(messages, key=lambda each: each[2])
    found, _, printed = drafted(recorded([*map(set_back, in_order)], is_sorted=True))
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert "/other/joint_states is not used: " in printed
    assert "did not go back with it" in printed


@pytest.mark.parametrize(
    ("jump_s", "reason"),
    [
        (4.0, "header stamps are up to 3.999 s ahead of the time of receipt"),
        (-0.4, "header stamps cannot be right"),
    ],
)
def test_where_header_stamps_jump_the_receipt_counts(
    fill: Callable[..., Any], recorded: Callable[..., Path], jump_s: float, reason: str
) -> None:
    messages = joints(fill) + commands(fill)
    bag = recorded(messages, stamp=lambda at_s: at_s - 0.001 + jump_s * (at_s > 4))
    found, text, printed = drafted(bag)
    assert (found.observation[0].stamp, found.clock) == ("receive", "refuse")
    assert reason in text
    assert ("goes by its time of receipt" in printed) == (jump_s < 0)
    assert "set 'stamp: receive'" not in printed
