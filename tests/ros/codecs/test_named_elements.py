"""Elements of lists by name: one by one and in blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs import StreamDecoder, StreamEncoder
from dql_ros.codecs.block_decoder import ABSENT, COMPLETE, BlockDecoder, MessageError
from dql_ros.codecs.message_path import AbsentError, MessagePath
from dql_ros.contract.field import Named, join_steps, split_path
from tests.ros.codecs.named_messages import (
    DYNAMIC,
    JOINTS,
    MARKERS,
    STATES,
    TF,
    TRAJECTORY,
    X,
    assert_blocks_are_as_single_messages,
    block_of,
    dynamic_state,
    joint_state,
    make_types,
    model_states,
    observe,
    tf,
    trajectory,
)


@pytest.fixture(name="types", scope="module")
def _types() -> Typestore:
    return make_types()


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
    assert decoder.absent_ns == 1


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


@pytest.mark.parametrize(
    ("msgtype", "field", "make", "remedy"),
    [
        (TF, {"path": f"transforms.0.{X}"}, tf, "transforms[child_frame_id=aa]"),
        (STATES, {"path": "pose.1.position.x"}, model_states, "pose[name=bb]"),
        (JOINTS, {"path": "position", "indices": [0]}, joint_state, "joints: [aa]"),
        (JOINTS, {"path": "position", "slice": "1:2"}, joint_state, "joints: [bb]"),
        (JOINTS, {"path": "position.1"}, joint_state, "joints: [bb]"),
    ],
)
def test_what_has_a_name_is_not_taken_by_its_place(
    types: Typestore, msgtype: str, field: dict[str, Any], make: Callable[..., Any], remedy: str
) -> None:
    """Also where it stands in the same place in each message: on the robot it may not."""
    named = [make(types, ["aa", "bb"], [1.0, 2.0])] if make is joint_state else []
    messages = (named or [make(types, aa=1.0, bb=2.0)]) * 30
    stream = observe(msgtype, field, when_absent="skip")
    with pytest.raises(MessageError, match="taken by its place") as bad:
        BlockDecoder(stream, types).decode(block_of(types, msgtype, messages))
    assert str(bad.value).endswith(f"select it by '{remedy}'")
    with pytest.raises(ContractError, match="taken by its place") as live:
        StreamDecoder(stream)(messages[0])
    assert str(live.value) == str(bad.value)


def test_values_of_interfaces_have_names_of_their_own(types: Typestore) -> None:
    place = observe(DYNAMIC, {"path": "interface_values[joint_names=a].values.0"})
    named = observe(
        DYNAMIC, {"path": "interface_values[joint_names=a].values[interface_names=velocity]"}
    )
    message = dynamic_state(types, ["b", "a"], [1.0, 2.0], [3.0, 4.0])
    with pytest.raises(ContractError, match=r"values\[interface_names=position\]'"):
        StreamDecoder(place)(message)
    assert StreamDecoder(named)(message).tolist() == [4.0]
    assert_blocks_are_as_single_messages(types, named, [message] * 20)


@pytest.mark.parametrize("names", [[], ["", ""]])
def test_what_has_no_name_is_taken_by_its_place(types: Typestore, names: list[str]) -> None:
    stream = observe(JOINTS, {"path": "position", "indices": [1]})
    messages = [joint_state(types, names, [k, 2.0 * k]) for k in range(30)]
    decoder, _ = assert_blocks_are_as_single_messages(types, stream, messages)
    assert decoder.single == 0
    messages[20] = joint_state(types, ["aa", "bb"], [0.0, 0.0])
    with pytest.raises(MessageError, match=r"'joints: \[bb\]'") as bad:
        decoder.decode(block_of(types, JOINTS, messages))
    assert bad.value.index == 20


def test_points_of_a_trajectory_do_not_have_the_names_of_joints(types: Typestore) -> None:
    """Even if there are as many."""
    stream = observe(TRAJECTORY, {"path": "points.0.positions", "joints": ["a"]})
    assert StreamDecoder(stream)(trajectory(types, ["a"], [1.0])).tolist() == [1.0]


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


def test_a_frame_below_two_parents_is_refused_in_blocks_and_live(types: Typestore) -> None:
    """Two nodes that publish the same frame: what it is relative to would change unnoticed."""
    stream = observe(TF, {"path": f"transforms[child_frame_id=tool].{X}"})
    messages = [tf(types, tool=float(k), cam=1.0) for k in range(6)]
    messages[3].transforms[1].header.frame_id = "cask"  # of another element
    decoder = StreamDecoder(stream)
    assert [decoder(message)[0] for message in messages] == list(range(6))
    block = block_of(types, TF, messages)
    assert BlockDecoder(stream, types).decode(block).values[:, 0].tolist() == list(range(6))
    messages[4].transforms[0].header.frame_id = "cask"
    reason = r"is in the frame 'cask' here and was in 'base' before"
    with pytest.raises(ContractError, match=reason):
        decoder(messages[4])
    with pytest.raises(MessageError, match=reason) as caught:
        BlockDecoder(stream, types).decode(block_of(types, TF, messages))
    assert caught.value.index == 4
