"""Elements of lists by name, and messages without what is selected: one by one and in blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs import CommandEndedError, StreamDecoder, StreamEncoder
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import ABSENT, COMPLETE, ENDED, BlockDecoder, MessageError
from dql_ros.codecs.message_path import AbsentError, MessagePath
from dql_ros.contract import ActionStream, FlagStream, ObservationStream, Stream
from dql_ros.contract.field import Named, join_steps, split_path
from dql_ros.convert.topic_decoders import SignalTopicDecoder

TF, STATES, MARKERS = "tf2_msgs/msg/TFMessage", "gazebo_msgs/msg/ModelStates", "t/msg/Markers"
JOINTS, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
X = "transform.translation.x"


@pytest.fixture(name="types", scope="module")
def _types() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    model = "string[] name\ngeometry_msgs/Pose[] pose\ngeometry_msgs/Twist[] twist\n"
    marker = "int32 id\nstring label\ngeometry_msgs/Point place\n"
    for text, name in (
        (model, STATES),
        (marker, "t/msg/Marker"),
        ("t/Marker[] markers\n", MARKERS),
    ):
        store.register(get_types_from_msg(text, name))
    return store


def observe(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ObservationStream:
    return ObservationStream.model_validate(
        {"topic": "/t", "type": msgtype, "fields": fields, "stamp": "receive", **keys}
    )


def command(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ActionStream:
    bounded = [{"low": -1e9, "high": 1e9, **field} for field in fields]
    return ActionStream.model_validate({"topic": "/t", "type": msgtype, "fields": bounded, **keys})


def block_of(store: Typestore, msgtype: str, messages: Sequence[Any]) -> MessageBlock:
    raws = [bytes(store.serialize_cdr(message, msgtype)) for message in messages]
    lengths = np.array([len(raw) for raw in raws], np.int64)
    return MessageBlock(
        "/t",
        msgtype,
        np.arange(len(raws), dtype=np.int64),
        np.frombuffer(b"".join(raws), np.uint8),
        np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        lengths,
    )


def assert_blocks_are_as_single_messages(
    store: Typestore, stream: Stream, messages: Sequence[Any]
) -> tuple[BlockDecoder, list[int]]:
    """Decode twice, with layouts to find and known, and return what messages lack."""
    block, decoder = block_of(store, stream.type, messages), BlockDecoder(stream, store)
    single, lacks, vectors = StreamDecoder(stream), [], []
    for message in messages:
        try:
            vectors.append(single(message))
            lacks.append(COMPLETE)
        except CommandEndedError:
            lacks.append(ENDED)
        except AbsentError:
            lacks.append(ABSENT)
    for _ in range(2):
        found = decoder.decode(block)
        told = np.zeros(len(messages)) if found.lacks is None else found.lacks
        assert told.tolist() == lacks
        assert found.values[told == COMPLETE].tobytes() == np.array(vectors).tobytes()
    return decoder, lacks


def tf(store: Typestore, **places: float) -> Any:
    """Transforms to frames, at these places on the x axis."""
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](0, 0)
    turn = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    return types[TF](
        [
            types["geometry_msgs/msg/TransformStamped"](
                types["std_msgs/msg/Header"](stamp, "base"),
                frame,
                types["geometry_msgs/msg/Transform"](
                    types["geometry_msgs/msg/Vector3"](x, 0.0, 0.0), turn
                ),
            )
            for frame, x in places.items()
        ]
    )


def test_a_frame_is_found_whatever_comes_beside_it_and_in_which_order(types: Typestore) -> None:
    stream = observe(TF, {"path": f"transforms[child_frame_id=tool].{X}"})
    messages = []
    for k in range(60):
        both = [("tool", float(k)), ("cam", -1.0 - k)]
        messages.append(tf(types, **dict(both if k % 3 else both[::-1])))
        messages.append(tf(types, odom=7.0) if k % 2 else tf(types))
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT] * 60
    assert decoder.bulk == 240, "in blocks, also what is skipped"
    found = decoder.decode(block_of(types, TF, messages))
    assert found.values[::2, 0].tolist() == list(range(60))
    assert decoder.absence == (
        f"/t: 'transforms[child_frame_id=tool].{X}': no element is called 'tool' (the message "
        f"has: none)",
        1,
    )


def model_states(store: Typestore, **places: float) -> Any:
    types = store.types
    turn, zero = types["geometry_msgs/msg/Quaternion"](0, 0, 0, 1), (0.0, 0.0, 0.0)
    point, vector = types["geometry_msgs/msg/Point"], types["geometry_msgs/msg/Vector3"]
    return types[STATES](
        list(places),
        [types["geometry_msgs/msg/Pose"](point(x, 0.0, 0.0), turn) for x in places.values()],
        [
            types["geometry_msgs/msg/Twist"](vector(-x, 0.0, 0.0), vector(*zero))
            for x in places.values()
        ],
    )


def test_names_may_lie_in_a_list_beside(types: Typestore) -> None:
    stream = observe(
        STATES,
        {"path": "pose[name=a::box.1].position.x"},
        {"path": "twist[name=a::box.1].linear.x"},
        {"path": "pose[name=ground].orientation", "rotation": "yaw", "names": ["turn"]},
    )
    messages = [
        model_states(types, **dict(items if k % 2 else items[::-1]))
        for k in range(40)
        for items in [[("ground", 0.0), ("a::box.1", k + 0.5), ("arm", 9.0)]]
    ]
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE] * 40
    assert decoder.single == 0
    found = decoder.decode(block_of(types, STATES, messages)).values
    assert found[:, 0].tolist() == [k + 0.5 for k in range(40)]
    assert found[:, 1].tolist() == [-k - 0.5 for k in range(40)]


def test_names_may_be_numbers(types: Typestore) -> None:
    marker, point = types.types["t/msg/Marker"], types.types["geometry_msgs/msg/Point"]
    stream = observe(MARKERS, {"path": "markers[id=7].place.x"})
    messages = [
        types.types[MARKERS]([marker(i, "m", point(i + k / 8, 0.0, 0.0)) for i in ids])
        for k, ids in enumerate([(7, 8), (8, 7), (7,), (8,), (9, 8, 7)] * 6)
    ]
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, COMPLETE, COMPLETE, ABSENT, COMPLETE] * 6
    assert decoder.single == 0


def test_numbers_of_an_array_have_the_names_beside_it(types: Typestore) -> None:
    message = joint_state(types, ["b", "a"], [2.0, 1.0])
    assert MessagePath("position[name=a]", "/t").number(message) == 1.0


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (f"transforms[child_frame_id=cam].{X}", "several elements are called 'cam'"),
        (f"transforms[child_frame=cam].{X}", "no field 'child_frame' for 'transforms"),
    ],
)
def test_what_is_never_right_is_an_error(types: Typestore, path: str, problem: str) -> None:
    message = tf(types, cam=1.0)
    message.transforms *= 2
    stream = observe(TF, {"path": path})
    with pytest.raises(ContractError, match=problem) as raised:
        StreamDecoder(stream)(message)
    assert not isinstance(raised.value, AbsentError)
    with pytest.raises(MessageError, match=problem):
        BlockDecoder(stream, types).decode(block_of(types, TF, [message]))


def test_lists_of_names_and_elements_of_different_lengths_are_an_error(types: Typestore) -> None:
    message = model_states(types, box=1.0)
    message.name = ["box", "arm"]
    with pytest.raises(ContractError, match="there are 1 elements and 2 names"):
        MessagePath("pose[name=box].position.x", "/t").number(message)


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("a.b", ("a", "b")),
        ("points.0.positions", ("points", 0, "positions")),
        ("t[name=a.b/c].x", ("t", Named("name", "a.b/c"), "x")),
        ("s[goal.id=7]", ("s", Named("goal.id", "7"))),
        ("a.0.b[n=x]", ("a", 0, "b", Named("n", "x"))),
    ],
)
def test_paths_are_taken_apart_and_put_together(path: str, steps: tuple[Any, ...]) -> None:
    assert split_path(path) == steps
    assert join_steps(steps) == path


@pytest.mark.parametrize(
    "path", ["a[b", "a[b=]", "a[=c].x", "[a=b].x", "a]b", "a[b=c]x", "a[b=c][d=e]", "a[b=[c]]"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"write list\[key=value\]"):
        split_path(path)


def joint_state(
    store: Typestore, names: Sequence[str], position: Sequence[float], velocity: Any = ()
) -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](3, 4), "")
    return types[JOINTS](
        header, list(names), np.array(position, float), np.array(velocity, float), np.zeros(0)
    )


def test_joints_are_taken_from_the_messages_that_have_them(types: Typestore) -> None:
    stream = observe(JOINTS, {"path": "position", "joints": ["a", "b"]}, stamp="header")
    messages = []
    for k in range(50):
        messages += [joint_state(types, ["b", "a"], [k, -k]), joint_state(types, ["g"], [0.5])]
    messages += [joint_state(types, [], []), joint_state(types, ["a"], [1.0])]
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT] * 50 + [ABSENT] * 2
    assert decoder.single == 0
    assert decoder.absence == (
        "/t: joint 'a' is not in the message, which names: g; correct 'joints' in the contract",
        1,
    )


def test_an_empty_array_is_skipped_and_one_of_another_length_is_not(types: Typestore) -> None:
    stream = observe(JOINTS, {"path": "velocity", "joints": ["a", "b"]})
    messages = [
        joint_state(types, ["a", "b"], [k, k], [k, -k] if k % 2 else []) for k in range(40)
    ]
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [ABSENT, COMPLETE] * 20
    assert decoder.single == 0
    with pytest.raises(MessageError, match="'velocity' has 1 entries for 2 joint names"):
        decoder.decode(block_of(types, JOINTS, [joint_state(types, ["a", "b"], [0, 0], [1.0])]))


def test_an_array_without_names_is_not_one_of_other_joints(types: Typestore) -> None:
    """`unnamed` says what becomes of it, not `when_absent`."""
    stream = observe(JOINTS, {"path": "position", "joints": ["a", "b"]})
    block = block_of(types, JOINTS, [joint_state(types, [], [1.0, 2.0])])
    with pytest.raises(MessageError, match="set 'unnamed: by_index' in the contract if"):
        BlockDecoder(stream, types).decode(block)
    allowed = observe(JOINTS, {"path": "position", "joints": ["a", "b"]}, unnamed="by_index")
    assert BlockDecoder(allowed, types).decode(block).values.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("when_absent", ["refuse", "skip", None])
def test_short_arrays_are_skipped_where_the_contract_says_so(
    types: Typestore, when_absent: str | None
) -> None:
    msgtype = "std_msgs/msg/Float64MultiArray"
    keys = {} if when_absent is None else {"when_absent": when_absent}
    stream = command(msgtype, {"path": "data", "indices": [0, 2]}, **keys)
    layout = types.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    arrays = [[1.0, 2.0, 3.0], [], [4.0], [5.0, 6.0, 7.0]] * 10
    messages = [types.types[msgtype](layout, np.array(each)) for each in arrays]
    if when_absent == "skip":
        decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
        assert lacks == [COMPLETE, ABSENT, ABSENT, COMPLETE] * 10
        assert decoder.single == 0
        return
    with pytest.raises(
        MessageError, match=r"0 entries, no index 2.*'when_absent: skip'"
    ) as raised:
        BlockDecoder(stream, types).decode(block_of(types, msgtype, messages))
    assert raised.value.index == 1


def trajectory(store: Typestore, joints: Sequence[str], *points: Sequence[float]) -> Any:
    types = store.types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "")
    none, now = np.zeros(0), types["builtin_interfaces/msg/Duration"](0, 0)
    point = types["trajectory_msgs/msg/JointTrajectoryPoint"]
    made = [point(np.array(each, float), none, none, none, now) for each in points]
    return types[TRAJECTORY](header, list(joints), made)


@pytest.mark.parametrize("when_absent", ["refuse", "skip"])
def test_a_trajectory_without_points_is_a_stop(types: Typestore, when_absent: str) -> None:
    field = {"path": "points.0.positions", "joints": ["a", "b"]}
    stream = command(TRAJECTORY, field, when_absent=when_absent)
    messages = [trajectory(types, ["b", "a"], [k, -k]) for k in range(30)]
    messages[10] = trajectory(types, ["a", "b"])
    messages[20] = trajectory(types, [])
    _, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert [k for k, lack in enumerate(lacks) if lack == ENDED] == [10, 20]
    assert lacks.count(COMPLETE) == 28


def test_a_trajectory_that_is_observed_does_not_stop_anything(types: Typestore) -> None:
    stream = observe(TRAJECTORY, {"path": "points.0.positions", "joints": ["a"]})
    messages = [trajectory(types, ["a"], [1.0]), trajectory(types, ["a"])]
    _, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT]


def test_a_trajectory_without_some_of_the_joints_is_skipped(types: Typestore) -> None:
    stream = command(TRAJECTORY, {"path": "points.0.positions", "joints": ["a", "b"]})
    messages = [trajectory(types, ["a", "b"], [1, 2]), trajectory(types, ["a"], [3])]
    _, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT]


@pytest.mark.parametrize(
    ("msgtype", "field", "make"),
    [
        (TF, {"path": f"transforms.0.{X}"}, lambda s, *names: tf(s, **dict.fromkeys(names, 1.0))),
        (
            STATES,
            {"path": "pose.1.position.x"},
            lambda s, *names: model_states(s, **dict.fromkeys(names, 1.0)),
        ),
        (
            JOINTS,
            {"path": "position", "indices": [0]},
            lambda s, *names: joint_state(s, names, [1.0, 2.0]),
        ),
        (JOINTS, {"path": "position.1"}, lambda s, *names: joint_state(s, names, [1.0, 2.0])),
    ],
)
def test_what_is_taken_by_its_place_must_keep_its_name(
    types: Typestore, msgtype: str, field: dict[str, Any], make: Callable[..., Any]
) -> None:
    stream, same = observe(msgtype, field), make(types, "aa", "bb")
    messages = [same] * 30 + [make(types, "bb", "aa")]
    decoder, live = BlockDecoder(stream, types), StreamDecoder(stream)
    decoder.decode(block_of(types, msgtype, messages[:30]))
    assert decoder.bulk == 30
    with pytest.raises(
        MessageError, match=r"element \d of '\w+' is '(aa|bb)' here and was"
    ) as bad:
        decoder.decode(block_of(types, msgtype, messages))
    assert bad.value.index == 30
    live(same)
    with pytest.raises(ContractError, match="select it by its name"):
        live(messages[30])


def test_flags_in_empty_lists_say_nothing_where_the_contract_allows_it(types: Typestore) -> None:
    msgtype = "action_msgs/msg/GoalStatusArray"
    made = types.types
    goal = made["action_msgs/msg/GoalInfo"](
        made["unique_identifier_msgs/msg/UUID"](np.zeros(16, np.uint8)),
        made["builtin_interfaces/msg/Time"](0, 0),
    )
    status = made["action_msgs/msg/GoalStatus"]
    messages = [
        made[msgtype]([status(goal, np.int8(code))] if code >= 0 else [])
        for code in [-1, 2, 4, -1, 6]
    ]
    block = block_of(types, msgtype, messages)
    keys = {"topic": "/t", "type": msgtype, "path": "status_list.0.status", "equals": [4, 6]}
    flag = FlagStream.model_validate({**keys, "when_absent": "skip"})
    decoder = SignalTopicDecoder("/t", flag, types, refuse_nonfinite=True)
    times, (values,) = decoder(block)
    assert times.tolist() == [1, 2, 4]
    assert values.tolist() == [0, 1, 1]
    assert decoder.absent == 2
    strict = SignalTopicDecoder("/t", FlagStream.model_validate(keys), types)
    with pytest.raises(MessageError, match=r"element 0 of an array of 0.*'when_absent: skip'"):
        strict(block)


@pytest.mark.parametrize(
    ("msgtype", "fields"),
    [
        (TF, [f"transforms[child_frame_id={frame}].{X}" for frame in ("tool", "cam")]),
        (
            STATES,
            [
                "pose[name=box].position.x",
                "pose[name=arm].position.y",
                "twist[name=box].linear.z",
            ],
        ),
        (MARKERS, ["markers[id=7].place.x", "markers[id=2].place.y"]),
    ],
)
def test_what_is_sent_by_name_is_what_is_read(
    types: Typestore, msgtype: str, fields: list[str]
) -> None:
    stream = observe(msgtype, *({"path": path} for path in fields))
    element: dict[str, Callable[[], Any]] = {
        "transforms": lambda: tf(types, new=0.0).transforms[0],
        "pose": lambda: model_states(types, new=0.0).pose[0],
        "twist": lambda: model_states(types, new=0.0).twist[0],
        "markers": lambda: types.types["t/msg/Marker"](
            0, "", types.types["geometry_msgs/msg/Point"](0.0, 0.0, 0.0)
        ),
    }
    message = types.types[msgtype](*([] for _ in types.get_msgdef(msgtype).fields))
    encoder, values = StreamEncoder(stream), np.arange(1.0, 1.0 + len(fields))
    for factor in (1, 2):  # the message is used again
        encoder.encode(factor * values, message, 0, lambda _, field: element[field]())
        np.testing.assert_array_equal(StreamDecoder(stream)(message), factor * values)
        assert types.deserialize_cdr(types.serialize_cdr(message, msgtype), msgtype)


def test_offset_and_scale_are_applied_to_the_unit_and_taken_back(types: Typestore) -> None:
    field = {"path": "x", "unit": "m", "message_unit": "km", "offset": 5_400_000, "scale": 10}
    point = "geometry_msgs/msg/Point"
    stream = observe(point, field, {"path": "y", "offset": "first", "scale": -2.0})
    message = types.types[point](5400.0125, 3.0, 0.0)
    np.testing.assert_allclose(StreamDecoder(stream)(message), [125.0, -6.0], rtol=1e-9)
    assert_blocks_are_as_single_messages(types, stream, [message] * 20)
    sent = StreamEncoder(stream).encode([125.0, -6.0], types.types[point](0.0, 0.0, 0.0), 0)
    np.testing.assert_allclose([sent.x, sent.y], [5400.0125, 3.0], rtol=1e-12)
