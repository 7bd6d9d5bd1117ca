from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_core.errors import ContractError
from dql_ros.codecs import CommandEndedError, StreamDecoder, StreamEncoder, stamp_ns
from dql_ros.codecs.message_path import AbsentError, MessagePath
from dql_ros.contract import ActionStream, ObservationStream

JOINTS = ("shoulder", "elbow", "wrist")
# One stream of every message type that the issue asks for, with a value for each of its fields.
STREAMS = {
    "multi_array": {
        "type": "std_msgs/msg/Float64MultiArray",
        "fields": [{"path": "data", "indices": [2, 0, 1], "low": -9, "high": 9}],
    },
    "joint_state": {
        "type": "sensor_msgs/msg/JointState",
        "fields": [
            {"path": "velocity", "joints": JOINTS, "low": -9, "high": 9},
            {"path": "position", "joints": JOINTS[::-1], "low": -9, "high": 9},
        ],
    },
    "joint_trajectory": {
        "type": "trajectory_msgs/msg/JointTrajectory",
        "fields": [{"path": "points.0.positions", "joints": JOINTS, "low": -9, "high": 9}],
    },
    "twist": {
        "type": "geometry_msgs/msg/Twist",
        "fields": [
            {"path": "angular.z", "low": -9, "high": 9},
            {"path": "linear.x", "low": -9, "high": 9},
        ],
    },
    "twist_stamped": {
        "type": "geometry_msgs/msg/TwistStamped",
        "fields": [
            {"path": "twist.linear.x", "low": -9, "high": 9},
            {"path": "twist.angular.z", "low": -9, "high": 9},
        ],
    },
    "point_stamped": {
        "type": "geometry_msgs/msg/PointStamped",
        "fields": [{"path": f"point.{axis}", "low": -9, "high": 9} for axis in "xyz"],
    },
    "pose": {
        "type": "geometry_msgs/msg/Pose",
        "fields": [
            {"path": "position.y", "low": -9, "high": 9},
            {"path": "orientation.w", "low": -9, "high": 9},
        ],
    },
    "flag": {
        "type": "std_msgs/msg/Bool",
        "fields": [{"path": "data", "low": 0, "high": 1}],
    },
}


def action(key: str) -> ActionStream:
    return ActionStream.model_validate({"topic": "commands", **STREAMS[key]})


def joint_states(**selection: Any) -> ObservationStream:
    return ObservationStream.model_validate(
        {
            "topic": "joint_states",
            "type": "sensor_msgs/msg/JointState",
            "fields": [{"path": "position", **selection}],
        }
    )


def rclpy_message(msgtype: str) -> Any:
    package, _, name = msgtype.split("/")
    return getattr(import_module(f"{package}.msg"), name)()


@pytest.fixture(params=["rclpy", "rosbags"])
def make(request: pytest.FixtureRequest, blank: Callable[[str], Any]) -> Callable[[str], Any]:
    return rclpy_message if request.param == "rclpy" else blank


@pytest.mark.parametrize("key", STREAMS)
def test_decoding_inverts_encoding_exactly(key: str, make: Callable[[str], Any]) -> None:
    stream = action(key)
    values = np.random.default_rng(3).uniform(-9, 9, stream.width)
    if key == "flag":
        values = np.ones(1)
    message = StreamEncoder(stream).encode(
        values,
        make(stream.type),
        stamp_ns=12_000_000_034,
        new_element=lambda *_: make("trajectory_msgs/msg/JointTrajectoryPoint"),
    )
    np.testing.assert_array_equal(StreamDecoder(stream)(message), values)
    if hasattr(message, "header"):
        assert stamp_ns(message) == 12_000_000_034
        assert message.header.frame_id == "base_link"


def test_encoded_messages_survive_serialisation(
    blank: Callable[[str], Any], typestore: Any
) -> None:
    for key in STREAMS:
        stream = action(key)
        values = np.arange(1.0, stream.width + 1)
        message = StreamEncoder(stream).encode(
            values,
            blank(stream.type),
            5,
            lambda *_: blank("trajectory_msgs/msg/JointTrajectoryPoint"),
        )
        raw = typestore.serialize_cdr(message, stream.type)
        again = typestore.deserialize_cdr(raw, stream.type)
        np.testing.assert_array_equal(StreamDecoder(stream)(again), values)


