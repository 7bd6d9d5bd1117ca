from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import BlockDecoder, Decoded, MessageError
from dql_ros.contract import Event, FlagStream, ObservationStream, RewardTopic, Stream
from dql_ros.convert.topic_decoders import SignalTopicDecoder

JAZZY = get_typestore(Stores.ROS2_JAZZY)
TYPES = JAZZY.types
JOINTS = ("shoulder", "elbow", "wrist")
JOINT_STATE = "sensor_msgs/msg/JointState"
ODOMETRY = "nav_msgs/msg/Odometry"
QUICK = settings(deadline=None, max_examples=60)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 5e-324])


def header(stamp: int = 0, frame: str = "") -> Any:
    time = TYPES["builtin_interfaces/msg/Time"](*divmod(stamp, 1_000_000_000))
    return TYPES["std_msgs/msg/Header"](time, frame)


def joint_state(
    names: Sequence[str], numbers: Sequence[float], stamp: int = 0, frame: str = ""
) -> Any:
    position = np.array(numbers, np.float64)
    return TYPES[JOINT_STATE](
        header(stamp, frame), list(names), position, position + 1, np.zeros(0)
    )


def packed(raws: Iterable[bytes], msgtype: str) -> MessageBlock:
    """Lay serialised messages into one buffer, with other bytes between them."""
    raws = list(raws)
    buffer, starts = bytearray(), []
    for index, raw in enumerate(raws):
        buffer += bytes([255]) * (index % 5)
        starts.append(len(buffer))
        buffer += raw
    return MessageBlock(
        "/topic",
        msgtype,
        np.arange(len(raws), dtype=np.int64),
        np.frombuffer(bytes(buffer), np.uint8),
        np.array(starts, np.int64),
        np.array([len(raw) for raw in raws], np.int64),
    )


def block_of(
    messages: Iterable[Any], msgtype: str, typestore: Typestore = JAZZY, *, little: bool = True
) -> MessageBlock:
    return packed(
        (
            bytes(typestore.serialize_cdr(message, msgtype, little_endian=little))
            for message in messages
        ),
        msgtype,
    )


def stream(msgtype: str, *fields: dict[str, Any], **keys: Any) -> ObservationStream:
    return ObservationStream.model_validate(
        {"topic": "/topic", "type": msgtype, "fields": fields, **keys}
    )


def decoder(
    selected: ObservationStream, typestore: Typestore = JAZZY, stamped: bool = False
) -> BlockDecoder:
    stamp = "header" if stamped else "receive"
    return BlockDecoder(selected.model_copy(update={"stamp": stamp}), typestore)


def singly(selected: ObservationStream, block: MessageBlock, typestore: Typestore = JAZZY) -> Any:
    decode = StreamDecoder(selected)
    return np.array(
        [
            decode(typestore.deserialize_cdr(block.payload(index), block.msgtype))
            for index in range(len(block))
        ]
    ).reshape(len(block), selected.width)


def assert_same(found: Decoded, expected: Any) -> None:
    assert found.values.shape == expected.shape
    assert found.values.tobytes() == expected.tobytes()


JOINT_FIELDS = (
    {"path": "position", "joints": JOINTS},
    {"path": "velocity", "joints": JOINTS[::-1][:2], "unit": "rad/s", "message_unit": "deg/s"},
    {"path": "header.stamp.nanosec"},
    {"constant": 0.5, "names": ["half"]},
)


@st.composite
def joint_states(draw: st.DrawFn) -> list[Any]:
    """Joints in any order, beside others, under frames of any length."""
    lists = draw(
        st.lists(
            st.lists(
                st.sampled_from(["", "gripper", "cam", "eé"]), unique=True, max_size=2
            ).flatmap(lambda others: st.permutations([*JOINTS, *others])),
            min_size=1,
            max_size=3,
        )
    )
    messages = []
    for _ in range(draw(st.integers(0, 30))):
        names = draw(st.sampled_from(lists))
        numbers = draw(st.lists(NUMBERS, min_size=len(names), max_size=len(names)))
        stamp = draw(st.integers(0, 2**31 * 10**9 - 1))
        messages.append(
            joint_state(names, numbers, stamp, draw(st.sampled_from(["", "base", "ø"])))
        )
    return messages


