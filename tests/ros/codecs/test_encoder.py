"""Commands that robots take beside trajectories and twists, of rclpy's classes and of rosbags'."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.bag.storage.definitions import known_type
from dql_ros.codecs import StreamDecoder, StreamEncoder, stamp_ns
from dql_ros.codecs.blank import blank_element, blank_message
from dql_ros.codecs.installed import installed_types, message_class, new_element
from dql_ros.codecs.sendable import left_out, require_room, require_sendable
from dql_ros.contract import ActionStream

Encode = Callable[..., Any]
JOG, GROUPS = "control_msgs/msg/JointJog", "control_msgs/msg/DynamicInterfaceGroupValues"


def command(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ActionStream:
    bounded = [
        field if "constant" in field else {"low": -1, "high": 1} | field for field in fields
    ]
    return ActionStream.model_validate({"topic": "c", "type": msgtype, "fields": bounded, **keys})


@pytest.fixture(params=["rclpy", "rosbags"])
def encode(request: pytest.FixtureRequest) -> Encode:
    """Encode values of a stream in a new message, of a stream of an installed type."""

    def made(stream: ActionStream, *values: float) -> Any:
        encoder = StreamEncoder(stream)
        if request.param == "rclpy":
            return encoder.encode(values, message_class(stream.type)(), 7_000_000_009, new_element)
        return encoded(stream, known_type(stream.type), *values)

    return made


def encoded(stream: ActionStream, store: Typestore, *values: float) -> Any:
    require_sendable(stream, store)
    message = blank_message(store, stream.type)
    element = partial(blank_element, store)
    return StreamEncoder(stream).encode(values, message, 7_000_000_009, element)


def defined(text: str) -> Typestore:
    """Types of which the first is t/msg/T, with those that it uses."""
    store = known_type("sensor_msgs/msg/JointState")
    made = Typestore()
    made.register(dict(store.fielddefs))
    name, *others = text.split("===")
    for part in reversed((f"t/T\n{name}", *others)):
        title, _, body = part.strip().partition("\n")
        made.register(get_types_from_msg(body, title.replace("/", "/msg/")))
    return made


def test_a_jog_of_joints_names_them_and_leaves_displacements_empty() -> None:
    stream = command(
        JOG,
        {"path": "velocities", "joints": ["shoulder", "elbow"]},
        {"path": "duration", "constant": 0.05},
        frame_id="base",
    )
    message = encoded(stream, known_type(JOG), 0.25, -1.0)
    assert message.joint_names == ["shoulder", "elbow"]
    assert message.velocities.tolist() == [0.25, -1.0]
    assert (message.displacements.tolist(), message.duration) == ([], 0.05)
    assert (stamp_ns(message), message.header.frame_id) == (7_000_000_009, "base")
    assert StreamDecoder(stream)(message).tolist() == [0.25, -1.0]


def test_numbers_flags_and_bytes_are_sent_as_the_nearest(encode: Encode) -> None:
    joy = command(
        "sensor_msgs/msg/Joy",
        {"path": "axes", "indices": [1, 0]},
        {"path": "buttons", "slice": "0:2", "low": 0, "high": 3},
    )
    message = encode(joy, 0.5, -0.25, 0.6, 2.4)
    assert (list(message.axes), list(message.buttons)) == ([-0.25, 0.5], [1, 2])
    assert StreamDecoder(joy)(message).tolist() == [0.5, -0.25, 1.0, 2.0]
    for msgtype, value, sent in [
        ("Bool", 0.49, 0.0),
        ("Bool", 0.5, 1.0),
        ("Int16", -0.6, -1.0),
        ("Byte", -0.9, -1.0),
        ("UInt64", 0.2, 0.0),
        ("Float32", 0.1, np.float32(0.1)),
    ]:
        stream = command(f"std_msgs/msg/{msgtype}", {"path": "data", "low": -1, "high": 1})
        assert StreamDecoder(stream)(encode(stream, value))[0] == pytest.approx(sent, abs=1e-8)


def test_wrenches_accelerations_and_poses_of_a_path_have_their_headers(encode: Encode) -> None:
    wrench = command(
        "geometry_msgs/msg/WrenchStamped", {"path": "wrench.torque.z"}, frame_id="tool0"
    )
    message = encode(wrench, 0.5)
    assert (message.wrench.torque.z, message.header.frame_id) == (0.5, "tool0")
    accel = command("geometry_msgs/msg/Accel", {"path": "linear.x"}, {"path": "angular.z"})
    assert StreamDecoder(accel)(encode(accel, 1.0, -0.5)).tolist() == [1.0, -0.5]
    places = [{"path": f"poses.{index}.pose.position.x"} for index in (1, 0)]
    path = encode(command("nav_msgs/msg/Path", *places, frame_id="map"), 0.75, 0.25)
    assert [each.pose.position.x for each in path.poses] == [0.25, 0.75]
    headers = [path.header, *(each.header for each in path.poses)]
    assert {(each.frame_id, each.stamp.sec, each.stamp.nanosec) for each in headers} == {
        ("map", 7, 9)
    }


def test_points_of_a_trajectory_are_due_one_after_the_other(encode: Encode) -> None:
    fields = [{"path": f"points.{index}.positions", "joints": ["a", "b"]} for index in range(2)]
    stream = command("trajectory_msgs/msg/JointTrajectory", *fields, time_from_start_s=0.75)
    message = encode(stream, 0.0, 0.25, 0.5, 0.75)
    assert [list(point.positions) for point in message.points] == [[0.0, 0.25], [0.5, 0.75]]
    dues = [point.time_from_start for point in message.points]
    assert [(due.sec, due.nanosec) for due in dues] == [(0, 750_000_000), (1, 500_000_000)]
    own = {"path": "points.0.time_from_start.sec", "constant": 3}
    message = encode(command(stream.type, fields[0], own), 0.0, 0.25)
    due = message.points[0].time_from_start
    assert (due.sec, due.nanosec) == (3, 0), "what the contract names is what it says"


def test_values_have_the_names_of_lists_of_any_name() -> None:
    gpio, arm = (f"interface_values[interface_groups={group}]" for group in ("gpio", "arm"))
    stream = command(
        GROUPS,
        {"path": f"{gpio}.values[interface_names=vacuum]", "low": 0, "high": 1},
        {"path": f"{arm}.values[interface_names=damping]"},
        {"path": f"{gpio}.values[interface_names=lamp]", "constant": 1.0},
    )
    message = encoded(stream, known_type(GROUPS), 1.0, 0.5)
    assert message.interface_groups == ["gpio", "arm"]
    assert [each.interface_names for each in message.interface_values] == [
        ["vacuum", "lamp"],
        ["damping"],
    ]
    assert [each.values.tolist() for each in message.interface_values] == [[1.0, 1.0], [0.5]]
    assert StreamDecoder(stream)(message).tolist() == [1.0, 0.5]
    dof = "control_msgs/msg/MultiDOFCommand"
    uneven = command(dof, {"path": "values[dof_names=x]"}, {"path": "values_dot[dof_names=y]"})
    with pytest.raises(ContractError, match=r"'values' cannot be sent.* element 'y' no value"):
        require_sendable(uneven, known_type(dof))


def test_a_stamp_without_a_header_is_filled_unless_the_contract_does() -> None:
    store = defined("builtin_interfaces/Time stamp\nfloat64 x\n")
    stream = command("t/msg/T", {"path": "x"}, stamp="receive")
    assert encoded(stream, store, 0.5).stamp.nanosec == 9
    own = {"path": "stamp.sec", "constant": 3}
    stream = command("t/msg/T", {"path": "x"}, own, stamp="receive")
    stamp = encoded(stream, store, 0.5).stamp
    assert (stamp.sec, stamp.nanosec) == (3, 0)


def test_an_array_that_may_be_shorter_is_as_long_as_the_contract_says() -> None:
    stream = command("t/msg/T", {"path": "x", "slice": "0:2"}, stamp="receive")
    assert encoded(stream, defined("float64[<=3] x"), 0.5, 0.25).x.tolist() == [0.5, 0.25]


def test_two_arms_in_one_message_have_joints_of_their_own() -> None:
    store = defined("sensor_msgs/JointState left\nsensor_msgs/JointState right\n")
    fields = [
        {"path": f"{side}.position", "joints": [side[0], "grip"]} for side in ("left", "right")
    ]
    message = encoded(command("t/msg/T", *fields, stamp="receive"), store, 0.0, 0.25, 0.5, 0.75)
    assert (message.left.name, message.right.name) == (["l", "grip"], ["r", "grip"])
    assert message.right.position.tolist() == [0.5, 0.75]
    assert message.right.header.stamp.sec == 7


def test_texts_are_sent_as_constants_and_what_is_left_out_is_told() -> None:
    store = defined(
        "std_msgs/Header header\nstring mode\nuint8 frame\nuint16 type_mask\nt/Part part\n"
        "float64 yaw\nfloat64[] gains\nbuiltin_interfaces/Duration until\n"
        "===t/Part\nbool hold\nstring note\n"
    )
    yaw = {"path": "yaw"}
    bare = command("t/msg/T", yaw)
    assert left_out(bare, store) == (
        "c: each command has nothing in 'mode', 'frame', 'type_mask', 'part.hold', 'part.note', "
        "0 or an empty text; what must be another gets a constant, as in "
        "{path: mode, constant: TEXT}"
    )
    named = command(
        "t/msg/T",
        yaw,
        {"path": "mode", "constant": "velocity"},
        {"path": "frame", "constant": 8},
        {"path": "type_mask", "constant": 0},
        {"path": "part.hold", "constant": 1},
        {"path": "part.note", "constant": ""},
    )
    assert left_out(named, store) == ""
    message = encoded(named, store, 0.5)
    assert (message.mode, message.frame, message.part.hold, message.yaw) == (
        "velocity",
        8,
        True,
        0.5,
    )


@pytest.mark.parametrize(
    "msgtype", ["trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray"]
)
def test_nothing_is_told_of_usual_commands(msgtype: str) -> None:
    path = "points.0.positions" if "Trajectory" in msgtype else "data"
    key: dict[str, Any] = {"joints": ["a"]} if "Trajectory" in msgtype else {"indices": [0]}
    assert left_out(command(msgtype, {"path": path, **key}), installed_types(msgtype)) == ""


@pytest.mark.parametrize(
    ("text", "fields", "problem"),
    [
        ("float64[4] x", [{"path": "x", "indices": [0, 1]}], "gives index 2 no value; select all"),
        (
            "float64[2] x",
            [{"path": "x", "slice": "0:3"}],
            "'x' has 2 elements, .* gives 3; select",
        ),
        ("float64[<=2] x", [{"path": "x", "slice": "0:3"}], "'x' takes at most 2 elements"),
        ("float64[] x", [{"path": "x", "indices": [1]}], "gives index 0 no value; select all"),
        ("float64[] x", [{"path": "x"}], "'x' is an array of 0, not one number; name a number"),
        ("float64[] x", [{"path": "x.0"}, {"path": "x", "indices": [0]}], "element 0 two values"),
        ("float64 x", [{"path": "x"}, {"path": "x", "constant": 1}], "gives it two values"),
        ("string x", [{"path": "x"}], "'x' is a str, not one number"),
        ("float64 y\nfloat64 x", [{"path": "y"}, {"path": "x", "constant": "a"}], "not a text"),
        ("t/P[] x\n===t/P\nfloat64 y", [{"path": "x.1.y"}], "'x' .* gives index 0 no value"),
        (
            "string[] name\nt/P[] x\n===t/P\nfloat64 y",
            [{"path": "x.0.y"}, {"path": "x[name=a].y"}],
            "some of its elements by their place and others by name; select all by name",
        ),
        ("float64[] x", [{"path": "x.200000"}], "over 100,000 elements"),
        ("float64 x", [{"path": "z"}], "no field 'z'"),
    ],
)
def test_what_a_message_does_not_take_is_said_with_the_remedy(
    text: str, fields: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(ContractError, match=f"^c: .*{problem}"):
        require_sendable(command("t/msg/T", *fields, stamp="receive"), defined(text))


@pytest.mark.parametrize(
    ("kind", "field", "problem"),
    [
        ("uint8", {}, "'x' is a uint8, which has 0 to 255, and gets down to -1; correct"),
        ("int8", {"low": 0, "high": 200}, "gets up to 200"),
        ("byte", {"low": 0, "high": 128}, "a byte, which has -128 to 127, and gets up to 128"),
        ("int8", {"unit": "m", "message_unit": "mm"}, "gets down to -1000"),
        ("int8", {"scale": -0.001}, "gets down to -1000"),
        ("float32", {"low": 0, "high": 1e39}, "gets up to 1e"),
        ("bool", {"low": -1, "high": 1}, None),
        ("uint64", {"low": 0, "high": 1.8e19}, None),
        ("float64", {"low": -1e300, "high": 1e300}, None),
    ],
)
def test_bounds_that_a_field_cannot_hold_are_refused(
    kind: str, field: dict[str, Any], problem: str | None
) -> None:
    stream = command("t/msg/T", {"path": "x", **field}, stamp="receive")
    store = defined(f"{kind} x")
    require_sendable(stream, store)
    if problem is None:
        require_room(stream, store)
        return
    with pytest.raises(ContractError, match=re.escape(problem)):
        require_room(stream, store)


@pytest.mark.parametrize(
    ("constant", "problem"), [(0.5, "constant 0.5; give it a whole"), (300, "the constant 300")]
)
def test_constants_that_a_field_cannot_hold_are_refused(constant: float, problem: str) -> None:
    fields = {"path": "y"}, {"path": "x", "constant": constant}
    stream = command("t/msg/T", *fields, stamp="receive")
    with pytest.raises(ContractError, match=problem):
        require_room(stream, defined("float64 y\nuint8 x"))


@pytest.mark.parametrize("place", ["frame_id", "joints", "constant"])
def test_texts_that_ros_would_cut_are_refused(place: str) -> None:
    joints = ["a\0b"] if place == "joints" else ["a"]
    constant = {"path": "header.frame_id", "constant": "c\0d"}
    stream = command(
        "sensor_msgs/msg/JointState",
        {"path": "position", "joints": joints},
        *([constant] if place == "constant" else []),
        frame_id="e\0f" if place == "frame_id" else "",
    )
    with pytest.raises(ContractError, match="has a zero byte, at which ROS 2 ends a text"):
        require_sendable(stream, installed_types(stream.type))


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        *[("Int8", 127.5), ("Int8", -129), ("UInt8", -1), ("UInt16", 65_536), ("Char", 256)],
        *[("Int32", 2.0**31), ("UInt64", 2.0**64), ("Int64", 2.0**63), ("Byte", 128)],
    ],
)
def test_whole_numbers_do_not_lose_their_upper_bits(kind: str, number: float) -> None:
    """Which rclpy would send without a word: 128 as -128."""
    stream = command(f"std_msgs/msg/{kind}", {"path": "data"})
    with pytest.raises(ContractError, match=r"c: 'data' cannot be sent: .* has no "):
        StreamEncoder(stream).encode([number], message_class(stream.type)(), 0, new_element)


def test_what_is_no_number_is_not_sent_as_a_whole_one(encode: Encode) -> None:
    for msgtype, path in [("std_msgs/msg/Int32", "data"), ("std_msgs/msg/Bool", "data")]:
        with pytest.raises(ContractError, match=r"c: 'data' cannot be sent: .* not nan"):
            encode(command(msgtype, {"path": path}), np.nan)