@pytest.mark.parametrize(
    ("names", "is_stop"),
    [([], True), (["finger"], False), (["wrist"], True), (["finger", "elbow"], True)],
)
def test_a_trajectory_without_points_stops_the_joints_that_it_names(
    make: Callable[[str], Any], names: list[str], is_stop: bool
) -> None:
    stream = action("joint_trajectory")
    message = make(stream.type)
    message.joint_names = names
    with pytest.raises(CommandEndedError if is_stop else AbsentError) as raised:
        StreamDecoder(stream)(message)
    assert isinstance(raised.value, CommandEndedError) == is_stop


def test_what_has_a_name_is_not_taken_by_its_place(make: Callable[[str], Any]) -> None:
    msgtype, x = "sensor_msgs/msg/MultiDOFJointState", "translation.x"
    message = make(msgtype)
    message.joint_names = ["base"]
    message.transforms.append(make("geometry_msgs/msg/Transform"))
    keys = {"topic": "state", "type": msgtype}
    by_place = {**keys, "fields": [{"path": f"transforms.0.{x}"}]}
    with pytest.raises(ContractError, match=r"select it by 'transforms\[joint_names=base\]'"):
        StreamDecoder(ObservationStream.model_validate(by_place))(message)
    by_name = {**keys, "fields": [{"path": f"transforms[joint_names=base].{x}"}]}
    assert StreamDecoder(ObservationStream.model_validate(by_name))(message).tolist() == [0.0]


def test_trajectory_has_one_point_that_is_due_after_the_contracts_time(
    make: Callable[[str], Any],
) -> None:
    stream = action("joint_trajectory").model_copy(update={"time_from_start_s": 1.25})
    message = make(stream.type)
    for _ in range(2):
        StreamEncoder(stream).encode(
            np.zeros(3), message, 0, lambda *_: make("trajectory_msgs/msg/JointTrajectoryPoint")
        )
    assert message.joint_names == list(JOINTS)
    assert len(message.points) == 1
    due = message.points[0].time_from_start
    assert (due.sec, due.nanosec) == (1, 250_000_000)


@given(order=st.permutations([*JOINTS, "gripper", "camera"]))
def test_joints_are_found_by_name_in_any_order_and_beside_others(order: list[str]) -> None:
    decode = StreamDecoder(joint_states(joints=JOINTS))
    message = rclpy_message("sensor_msgs/msg/JointState")
    for names in (order, order[::-1], order):
        message.name = names
        message.position = [float(len(name)) for name in names]
        assert decode(message).tolist() == [8.0, 5.0, 5.0]


def test_simulator_may_list_the_joints_in_another_order(make: Callable[[str], Any]) -> None:
    stream = joint_states(joints=JOINTS)
    message = StreamEncoder(stream, joint_order=sorted(JOINTS)).encode(
        [1.0, 2.0, 3.0], make(stream.type), 0
    )
    assert list(message.name) == ["elbow", "shoulder", "wrist"]
    assert list(message.position) == [2.0, 1.0, 3.0]
    assert message.header.frame_id == ""
    assert StreamDecoder(stream)(message).tolist() == [1.0, 2.0, 3.0]


def test_missing_joint_is_named_with_what_the_message_has(make: Callable[[str], Any]) -> None:
    message = make("sensor_msgs/msg/JointState")
    message.name = ["shoulder", "wrist"]
    message.position = np.zeros(2) if isinstance(message.position, np.ndarray) else [0.0, 0.0]
    decode = StreamDecoder(joint_states(joints=["shoulder", "elbow"]))
    with pytest.raises(
        ContractError,
        match="joint_states: joint 'elbow' is not in the message, which names: shoulder, wrist",
    ):
        decode(message)
    message.name = []
    with pytest.raises(ContractError, match="which names: none"):
        decode(message)


def test_joint_that_appears_twice_is_refused() -> None:
    message = rclpy_message("sensor_msgs/msg/JointState")
    message.name, message.position = ["elbow", "elbow"], [0.0, 1.0]
    with pytest.raises(ContractError, match=r"joint 'elbow' is twice in the .* name it once"):
        StreamDecoder(joint_states(joints=["elbow"]))(message)


