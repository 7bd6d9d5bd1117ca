"""Drafts of contracts: what is proposed, and that a conversion accepts it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract, contract_problems, load_contract
from dql_ros.convert.convert import ConvertOptions, Source, convert
from dql_ros.tools.contract_draft.choices import outward, upward, usual_rate
from dql_ros.tools.contract_draft.draft import Draft, draft_contract
from dql_ros.tools.contract_draft.topic_profile import profile_topics
from dql_ros.tools.contract_draft.yaml_text import comment, entry, flow
from tests.ros.tools.draft_samples import filled

SECOND = 1_000_000_000
BAGS = Path(__file__).parents[4] / "shared" / "data" / "bags"
JOINTS, TWIST = "sensor_msgs/msg/JointState", "geometry_msgs/msg/Twist"
Message = tuple[str, str, int, Any]


def drafted(bag_path: Path, rate_hz: float | None = None) -> Draft:
    with Bag(bag_path) as bag:
        return draft_contract(profile_topics(bag), bag_path.name, rate_hz)


def written(tmp_path: Path, draft: Draft) -> Path:
    path = tmp_path / "draft.yaml"
    path.write_text(draft.text)
    return path


def converts(tmp_path: Path, draft: Draft, bag: Path) -> tuple[Contract, dict[str, Any]]:
    assert draft.missing == ()
    contract = load_contract(written(tmp_path, draft))
    return contract, convert(
        Source(contract, [bag]), tmp_path / "out", ConvertOptions(dry_run=True)
    )


@pytest.fixture
def make(blank: Callable[[str], Any]) -> Callable[..., Any]:
    def made(msgtype: str, stamp_ns: int = 0, **values: Any) -> Any:
        message = blank(msgtype)
        if hasattr(message, "header"):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND)
        return filled(message, values)

    return made


def every(period_ns: int, count: int, start_ns: int = 100 * SECOND) -> Iterable[tuple[int, int]]:
    return ((start_ns + tick * period_ns, tick) for tick in range(count))


def arm(make: Callable[..., Any], names: Callable[[int], list[str]]) -> list[Message]:
    messages: list[Message] = []
    for now, tick in every(SECOND // 100, 300):
        angles = {"a": np.sin(tick / 20), "b": np.cos(tick / 20), "c": 0.1 * tick}
        order = names(tick)
        message = make(
            JOINTS,
            now - 2_000_000,
            name=order,
            position=np.array([angles[name] for name in order]),
            velocity=np.zeros(len(order)),
        )
        messages.append(("/joint_states", JOINTS, now, message))
    for now, tick in every(SECOND // 25, 75):
        twist = make(TWIST, linear__x=0.5 * np.sin(tick / 5), angular__z=1.0)
        messages.append(("/cmd_vel", TWIST, now, twist))
    return sorted(messages, key=lambda message: message[2])


def test_arm_gets_its_joints_rate_ages_and_bounds_and_converts(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    orders = [["a", "b", "c"], ["c", "a", "b"]]
    bag = record(tmp_path / "arm_bag", arm(make, lambda tick: orders[tick % 2]))
    draft = drafted(bag)
    contract, report = converts(tmp_path, draft, bag)
    assert contract.robot == "arm_bag"
    assert contract.rate_hz == 25
    (stream,) = contract.observation
    assert (stream.topic, stream.stamp) == ("/joint_states", "header")
    assert stream.max_age_s == 0.1
    (field,) = stream.fields
    assert (field.path, field.joints, field.unit) == ("position", ("a", "b", "c"), "rad")
    assert "# - {path: velocity, joints: [a, b, c], unit: rad/s}  # never changed; was 0" in (
        draft.text
    )
    (command,) = contract.action
    x, *others, z = command.fields
    assert (x.path, x.unit, x.low, x.high) == ("linear.x", "m/s", -0.5, 0.5)
    assert [(field.path, field.constant) for field in others] == [
        (path, 0.0) for path in ("linear.y", "linear.z", "angular.x", "angular.y")
    ]
    # A speed of 1 as a constant would be sent with the stop, too.
    assert (z.path, z.constant, z.low, z.high) == ("angular.z", None, 0.0, 1.0)
    assert contract.safe_command == (0.0, 0.0)
    assert "- {path: linear.y, unit: m/s, constant: 0.0}  # always 0" in draft.text
    assert report["totals"]["episodes"] == 1
    assert report["totals"]["transitions"] == pytest.approx(75, abs=2)
    assert report["totals"]["clipped_actions"] == 0


def test_joints_that_hardly_any_message_has_are_left_out_and_this_is_said(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    bag = record(tmp_path / "bag", arm(make, lambda tick: ["a", "b", "c"][: 2 + (tick == 9)]))
    draft = drafted(bag)
    contract, _ = converts(tmp_path, draft, bag)
    (stream,) = contract.observation
    assert stream.fields[0].joints == ("a", "b")
    assert "# - {path: position, joints: [c]}  # in 1 of 300 messages only" in draft.text


def test_goal_reward_and_ends_find_their_places(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    point, number, flag = (
        "geometry_msgs/msg/PointStamped",
        "std_msgs/msg/Float64",
        "std_msgs/msg/Bool",
    )
    messages = arm(make, lambda tick: ["a", "b"])
    start = 100 * SECOND + 5
    goal = make(point, start, point__x=1.0, point__y=2.0)
    messages.append(("/goal", point, start, goal))
    messages += [("/reward", number, now + 7, make(number)) for now, _ in every(SECOND // 25, 75)]
    messages.sort(key=lambda message: message[2])
    bag = record(tmp_path / "bag", messages, silent={"/done": flag, "/rosout": flag})
    draft = drafted(bag)
    contract, report = converts(tmp_path, draft, bag)
    latched = [stream for stream in contract.observation if stream.latched]
    assert [stream.topic for stream in latched] == ["/goal"]
    assert [field.path for field in latched[0].fields] == ["point.x", "point.y", "point.z"]
    assert contract.signals["reward"].topic == "/reward"
    assert contract.signals["terminated"].topic == "/done"
    assert "# /rosout (std_msgs/Bool, 0 messages): no message" in draft.text
    assert report["totals"]["episodes"] == 1


def test_rotation_is_told_from_four_other_numbers_and_yaw_from_tilt(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    pose = "geometry_msgs/msg/Pose"
    messages: list[Message] = arm(make, lambda tick: ["a"])
    for now, tick in every(SECOND // 50, 150):
        turn, half = tick / 30, np.sqrt(0.5)
        round_ = {"orientation__z": np.sin(turn), "orientation__w": np.cos(turn)}
        flat = {"orientation__z": np.sin(turn / 4), "orientation__w": np.cos(turn / 4)}
        tilted = {"orientation__x": half * np.sin(turn), "orientation__y": half * np.sin(turn)}
        tilted["orientation__w"] = np.cos(turn)
        odd = {"orientation__x": turn, "orientation__w": 2.0}
        poses = {"/flat": flat, "/round": round_, "/tilted": tilted, "/odd": odd}
        for topic, values in poses.items():
            messages.append((topic, pose, now, make(pose, **values)))
    bag = record(tmp_path / "bag", sorted(messages, key=lambda message: message[2]))
    contract, _ = converts(tmp_path, drafted(bag), bag)
    fields = {stream.topic: stream.fields for stream in contract.observation}
    assert [field.rotation for field in fields["/flat"]] == ["yaw"]
    assert [field.rotation for field in fields["/tilted"]] == ["6d"]
    assert [field.rotation for field in fields["/round"]] == ["6d"]
    assert [field.path for field in fields["/odd"]] == ["orientation.x"]


def test_joints_that_jump_by_a_turn_are_proposed_as_cosine_and_sine(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    state, messages = "sensor_msgs/msg/JointState", arm(make, lambda tick: ["a"])
    for now, tick in every(SECOND // 50, 300):
        wheel = np.remainder(tick / 20, 2 * np.pi)
        position = np.array([wheel, np.sin(tick / 9), -wheel, tick / 20])
        values = {"name": ["left", "lift", "right", "winch"], "position": position}
        messages.append(("/wheels", state, now, make(state, **values)))
    bag = record(tmp_path / "bag", sorted(messages, key=lambda message: message[2]))
    draft = drafted(bag)
    contract, report = converts(tmp_path, draft, bag)
    (wheels,) = (stream for stream in contract.observation if stream.topic == "/wheels")
    assert [(field.joints, field.rotation, field.unit) for field in wheels.fields] == [
        (("lift", "winch"), None, "rad"),
        (("left", "right"), "cos_sin", ""),
    ]
    assert "rotation: cos_sin} # jumps by a full turn" in " ".join(draft.text.split())
    assert not [text for text in report["remarks"] if "full turn" in text]


def test_trajectory_command_is_its_first_point_by_joint_name(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path], typestore: Any
) -> None:
    trajectory = "trajectory_msgs/msg/JointTrajectory"
    point = typestore.types["trajectory_msgs/msg/JointTrajectoryPoint"]
    duration = typestore.types["builtin_interfaces/msg/Duration"]
    messages = [message for message in arm(make, lambda tick: ["a", "b"]) if message[1] == JOINTS]
    for now, tick in every(SECOND // 20, 60):
        empty = np.zeros(0)
        points = [
            point(np.array([tick / 60, -step]), np.ones(2), empty, empty, duration(0, step))
            for step in (1, 2)
        ]
        message = make(trajectory, now, joint_names=["a", "b"], points=points)
        messages.append(("/arm/joint_trajectory", trajectory, now, message))
    bag = record(tmp_path / "bag", sorted(messages, key=lambda message: message[2]))
    draft = drafted(bag)
    contract, _ = converts(tmp_path, draft, bag)
    moving, still = contract.action[0].fields
    assert (moving.path, moving.joints) == ("points.0.positions", ("a",))
    assert (moving.low, moving.high) == (0.0, 1.0)
    assert (still.path, still.joints, still.constant) == ("points.0.positions", ("b",), -1.0)
    assert "only the first point of a trajectory is learnt" in draft.text


def test_stamps_of_another_clock_are_not_used(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    messages = [
        (topic, kind, now + 10**6 * SECOND, message)
        for topic, kind, now, message in arm(make, lambda tick: ["a"])
    ]
    bag = record(tmp_path / "bag", messages)
    draft = drafted(bag)
    contract, _ = converts(tmp_path, draft, bag)
    assert contract.observation[0].stamp == "receive"
    assert "header stamps are 1e+06 s off the time of receipt" in draft.text


def test_fields_of_topics_with_one_last_part_get_names_of_their_own(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    messages: list[Message] = []
    for topic, kind, now, message in arm(make, lambda tick: ["a"]):
        sides = ("/left", "/right") if kind == JOINTS else ("",)
        messages += [(side + topic, kind, now, message) for side in sides]
    bag = record(tmp_path / "bag", messages)
    contract, _ = converts(tmp_path, drafted(bag), bag)
    assert [spec.name for spec in contract.policy_spec().observation] == [
        "left.joint_states.position.a",
        "right.joint_states.position.a",
    ]


def test_one_of_several_velocity_commands_is_taken(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    messages: list[Message] = []
    for topic, kind, now, message in arm(make, lambda tick: ["a"]):
        messages.append((topic, kind, now, message))
        if kind == TWIST:
            messages += [("/cmd_vel_raw", kind, now, message)] * 2
    bag = record(tmp_path / "bag", messages)
    draft = drafted(bag)
    contract, _ = converts(tmp_path, draft, bag)
    assert [stream.topic for stream in contract.action] == ["/cmd_vel"]
    assert "another velocity command; /cmd_vel is taken" in draft.text


def test_numbers_that_are_not_finite_are_counted_and_split_episodes(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    messages = arm(make, lambda tick: ["a"])
    _, _, _, broken = [message for message in messages if message[1] == JOINTS][150]
    broken.position[0] = np.nan
    bag = record(tmp_path / "bag", messages)
    draft = drafted(bag)
    contract, report = converts(tmp_path, draft, bag)
    assert contract.nonfinite == "split"
    assert "1 times no number" in draft.text
    assert report["totals"]["episodes"] >= 1


def test_without_commands_the_action_is_left_to_be_filled_in_and_nothing_else(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    messages = [message for message in arm(make, lambda tick: ["a"]) if message[1] == JOINTS]
    draft = drafted(record(tmp_path / "bag", messages))
    assert draft.missing == ("action: no topic was found that commands the robot",)
    assert "FILL IN action" in draft.text
    assert contract_problems(written(tmp_path, draft)) == ["key 'action' is missing"]


def test_without_anything_of_the_robot_the_observation_is_left_to_be_filled_in(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    messages = [message for message in arm(make, lambda tick: ["a"]) if message[1] == TWIST]
    draft = drafted(record(tmp_path / "bag", messages))
    assert contract_problems(written(tmp_path, draft)) == ["key 'observation' is missing"]


def test_rate_that_is_asked_for_is_taken(
    tmp_path: Path, make: Callable[..., Any], record: Callable[..., Path]
) -> None:
    bag = record(tmp_path / "bag", arm(make, lambda tick: ["a"]))
    contract, _ = converts(tmp_path, drafted(bag, 5.0), bag)
    assert contract.rate_hz == 5.0


@settings(deadline=None, max_examples=200)
@example((999999999999.9999, 1e12))
@given(
    st.tuples(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12)).map(
        lambda pair: (min(pair), max(pair))
    )
)
def test_bounds_hold_the_data_and_little_more(span: tuple[float, float]) -> None:
    low, high = outward(*span)
    assert low < high
    slack = 0.101 * (span[1] - span[0])
    if slack > 1e-9:
        assert span[0] - slack <= low
        assert high <= span[1] + slack
    precision = 1e-9 * max(1.0, abs(low), abs(high))
    assert low <= span[0] + precision
    assert high >= span[1] - precision


@settings(deadline=None, max_examples=100)
@given(st.floats(1e-6, 1e6))
def test_limits_are_rounded_up_by_less_than_double(number: float) -> None:
    assert number * 0.999 <= upward(number) <= 2.01 * number


def test_rates_are_those_that_people_choose() -> None:
    assert [usual_rate(rate) for rate in (9.99, 98.8, 59.4, 16.9, 0.1064)] == [
        10.0, 100.0, 60.0, 17.0, 0.11,
    ]  # fmt: skip


@settings(deadline=None, max_examples=300)
@example("0{")
@given(
    st.recursive(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=80)
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-100, 100),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    )
)
def test_whatever_is_written_is_read_back(value: Any) -> None:
    assert yaml.safe_load(f"key: {flow(value)}  # remark") == {"key": value}
    lines = entry(f"  - {{key: [{flow(value)}, {flow(value)}]}}", "a remark on it " * 8)
    assert yaml.safe_load("\n".join(lines)) == [{"key": [value, value]}]


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=300))
def test_a_comment_stays_a_comment_whatever_its_text(text: str) -> None:
    lines = comment(text, 4)
    assert yaml.safe_load("\n".join(["a: 1", *lines, "b: 2"])) == {"a": 1, "b": 2}


@pytest.mark.realdata
@pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags")
@pytest.mark.parametrize(
    "name",
    ["crazyflie/pitch0bag", "crazyflie/rollbag", "crazyflie/yx1bag", "turtlesim_jazzy"],
)
def test_drafts_for_recordings_of_others_convert_them(tmp_path: Path, name: str) -> None:
    draft = drafted(BAGS / name)
    contract, report = converts(tmp_path, draft, BAGS / name)
    assert report["totals"]["transitions"] > 15
    assert report["totals"]["clipped_actions"] == 0
    if name.startswith("crazyflie"):
        assert [stream.topic for stream in contract.action] == ["/cf_controll"]
        assert [s.topic for s in contract.observation if s.latched] == ["/cf_command"]


@pytest.mark.realdata
@pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags")
@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("robot_localization_ros1/test1.bag", ["action"]),
        ("robot_localization_ros1/test2.bag", ["action"]),
        ("libmcap_0_8/base_msgs", ["rate_hz", "observation"]),
        ("libmcap_0_8/array_msgs", ["rate_hz", "observation", "action"]),
        ("galactic_sqlite3", ["rate_hz", "observation", "action"]),
        ("nav2_mcap_zstd", ["observation"]),
    ],
)
def test_drafts_for_recordings_without_a_robot_say_what_to_fill_in(
    tmp_path: Path, name: str, keys: list[str]
) -> None:
    draft = drafted(BAGS / name)
    assert [each.partition(":")[0] for each in draft.missing] == keys
    problems = contract_problems(written(tmp_path, draft))
    assert problems
    assert all(any(key in problem for key in keys) for problem in problems)


@pytest.mark.realdata
@pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags")
def test_draft_for_every_type_of_message_is_right_but_for_what_is_missing(tmp_path: Path) -> None:
    draft = drafted(BAGS / "all_common_interfaces" / "test_bag_mcap")
    assert contract_problems(written(tmp_path, draft)) == [
        "at least one observation stream must not be latched"
    ]
