"""What a draft takes topics for: quantities, not codes; commands, not orders; a joint once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from typer.testing import CliRunner

from dql_ros.bag.reader import Bag
from dql_ros.cli.contract import contract
from dql_ros.contract import Contract, load_contract
from dql_ros.tools.contract_draft.topic_profile import Profiler, TopicProfile
from tests.ros.bag.sample_writer import SampleWriter
from tests.ros.conftest import blank_message

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
uint8 reset_counter
""",
    "control_msgs/msg/JointTrajectoryControllerState": """
std_msgs/Header header
string[] joint_names
trajectory_msgs/JointTrajectoryPoint reference
trajectory_msgs/JointTrajectoryPoint feedback
trajectory_msgs/JointTrajectoryPoint error
""",
}
Messages = list[tuple[str, str, float, Any]]


@pytest.fixture(scope="module")
def store() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for name, text in DEFINITIONS.items():
        types |= get_types_from_msg(text, name)
    store.register({name: each for name, each in types.items() if name not in store.fielddefs})
    return store


@pytest.fixture
def make(store: Typestore) -> Callable[..., Any]:
    def made(msgtype: str, **values: Any) -> Any:
        message = blank_message(store, msgtype)
        for path, value in values.items():
            *owners, last = path.split("__")
            owner = message
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, last, value)
        return message

    return made


@pytest.fixture
def recorded(tmp_path: Path, store: Typestore) -> Callable[..., Path]:
    def write(messages: Messages, name: str = "bag") -> Path:
        with SampleWriter(tmp_path / name, typestore=store) as writer:
            known: set[str] = set()
            for topic, msgtype, at_s, message in sorted(messages, key=lambda each: each[2]):
                if topic not in known:
                    writer.add_topic(topic, msgtype)
                    known.add(topic)
                if hasattr(message, "header"):
                    now = round((100 + at_s) * SECOND) - 1_000_000
                    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, SECOND)
                content = store.serialize_cdr(message, msgtype)
                writer.write(topic, content, round((100 + at_s) * SECOND))
        return tmp_path / name

    return write


def drafted(*bags: Path) -> tuple[Contract, str, str]:
    """Return the draft, its text, and what `dql contract init` printed; it fits its bags."""
    out = bags[0].parent / f"{bags[0].name}.yaml"
    made = CliRunner().invoke(contract, ["init", *map(str, bags), "--out", str(out)])
    assert made.exit_code == 0, made.output
    checked = CliRunner().invoke(contract, ["check", str(out), *map(str, bags)])
    assert checked.exit_code == 0, checked.output
    return load_contract(out), " ".join(out.read_text().replace("#", " ").split()), made.output


def topics(found: Contract) -> tuple[list[str], list[str]]:
    return [s.topic for s in found.observation], [s.topic for s in found.action]


def times(
    rate_hz: float, duration_s: float, start_s: float = 0.0
) -> Iterator[tuple[float, float]]:
    """Yield times, and a number that moves with them."""
    for tick in range(round(rate_hz * duration_s)):
        now = start_s + tick / rate_hz
        yield now, float(np.sin(now))


def joints(make: Callable[..., Any], topic: str = "/joint_states", **more: Any) -> Messages:
    return [
        (topic, JOINTS, now, make(JOINTS, name=["a", "b"], position=np.array([x, 2 * x]), **more))
        for now, x in times(50, 8)
    ]


def array(make: Callable[..., Any], values: list[float]) -> Any:
    return make(NUMBERS, data=np.array(values))


def commands(make: Callable[..., Any], topic: str = "/arm_controller/commands") -> Messages:
    return [(topic, NUMBERS, now + 0.004, array(make, [x, x])) for now, x in times(25, 8)]