def test_array_that_the_publisher_leaves_empty_is_refused() -> None:
    message = rclpy_message("sensor_msgs/msg/JointState")
    message.name = ["elbow"]
    with pytest.raises(ContractError, match="'position' has 0 entries for 1 joint names"):
        StreamDecoder(joint_states(joints=["elbow"]))(message)


@pytest.mark.parametrize(
    ("msgtype", "selection", "error"),
    [
        ("Pose", {"path": "position.q"}, r"no field 'q' for 'position.q' \(known: x, y, z\)"),
        ("Pose", {"path": "positon.x"}, r"no field 'positon'.*did you mean 'position'"),
        ("Pose", {"path": "position"}, "'position' is a .*Point.*, not one number"),
        ("Pose", {"path": "position.x", "indices": [0]}, "is a float, not an array of numbers"),
        ("Pose", {"path": "position.0"}, "'position.0' asks for element 0 of a .*Point"),
        ("PoseWithCovariance", {"path": "covariance"}, "is an array of 36, not one number"),
        ("PoseWithCovariance", {"path": "covariance", "indices": [36]}, "36 entries, no index 36"),
        ("PoseWithCovariance", {"path": "covariance", "joints": ["a"]}, "names no joints"),
        ("PoseArray", {"path": "poses.0.position.x"}, "asks for element 0 of an array of 0"),
        ("PoseArray", {"path": "header.frame_id"}, "'header.frame_id' is a str, not one number"),
    ],
)
def test_what_the_message_does_not_have_is_said(
    make: Callable[[str], Any], msgtype: str, selection: dict[str, Any], error: str
) -> None:
    stream = ObservationStream.model_validate(
        {"topic": "odom", "type": f"geometry_msgs/msg/{msgtype}", "fields": [selection]}
    )
    with pytest.raises(ContractError, match=rf"^odom: .*{error}"):
        StreamDecoder(stream)(make(stream.type))


def test_message_without_header_needs_the_receive_time(make: Callable[[str], Any]) -> None:
    with pytest.raises(ContractError, match=r"no header .*has: x, y, z\); set 'stamp: receive'"):
        stamp_ns(make("geometry_msgs/msg/Point"))


def test_arrays_with_a_hole_cannot_be_sent() -> None:
    holes = {"path": "data", "indices": [0, 2], "low": -1, "high": 1}
    stream = ActionStream.model_validate(
        {"topic": "c", "type": "std_msgs/msg/Float64MultiArray", "fields": [holes]}
    )
    with pytest.raises(ContractError, match=r"'data' cannot be sent.* gives index 1 no value"):
        StreamEncoder(stream)
    uneven = {
        "topic": "joint_states",
        "type": "sensor_msgs/msg/JointState",
        "fields": [
            {"path": "position", "joints": JOINTS},
            {"path": "velocity", "joints": ["wrist"]},
        ],
    }
    with pytest.raises(
        ContractError, match=r"'velocity' cannot be sent.* joint 'shoulder' no value"
    ):
        StreamEncoder(ObservationStream.model_validate(uneven))


def test_a_state_leaves_what_is_not_observed_unknown(make: Callable[[str], Any]) -> None:
    stream = ObservationStream.model_validate(
        {
            "topic": "joint_states",
            "type": "sensor_msgs/msg/JointState",
            "fields": [
                {"path": "position", "joints": ["elbow"]},
                {"path": "velocity", "joints": ["elbow", "shoulder"]},
            ],
        }
    )
    encoder = StreamEncoder(stream, joint_order=["shoulder", "elbow"], unknown=np.nan)
    message = encoder.encode([1.0, 2.0, 3.0], make(stream.type), 0)
    np.testing.assert_array_equal(message.position, [np.nan, 1.0])
    np.testing.assert_array_equal(message.velocity, [3.0, 2.0])
    np.testing.assert_array_equal(StreamDecoder(stream)(message), [1.0, 2.0, 3.0])