@QUICK
@given(messages=joint_states())
def test_joint_states_are_those_of_the_live_decoder_to_the_bit(messages: list[Any]) -> None:
    selected = stream(JOINT_STATE, *JOINT_FIELDS)
    block = block_of(messages, JOINT_STATE)
    decode = decoder(selected, stamped=True)
    for _ in range(2):  # with layouts to find, and with layouts known
        found = decode.decode(block)
        assert_same(found, singly(selected, block))
        assert found.stamps_ns is not None
        assert found.stamps_ns.tolist() == [stamp_ns(message) for message in messages]
    assert decode.bulk + decode.single == 2 * len(messages)


# Every kind of number, alone and in arrays fixed and not, behind strings of any length.
ZOO = """
string label
bool flag
byte raw
char letter
int8 i8
uint16 u16
int32 i32
float32 f32
uint8 u8
float64 f64
int64 i64
uint64 u64
bool[3] flags
float32[2] pair
int16[] shorts
float64[] doubles
string[] tags
geometry_msgs/Point32[] points
geometry_msgs/Quaternion turn
uint8 last
"""


@pytest.fixture(scope="module")
def zoo() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(ZOO, "zoo/msg/Zoo"))
    return store


INTEGERS = {"raw": "i1", "letter": "u1", "i8": "i1", "u16": "u2", "i32": "i4", "u8": "u1"}

INTEGERS |= {"i64": "i8", "u64": "u8", "last": "u1"}


@st.composite
def animals(draw: st.DrawFn) -> dict[str, Any]:
    limits = {name: np.iinfo(kind) for name, kind in INTEGERS.items()}
    floats = st.floats(width=32, allow_nan=False)
    values = {
        name: draw(st.integers(int(limit.min), int(limit.max))) for name, limit in limits.items()
    }
    point = st.tuples(floats, floats, floats)
    return {
        **values,
        "label": draw(st.sampled_from(["", "a", "lion", "panthère"])),
        "flag": draw(st.booleans()),
        "f32": draw(floats),
        "f64": draw(NUMBERS),
        "flags": np.array(draw(st.lists(st.booleans(), min_size=3, max_size=3)), bool),
        "pair": np.array(draw(st.lists(floats, min_size=2, max_size=2)), np.float32),
        "shorts": np.array(draw(st.lists(st.integers(-9, 9), min_size=1, max_size=4)), np.int16),
        "doubles": np.array(draw(st.lists(NUMBERS, min_size=1, max_size=3))),
        "tags": draw(st.lists(st.sampled_from(["x", "tail"]), max_size=2)),
        "points": [
            TYPES["geometry_msgs/msg/Point32"](*xyz)
            for xyz in draw(st.lists(point, min_size=1, max_size=2))
        ],
        "turn": TYPES["geometry_msgs/msg/Quaternion"](
            *draw(st.lists(NUMBERS, min_size=4, max_size=4))
        ),
    }


ZOO_FIELDS = st.lists(
    st.sampled_from(
        [
            *({"path": name} for name in ("flag", "f32", "f64", *INTEGERS)),
            {"path": "shorts", "indices": [0]},
            {"path": "shorts.0"},
            {"path": "doubles", "indices": [0], "unit": "m", "message_unit": "mm"},
            {"path": "flags", "slice": "0:3:2"},
            {"path": "flags", "indices": [2, 0, 1]},
            {"path": "pair", "indices": [1, 0]},
            {"path": "pair.1"},
            {"path": "points.0.z", "unit": "K", "message_unit": "degF"},
            {"path": "turn", "rotation": "6d"},
            {"path": "turn", "rotation": "yaw", "unit": "deg"},
            {"path": "f64", "rotation": "cos_sin"},
            {"path": "flags", "slice": "0:3", "rotation": "cos_sin", "message_unit": "rev"},
            {"constant": -0.0, "names": ["zero"]},
        ]
    ),
    min_size=1,
    max_size=8,
)


@QUICK
@given(beasts=st.lists(animals(), max_size=8), fields=ZOO_FIELDS, cut=st.integers(0, 8))
def test_any_field_of_any_type_is_that_of_the_live_decoder(
    zoo: Typestore, beasts: list[dict[str, Any]], fields: list[dict[str, Any]], cut: int
) -> None:
    selected = stream("zoo/msg/Zoo", *fields)
    messages = [zoo.types["zoo/msg/Zoo"](**beast) for beast in beasts]
    decode = decoder(selected, zoo)
    for part in (messages[:cut], messages[cut:], messages):
        block = block_of(part, "zoo/msg/Zoo", zoo)
        assert_same(decode.decode(block), singly(selected, block, zoo))