def test_of_a_drone_the_odometry_is_observed_and_the_setpoint_commanded(
    make: Callable[..., Any], recorded: Callable[..., Path]
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
            messages.append((topic, px4, now, make(px4, timestamp=tick, **values)))
    order = "px4_msgs/msg/VehicleCommand"
    messages += [("/fmu/in/vehicle_command", order, at, make(order, param1=at)) for at in (1, 2)]
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
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make) + commands(make) + joints(make, "/joint_states_desired")
    messages += joints(make, "/robot/joint_state_broadcaster/joint_states")
    report = "control_msgs/msg/JointTrajectoryControllerState"
    for now, x in times(50, 8):
        both = np.array([x, 2 * x])
        message = make(report, joint_names=["a", "b"])
        message.reference.positions = message.feedback.positions = both
        message.error.positions = both - np.array([0.0, x])
        messages.append(("/arm_controller/controller_state", report, now, message))
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert "the same joints as /joint_states" in text
    assert "a set-point as the robot reports it" in text


def test_without_a_command_the_reported_setpoint_is_learnt_from_and_this_is_said(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make)
    report = "control_msgs/msg/JointTrajectoryControllerState"
    for now, x in times(50, 8):
        message = make(report, joint_names=["a", "b"])
        message.reference.positions = np.array([x, 3 * x])
        message.feedback.positions = np.array([x, 2 * x])
        messages.append(("/arm_controller/controller_state", report, now, message))
    found, _, printed = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/controller_state"])
    assert [field.path for field in found.action[0].fields] == ["reference.positions"]
    assert "no topic commands the robot" in printed


def test_an_array_of_many_lengths_leaves_no_command_and_its_layout_is_none(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make) + commands(make)
    for index, (now, x) in enumerate(times(20, 8)):
        message = array(make, [x] * (index % 20))
        message.layout.data_offset = index
        messages.append(("/gripper/command", NUMBERS, now, message))
    found, text, _ = drafted(recorded(messages))
    assert topics(found)[1] == ["/arm_controller/commands"]
    assert "data_offset" not in text


def test_arrays_of_more_than_64_are_named(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make) + commands(make)
    messages += [
        (topic, NUMBERS, now, array(make, [x] * 100))
        for now, x in times(20, 8)
        for topic in ("/skin", "/skin/command")
    ]
    found, text, _ = drafted(recorded(messages))
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert text.count("'data' has 100 elements; init proposes arrays of up to 64") == 2


def test_one_command_for_the_whole_recording_stays_in_force(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make)
    messages.append(("/arm_controller/commands", NUMBERS, 1.0, array(make, [0.5, 1.0])))
    found, text, _ = drafted(recorded(messages))
    assert found.action[0].max_age_s >= 7
    assert "sent once, and in force until the end" in text


def test_an_order_beside_commands_that_come_all_the_time_is_none(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make) + commands(make)
    messages.append(("/gripper/command", NUMBERS, 5.0, array(make, [0.5])))
    twist = make(TWIST, linear__x=1.0)
    messages.append(("/cmd_vel", TWIST, 6.0, twist))
    found, text, _ = drafted(recorded(messages))
    assert topics(found)[1] == ["/arm_controller/commands"]
    assert "sent once, beside /arm_controller/commands" in text


def test_an_operators_arm_commands_the_other(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make, "/follower/joint_states") + joints(make, "/leader/joint_states")
    found, _, _ = drafted(recorded(messages))
    assert topics(found) == (["/follower/joint_states"], ["/leader/joint_states"])


@pytest.mark.parametrize("pause_s", [0.0, 3600.0])
def test_a_pause_changes_neither_rate_nor_ages(
    make: Callable[..., Any], recorded: Callable[..., Path], pause_s: float
) -> None:
    messages = [
        (topic, kind, now + pause_s * (now > 4), message)
        for topic, kind, now, message in joints(make) + commands(make)
    ]
    found, _, _ = drafted(recorded(messages))
    assert found.rate_hz == 25
    assert [found.observation[0].max_age_s, found.action[0].max_age_s] == [0.2, 0.2]