def test_joint_order_must_be_of_the_contracts_joints() -> None:
    with pytest.raises(ContractError, match="to send are elbow, but those of the contract are"):
        StreamEncoder(joint_states(joints=JOINTS), joint_order=["elbow"])


def test_signals_read_as_numbers(make: Callable[[str], Any]) -> None:
    flag, number = make("std_msgs/msg/Bool"), make("std_msgs/msg/Float64")
    flag.data, number.data = True, -0.5
    assert MessagePath("data", "signal").number(flag) == 1.0
    assert MessagePath("data", "signal").number(number) == -0.5
    with pytest.raises(ContractError, match=r"no field 'value' .*known: data"):
        MessagePath("value", "signal").number(flag)


def observe(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ObservationStream:
    return ObservationStream.model_validate(
        {"topic": "state", "type": msgtype, "fields": fields, **keys}
    )


def command(msgtype: str, *fields: dict[str, Any]) -> ActionStream:
    return ActionStream.model_validate({"topic": "command", "type": msgtype, "fields": fields})


def test_units_are_converted_both_ways(make: Callable[[str], Any]) -> None:
    degrees = {"path": "velocity", "joints": ["a", "b"], "unit": "rad/s", "message_unit": "deg/s"}
    stream = command("sensor_msgs/msg/JointState", {**degrees, "low": -9, "high": 9})
    message = StreamEncoder(stream).encode([np.pi, -np.pi / 2], make(stream.type), 0)
    np.testing.assert_allclose(message.velocity, [180.0, -90.0], rtol=1e-15)
    np.testing.assert_allclose(StreamDecoder(stream)(message), [np.pi, -np.pi / 2], rtol=1e-15)


def test_quaternions_become_columns_or_yaw_and_come_back(make: Callable[[str], Any]) -> None:
    stream = command(
        "geometry_msgs/msg/PoseStamped",
        {"path": "pose.position.x", "low": -1, "high": 1},
        {"path": "pose.orientation", "rotation": "6d"},
    )
    turn = np.array([0.5, 0, 1, 0, -1, 0, 0])  # x to y, y to -x: a quarter turn to the left
    message = StreamEncoder(stream).encode(turn, make(stream.type), 0)
    q = message.pose.orientation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], [0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(StreamDecoder(stream)(message), turn, atol=1e-15)
    yaw = command(stream.type, {"path": "pose.orientation", "rotation": "yaw", "unit": "deg"})
    np.testing.assert_allclose(StreamDecoder(yaw)(message), [90.0])
    StreamEncoder(yaw).encode([-30.0], message, 0)
    np.testing.assert_allclose(StreamDecoder(yaw)(message), [-30.0])


def test_an_angle_becomes_cosine_and_sine_and_comes_back(make: Callable[[str], Any]) -> None:
    wheels = {"path": "position", "joints": ["a", "b"], "message_unit": "deg"}
    stream = observe("sensor_msgs/msg/JointState", {**wheels, "rotation": "cos_sin"})
    message = make(stream.type)
    message.name, message.position = ["b", "a"], np.array([90.0, 540.0])
    np.testing.assert_allclose(StreamDecoder(stream)(message), [-1, 0, 0, 1], atol=1e-15)
    StreamEncoder(stream).encode([0.0, 2.0, -1.0, 0.0], message, 0)
    assert dict(zip(message.name, message.position, strict=True)) == {"a": 90.0, "b": 180.0}


def test_a_quaternion_where_a_number_is_selected_is_refused_with_what_it_takes(
    make: Callable[[str], Any],
) -> None:
    stream = observe(
        "geometry_msgs/msg/PoseStamped", {"path": "pose.orientation", "rotation": "cos_sin"}
    )
    with pytest.raises(ContractError, match="not one number; a quaternion takes 'rotation: 6d'"):
        StreamDecoder(stream)(make(stream.type))


@pytest.mark.parametrize(("order", "numbers"), [("xyzw", [0, 0, 1, 2]), ("wxyz", [2, 0, 0, 1])])
def test_quaternion_in_an_array_has_a_stated_order(
    make: Callable[[str], Any], order: str, numbers: list[float]
) -> None:
    field = {"path": "data", "slice": "1:5", "rotation": "yaw", "quaternion_order": order}
    stream = observe("std_msgs/msg/Float64MultiArray", field)
    message = make(stream.type)
    message.data = np.array([9.0, *numbers])
    np.testing.assert_allclose(StreamDecoder(stream)(message), [2 * np.arctan2(1, 2)])
    sent = command(
        stream.type, {**field, "slice": "0:4"}, {"path": "data", "indices": [4], "constant": 7.0}
    )
    StreamEncoder(sent).encode([2 * np.arctan2(1, 2)], message, 0)
    np.testing.assert_allclose(message.data, [*(np.array(numbers) / np.sqrt(5)), 7.0], atol=1e-15)
    np.testing.assert_allclose(StreamDecoder(sent)(message), [2 * np.arctan2(1, 2)])


def test_constants_are_added_to_observations_and_commands(make: Callable[[str], Any]) -> None:
    seen = observe(
        "geometry_msgs/msg/Twist",
        {"constant": 0.25, "names": ["payload"]},
        {"path": "linear.x"},
        {"constant": -1.0, "names": ["one", "two"]},
    )
    message = make(seen.type)
    message.linear.x = 3.0
    assert StreamDecoder(seen)(message).tolist() == [0.25, 3.0, -1.0, -1.0]
    sent = command(
        seen.type,
        {"path": "linear.y", "constant": 500, "unit": "m/s", "message_unit": "mm/s"},
        {"path": "angular.z", "low": -1, "high": 1},
    )
    StreamEncoder(sent).encode([0.5], message, 0)
    assert (message.linear.x, message.linear.y, message.angular.z) == (3.0, 500_000.0, 0.5)
    assert StreamDecoder(sent)(message).tolist() == [0.5]


def test_element_with_two_values_cannot_be_sent() -> None:
    twice = {"path": "data", "indices": [0], "low": -1, "high": 1}
    with pytest.raises(ContractError, match="gives element 0 two values"):
        StreamEncoder(command("std_msgs/msg/Float64MultiArray", twice, twice))


def test_unnamed_joints_are_read_in_the_contracts_order_where_it_says_so(
    make: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    fields = (
        {"path": "position", "joints": ["shoulder", "elbow"]},
        {"path": "velocity", "joints": ["elbow"]},
    )
    message = make("sensor_msgs/msg/JointState")
    message.position, message.velocity = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    strict = StreamDecoder(observe("sensor_msgs/msg/JointState", *fields))
    with pytest.raises(ContractError, match="which names: none; set 'unnamed: by_index'"):
        strict(message)
    decode = StreamDecoder(observe("sensor_msgs/msg/JointState", *fields, unnamed="by_index"))
    for _ in range(3):
        assert decode(message).tolist() == [1.0, 2.0, 4.0]
    assert decode.by_index == 3
    assert [record.getMessage() for record in caplog.records] == [
        "state: messages name no joints; they are read in the contract's order, as it allows"
    ]
    message.name = ["elbow", "shoulder"]
    assert decode(message).tolist() == [2.0, 1.0, 3.0]
    assert decode.by_index == 3
    message.name, message.position = [], np.zeros(3)
    with pytest.raises(ContractError, match="3 entries for 2 joints of the contract"):
        decode(message)


def test_names_are_found_beside_an_array_inside_another_message(
    make: Callable[[str], Any],
) -> None:
    class Wrapper:
        name = "arm"  # one string is no list of joints
        state = make("sensor_msgs/msg/JointState")

    Wrapper.state.name, Wrapper.state.position = ["a", "b"], np.array([1.0, 2.0])
    decode = StreamDecoder(
        observe("any/msg/Wrapper", {"path": "state.position", "joints": ["b", "a"]})
    )
    assert decode(Wrapper).tolist() == [2.0, 1.0]


def test_length_of_an_array_is_checked_again_when_it_changes(make: Callable[[str], Any]) -> None:
    message = make("sensor_msgs/msg/JointState")
    message.name, message.position = ["a", "b"], np.array([1.0, 2.0])
    decode = StreamDecoder(joint_states(joints=["b"]))
    assert decode(message).tolist() == [2.0]
    message.position = np.zeros(1)
    with pytest.raises(ContractError, match="'position' has 1 entries for 2 joint names"):
        decode(message)