@st.composite
def trajectories(draw: st.DrawFn) -> list[Any]:
    duration = TYPES["builtin_interfaces/msg/Duration"](0, 0)
    names = draw(st.permutations(JOINTS))
    messages = []
    for _ in range(draw(st.integers(1, 10))):
        points = [
            TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
                np.array(draw(st.lists(NUMBERS, min_size=3, max_size=3))),
                np.zeros(draw(st.sampled_from([0, 3]))),
                np.zeros(0),
                np.zeros(0),
                duration,
            )
            for _ in range(draw(st.integers(1, 3)))
        ]
        messages.append(
            TYPES["trajectory_msgs/msg/JointTrajectory"](header(), list(names), points)
        )
    return messages


@QUICK
@given(messages=trajectories())
def test_points_of_trajectories_are_found_by_the_names_above_them(messages: list[Any]) -> None:
    selected = stream(
        "trajectory_msgs/msg/JointTrajectory", {"path": "points.0.positions", "joints": JOINTS}
    )
    block = block_of(messages, selected.type)
    assert_same(decoder(selected).decode(block), singly(selected, block))


def joint_block(count: int = 50, names: Sequence[str] = JOINTS) -> MessageBlock:
    rng = np.random.default_rng(0)
    states = (joint_state(names, rng.normal(size=len(names)).tolist(), i) for i in range(count))
    return block_of(states, JOINT_STATE)


def test_messages_of_one_layout_are_decoded_at_once() -> None:
    decode = decoder(stream(JOINT_STATE, *JOINT_FIELDS), stamped=True)
    decode.decode(joint_block())
    decode.decode(joint_block())
    assert (decode.bulk, decode.single) == (100, 0)


def test_an_empty_block_has_no_rows() -> None:
    found = decoder(stream(JOINT_STATE, *JOINT_FIELDS), stamped=True).decode(joint_block(0))
    assert found.values.shape == (0, 7)
    assert found.stamps_ns is not None
    assert found.stamps_ns.shape == (0,)
    assert decoder(stream(JOINT_STATE, *JOINT_FIELDS)).decode(joint_block(1)).stamps_ns is None


def test_padding_may_hold_anything() -> None:
    block = joint_block(4)
    selected = stream(JOINT_STATE, *JOINT_FIELDS)
    raws = [bytearray(block.payload(index)) for index in range(4)]
    for index, raw in enumerate(raws):
        raw[2:4] = bytes([index, index])  # options of the encapsulation
        at = raw.index(b"elbow\0") + 6
        assert not any(raw[at : at + 2])
        raw[at : at + 2] = bytes([index, 255 - index])
    dirty = packed(map(bytes, raws), JOINT_STATE)
    decode = decoder(selected)
    assert_same(decode.decode(dirty), singly(selected, block))
    assert (decode.bulk, decode.single) == (4, 0)


def test_big_endian_and_ever_other_layouts_are_decoded_one_by_one() -> None:
    selected = stream(JOINT_STATE, *JOINT_FIELDS)
    big = block_of([joint_state(JOINTS, [1, 2, 3])] * 20, JOINT_STATE, little=False)
    decode = decoder(selected)
    assert_same(decode.decode(big), singly(selected, big))
    assert (decode.bulk, decode.single) == (0, 20)
    others = [joint_state([*JOINTS, f"j{i:03}"], [1, 2, 3, i]) for i in range(60)]
    block = block_of(others, JOINT_STATE)
    assert_same(decode.decode(block), singly(selected, block))
    assert decode.single > 60


def test_a_type_store_that_disagrees_with_itself_costs_speed_not_truth() -> None:
    class Mirrored:
        """Lays messages out by a definition other than the one it deserialises with."""

        def get_msgdef(self, _: str) -> Any:
            return JAZZY.get_msgdef("geometry_msgs/msg/Vector3")

        def deserialize_cdr(self, raw: bytes, _: str) -> Any:
            found = JAZZY.deserialize_cdr(raw, "geometry_msgs/msg/Vector3")
            found.x, found.y = found.y, found.x  # type: ignore[attr-defined]
            return found

    store: Any = Mirrored()
    selected = stream("geometry_msgs/msg/Point", {"path": "x"}, {"path": "y"})
    points = [TYPES["geometry_msgs/msg/Point"](1.0, 2.0, i) for i in range(30)]
    decode = decoder(selected, store)
    assert decode.decode(block_of(points, selected.type)).values.tolist() == [[2.0, 1.0]] * 30
    assert (decode.bulk, decode.single) == (0, 30)