def test_bounds_and_topics_are_those_of_all_recordings(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    bags = []
    for index, size in enumerate((1.0, 5.0)):
        messages = joints(make)
        messages += [
            ("/arm_controller/commands", NUMBERS, now, array(make, [size * x, x]))
            for now, x in times(25, 8)
        ]
        if index == 0:
            messages += joints(make, "/other/joint_states")
            messages += [
                ("/cmd_vel", TWIST, now, make(TWIST, linear__x=x)) for now, x in times(20, 8)
            ]
        bags.append(recorded(messages, f"bag_{index}"))
    found, text, _ = drafted(*bags)
    assert topics(found) == (["/joint_states"], ["/arm_controller/commands"])
    assert found.action[0].fields[0].high == (5.0, 1.0)
    assert f"{bags[1]} has no message of it" in text


def test_times_between_recordings_are_no_pauses(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    profiler = Profiler()
    for name in ("one", "two"):
        with Bag(recorded(joints(make), name)) as bag:
            profiler.add(bag)
    (topic,) = profiler.topics()
    assert isinstance(topic, TopicProfile)
    assert topic.count == 800
    assert topic.timing["longest_pause_s"] == 0.02
    assert topic.timing["rate_hz"] == 50.0


def test_a_topic_that_leaves_little_is_taken_out_and_this_is_said(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make) + commands(make)
    messages += [
        ("/wrench", "geometry_msgs/msg/Vector3", now, make("geometry_msgs/msg/Vector3", x=x))
        for now, x in times(20, 0.5)
    ]
    found, text, printed = drafted(recorded(messages))
    assert topics(found)[0] == ["/joint_states"]
    assert "/wrench is not used: it would cost" in printed
    assert "/wrench (geometry_msgs/Vector3, 10 messages): it would cost" in text


def trajectory(make: Callable[..., Any], store: Typestore, points: int, names: list[str]) -> Any:
    kind = "trajectory_msgs/msg/JointTrajectory"
    values = [
        make(
            f"{kind}Point",
            positions=np.full(len(names), index / points),
            velocities=np.ones(len(names)),
            accelerations=np.ones(len(names)),
        )
        for index in range(points)
    ]
    return make(kind, joint_names=names, points=values)


def test_whole_trajectories_now_and_then_are_no_match_for_reported_setpoints(
    make: Callable[..., Any], recorded: Callable[..., Path], store: Typestore
) -> None:
    messages = joints(make)
    kind = "trajectory_msgs/msg/JointTrajectory"
    messages += [
        (
            "/arm_controller/joint_trajectory",
            kind,
            at,
            trajectory(make, store, 60 + at, ["a", "b"]),
        )
        for at in (1, 3, 4, 6)
    ]
    found, _, printed = drafted(recorded(messages))
    assert topics(found)[1] == ["/arm_controller/joint_trajectory"]
    assert [field.path for field in found.action[0].fields] == ["points.0.positions"]
    assert found.action[0].max_age_s >= 2
    report = "control_msgs/msg/JointTrajectoryControllerState"
    for now, x in times(50, 8):
        message = make(report, joint_names=["a", "b"])
        message.reference.positions = np.array([x, 3 * x])
        message.feedback.positions = np.array([x, 2 * x])
        messages.append(("/arm_controller/controller_state", report, now, message))
    found, text, printed = drafted(recorded(messages, "reported"))
    assert topics(found)[1] == ["/arm_controller/controller_state"]
    assert "the action is the set-point that /arm_controller/controller_state reports" in printed
    assert "sent 4 times; /arm_controller/controller_state reports what came of it" in text


def test_of_commands_that_are_never_there_together_one_is_left(
    make: Callable[..., Any], recorded: Callable[..., Path], store: Typestore
) -> None:
    messages = joints(make)
    kind = "trajectory_msgs/msg/JointTrajectory"
    messages += [("/cmd_vel", TWIST, now, make(TWIST, linear__x=x)) for now, x in times(20, 4)]
    messages += [
        ("/arm_controller/commands", NUMBERS, now, array(make, [x, x]))
        for now, x in times(20, 1.5, 5.0)
    ]
    messages += [
        ("/torso_controller/joint_trajectory", kind, now, trajectory(make, store, 1, ["a"]))
        for now, _ in times(20, 0.8, 7.0)
    ]
    found, _, printed = drafted(recorded(messages))
    assert topics(found)[1] == ["/cmd_vel"]
    assert printed.count("the least of all") + printed.count("it would cost") == 2


def test_what_came_nearest_is_named_where_nothing_commands(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = joints(make)
    for now, x in times(20, 8):
        messages.append(("/arm_controller/commands", NUMBERS, now, array(make, [x] * 100)))
    bag = recorded(messages)
    made = CliRunner().invoke(contract, ["init", str(bag), "--out", str(bag.parent / "c.yaml")])
    assert (
        "fill in action: no topic was found that commands the robot (/arm_controller/commands: "
        "'data' has 100 elements; init proposes arrays of up to 64)"
    ) in made.output.replace("\n", " ")


def test_numbers_that_come_together_are_proposed_where_not_all_messages_have_them(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = commands(make)
    for now, x in times(50, 8):
        arm = make(JOINTS, name=["a", "b"], position=np.array([x, 2 * x]))
        gripper = make(JOINTS, name=["g"], position=np.array([x]))
        messages += [("/joint_states", JOINTS, now, arm)]
        messages += [("/joint_states", JOINTS, now + 0.0001, gripper)]
        messages += [("/force", NUMBERS, now, array(make, [x, x] if int(now * 50) % 5 else []))]
    found, text, _ = drafted(recorded(messages))
    force, arm = sorted(found.observation, key=lambda stream: stream.topic)
    assert [field.joints for field in arm.fields] == [("a", "b")]
    assert (arm.max_age_s, arm.skips_absent) == (0.2, True)
    assert [field.indices for field in force.fields] == [(0, 1)]
    assert "when_absent: skip not all messages have these numbers" in text


def test_frames_are_observed_by_name_where_nothing_else_shows_the_state(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    kind, single = "tf2_msgs/msg/TFMessage", "geometry_msgs/msg/TransformStamped"
    messages = commands(make)
    for index, (now, x) in enumerate(times(50, 8)):
        frames = [
            make(
                single,
                child_frame_id=name,
                transform__translation__x=x,
                transform__rotation__w=1.0,
            )
            for name in ("base", "tool0")
        ]
        message = make(kind, transforms=frames[:: 1 - 2 * (index % 2)])
        messages.append(("/tf", kind, now, message))
    bag = recorded(messages)
    found, _, _ = drafted(bag)
    assert [field.path for field in found.observation[0].fields] == [
        f"transforms[child_frame_id={name}].transform.translation.x" for name in ("base", "tool0")
    ]
    found, text, _ = drafted(recorded([*messages, *joints(make)], "with_joints"))
    assert topics(found)[0] == ["/joint_states"]
    assert "a tree of frames" in text


def test_numbers_that_float32_would_blur_are_counted_from_another_zero(
    make: Callable[..., Any], recorded: Callable[..., Path]
) -> None:
    messages = [
        (
            "/place",
            "geometry_msgs/msg/Vector3",
            now,
            make("geometry_msgs/msg/Vector3", x=5.9e6 + x, y=x),
        )
        for now, x in times(50, 8)
    ]
    messages += [
        ("/arm_controller/commands", NUMBERS, now, array(make, [5.9e6 + x]))
        for now, x in times(25, 8)
    ]
    found, text, _ = drafted(recorded(messages))
    assert [field.offset for field in found.observation[0].fields] == ["first", 0.0]
    (command,) = found.action[0].fields
    assert isinstance(command.offset, float)
    assert (command.low, command.high) != (0.0, 0.0)
    assert 5.9e6 - 20 < command.offset + command.low <= 5.9e6 - 1  # type: ignore[operator]
    assert "else float32 has steps of 0.5 there" in text