def test_unnamed_joints_are_counted_one_by_one_or_at_once() -> None:
    states = [TYPES[JOINT_STATE](header(), [], np.arange(3.0), np.zeros(0), np.zeros(0))] * 7
    position = {"path": "position", "joints": JOINTS}
    block = block_of(states, JOINT_STATE)
    with pytest.raises(MessageError, match="set 'unnamed: by_index'"):
        decoder(stream(JOINT_STATE, position, when_absent="refuse")).decode(block)
    selected = stream(JOINT_STATE, position, unnamed="by_index")
    decode = decoder(selected)
    assert decode.decode(block).values.tolist() == [[0.0, 1.0, 2.0]] * 7
    assert (decode.by_index, decode.bulk) == (7, 7)
    big = block_of(states, JOINT_STATE, little=False)
    decode.decode(big)
    assert decode.by_index == 14
    decode.decode(joint_block(5))
    assert decode.by_index == 14


@given(bad=st.integers(0, 19), where=st.sampled_from(["names", "short", "cut", "text"]))
@settings(deadline=None, max_examples=30)
def test_the_first_message_that_does_not_fit_is_named(bad: int, where: str) -> None:
    fields = {"path": "position", "joints": JOINTS}
    selected = stream(JOINT_STATE, fields, when_absent="refuse")
    good = joint_state(JOINTS, [1, 2, 3], frame="base")
    raws = [bytes(JAZZY.serialize_cdr(good, JOINT_STATE))] * 20
    wrong = {
        "names": joint_state(["shoulder", "elbow", "hand"], [1, 2, 3], frame="base"),
        "short": TYPES[JOINT_STATE](header(), list(JOINTS), np.zeros(2), np.zeros(0), np.zeros(0)),
    }.get(where, good)
    raw = bytes(JAZZY.serialize_cdr(wrong, JOINT_STATE))
    raw = raw[:-9] if where == "cut" else raw
    raws[bad:] = [raw.replace(b"base", b"\xff\xfe\xfd\xfc") if where == "text" else raw] * (
        20 - bad
    )
    errors = {
        "names": "joint 'wrist' is not in the message",
        "short": "'position' has 2 entries for 3 joint names",
        "cut": "a message is no sensor_msgs/msg/JointState",
        "text": "a message is no sensor_msgs/msg/JointState",
    }
    with pytest.raises(MessageError, match=rf"^/topic: .*{errors[where]}") as raised:
        decoder(selected).decode(packed(raws, JOINT_STATE))
    assert raised.value.index == bad


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damaged_bytes_give_what_single_decoding_gives_or_an_error(data: st.DataObject) -> None:
    block = joint_block(6)
    raws = [bytearray(block.payload(index)) for index in range(6)]
    for _ in range(data.draw(st.integers(1, 4))):
        raw = data.draw(st.sampled_from(raws))
        at = data.draw(st.integers(0, max(len(raw) - 4, 0)))
        harm = data.draw(st.sampled_from(["flip", "length", "cut"]))
        if harm == "flip" and raw:
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif harm == "length":
            raw[at : at + 4] = b"\xff\xff\xff\xff"
        else:
            del raw[at:]
    damaged = packed(map(bytes, raws), JOINT_STATE)
    selected = stream(JOINT_STATE, *JOINT_FIELDS, when_absent="refuse")
    try:
        expected = singly(selected, damaged)
    except Exception:  # noqa: BLE001 - whatever single decoding fails with
        with pytest.raises(MessageError):
            decoder(selected).decode(damaged)
    else:
        assert_same(decoder(selected).decode(damaged), expected)


def test_large_messages_are_not_copied_for_one_number() -> None:
    image = TYPES["sensor_msgs/msg/Image"](
        header(5), 480, 640, "rgb8", 0, 1920, np.zeros(480 * 1920, np.uint8)
    )
    selected = stream(
        "sensor_msgs/msg/Image", {"path": "height"}, {"path": "data", "indices": [9]}
    )
    block = block_of([image] * 3, selected.type)
    decode = decoder(selected, stamped=True)
    found = decode.decode(block)
    assert found.values.tolist() == [[480.0, 0.0]] * 3
    assert decode.bulk == 3


def test_messages_without_header_have_no_stamp() -> None:
    selected = stream("geometry_msgs/msg/Point", {"path": "x"})
    block = block_of([TYPES[selected.type](1.0, 2.0, 3.0)], selected.type)
    with pytest.raises(ContractError, match="no header to take the time from"):
        decoder(selected, stamped=True).decode(block)


def test_objects_are_whatever_lies_at_the_path() -> None:
    texts = [TYPES["std_msgs/msg/String"](text) for text in ("start", "", "stöp")]
    block = block_of(texts, "std_msgs/msg/String")
    texts_of = Stream.model_construct(topic="/t", type="std_msgs/msg/String", fields=())
    decode = BlockDecoder(texts_of, JAZZY)
    assert decode.decode_objects(block, "data") == ["start", "", "stöp"]
    with pytest.raises(MessageError, match=r"/t: no field 'text' .*known: data") as raised:
        decode.decode_objects(block, "text")
    assert raised.value.index == 0


def signal_block(msgtype: str, values: Sequence[Any]) -> MessageBlock:
    return block_of([TYPES[msgtype](value) for value in values], msgtype)


STRING, BOOL, FLOAT, INT = (
    f"std_msgs/msg/{name}" for name in ("String", "Bool", "Float64", "Int64")
)


@pytest.mark.parametrize("kind", [FlagStream, Event])
@pytest.mark.parametrize(
    ("msgtype", "values", "equals", "raised"),
    [
        (BOOL, [True, False, True], None, [1, 0, 1]),
        (BOOL, [True, False, True], False, [0, 1, 0]),
        (FLOAT, [0.0, -0.5, 2.0], None, [0, 1, 1]),
        (FLOAT, [0.0, -0.5, 2.0], -0.5, [0, 1, 0]),
        (INT, [0, 1, 2], 2, [0, 0, 1]),
        (INT, [0, 1, 2], True, [0, 1, 0]),
        (STRING, ["go", "stop", ""], "stop", [0, 1, 0]),
    ],
)
def test_flags_and_events_are_told_apart(
    kind: Callable[..., Any], msgtype: str, values: list[Any], equals: Any, raised: list[int]
) -> None:
    signal = kind(topic="s", type=msgtype, path="data", equals=equals)
    decoder = SignalTopicDecoder("/s", signal, JAZZY)
    assert decoder.values(signal_block(msgtype, values)).tolist() == raised


@pytest.mark.parametrize("kind", [FlagStream, Event])
@pytest.mark.parametrize("equals", [None, 1.0])
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_flag_or_event_that_is_no_number_is_refused_or_says_nothing(
    kind: Callable[..., Any], equals: Any, odd: float
) -> None:
    signal = kind(topic="s", type=FLOAT, path="data", equals=equals)
    block = signal_block(FLOAT, [0.0, odd, 1.0])
    _, (values,) = SignalTopicDecoder("/s", signal, JAZZY)(block)
    assert values.tolist() == [0, 1]
    with pytest.raises(MessageError, match=f"^/s: 'data' is {odd}; set 'nonfinite: split'") as at:
        SignalTopicDecoder("/s", signal, JAZZY, refuse_nonfinite=True)(block)
    assert at.value.index == 1


def test_events_without_a_path_happen_at_every_message_and_strings_at_any_text() -> None:
    block = signal_block(STRING, ["go", ""])
    event = Event(topic="s", type=STRING)
    assert SignalTopicDecoder("/s", event, JAZZY).values(block).tolist() == [1, 1]
    event = Event(topic="s", type=STRING, path="data")
    assert SignalTopicDecoder("/s", event, JAZZY).values(block).tolist() == [1, 0]


def test_rewards_are_numbers() -> None:
    reward = RewardTopic(topic="r", type=FLOAT)
    block = signal_block(FLOAT, [0.5, -1.0])
    assert SignalTopicDecoder("/r", reward, JAZZY).values(block).tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("signal", "values", "error"),
    [
        (FlagStream(topic="s", type=BOOL, equals="run"), [True], "is a bool, .*able with 'run'"),
        (FlagStream(topic="s", type=STRING, equals=1), ["1"], "'data' is a str, not one number"),
        (FlagStream(topic="s", type=STRING), ["1"], "'data' is a str, not one number"),
        (Event(topic="s", type=STRING, path="data", equals=1), ["1"], "comparable with 1"),
        (RewardTopic(topic="s", type=FLOAT, path="value"), [1.0], "no field 'value'"),
    ],
)
def test_what_can_never_match_is_an_error(signal: Any, values: list[Any], error: str) -> None:
    with pytest.raises(MessageError, match=rf"^/s: .*{error}"):
        SignalTopicDecoder("/s", signal, JAZZY).values(signal_block(signal.type, values))
