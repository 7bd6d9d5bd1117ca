"""Messages without what is selected: one by one and in blocks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_ros.codecs import StreamDecoder
from dql_ros.codecs.block_decoder import ABSENT, COMPLETE, ENDED, BlockDecoder, MessageError
from dql_ros.codecs.message_path import AbsentError
from dql_ros.contract import FlagStream, Stream
from dql_ros.convert.topic_decoders import SignalTopicDecoder
from tests.ros.codecs.named_messages import (
    DYNAMIC,
    JOINTS,
    STATES,
    TF,
    TRAJECTORY,
    X,
    assert_blocks_are_as_single_messages,
    block_of,
    command,
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


def test_joints_are_taken_from_the_messages_that_have_them(types: Typestore) -> None:
    stream = observe(JOINTS, {"path": "position", "joints": ["a", "b"]}, stamp="header")
    messages = []
    for k in range(50):
        messages += [joint_state(types, ["b", "a"], [k, -k]), joint_state(types, ["g"], [0.5])]
    messages += [joint_state(types, [], []), joint_state(types, ["a"], [1.0])]
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT] * 50 + [ABSENT] * 2
    assert decoder.single == 0
    assert decoder.absent_ns == 1


@pytest.mark.parametrize("field", ["velocity", "position"])
def test_an_array_that_is_shorter_than_its_names_is_as_an_empty_one(
    types: Typestore, field: str
) -> None:
    """Whichever of its numbers are selected: which of them are missing is not known."""
    short = [[1.0, 2.0], [], [1.0], [3.0, 4.0]] * 10
    keys = [
        {"position": k} if field == "position" else {"position": [], "velocity": k} for k in short
    ]
    messages = [joint_state(types, ["a", "b"], **each) for each in keys]
    for joint in "ab":
        stream = observe(JOINTS, {"path": field, "joints": [joint]})
        decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
        assert lacks == [COMPLETE, ABSENT, ABSENT, COMPLETE] * 10
        assert decoder.single == 0
    refusing = observe(JOINTS, {"path": field, "joints": ["a"]}, when_absent="refuse")
    with pytest.raises(MessageError, match=r"0 entries for 2 joint names.*'when_absent: s") as bad:
        BlockDecoder(refusing, types).decode(block_of(types, JOINTS, messages))
    assert bad.value.index == 1


def test_an_array_that_is_longer_than_its_names_is_an_error(types: Typestore) -> None:
    stream = observe(JOINTS, {"path": "position", "joints": ["a"]})
    message = joint_state(types, ["a"], [1.0, 2.0])
    with pytest.raises(MessageError, match="'position' has 2 entries for 1 joint names"):
        BlockDecoder(stream, types).decode(block_of(types, JOINTS, [message]))
    model = model_states(types, box=1.0, arm=2.0)
    model.name = ["box"]
    with pytest.raises(ContractError, match="there are 2 elements and 1 names") as raised:
        StreamDecoder(observe(STATES, {"path": "pose[name=box].position.x"}))(model)
    assert not isinstance(raised.value, AbsentError)


@pytest.mark.parametrize("numbers", [[], [1.0], [1.0, 2.0], [1.0, 2.0, 3.0]])
def test_a_message_without_names_has_none_of_the_joints(
    types: Typestore, numbers: list[float]
) -> None:
    """Unless the contract says what its order is; then a short array is as one of names."""
    field = {"path": "position", "joints": ["a", "b"]}
    messages = [joint_state(types, ["b", "a"], [1, 2]), joint_state(types, [], numbers)] * 20
    decoder, lacks = assert_blocks_are_as_single_messages(types, observe(JOINTS, field), messages)
    assert lacks == [COMPLETE, ABSENT] * 20
    assert decoder.single == 0
    by_index = observe(JOINTS, field, unnamed="by_index")
    if len(numbers) > 2:
        with pytest.raises(MessageError, match="'position' has 3 entries for 2 joints of the con"):
            BlockDecoder(by_index, types).decode(block_of(types, JOINTS, messages))
        return
    _, lacks = assert_blocks_are_as_single_messages(types, by_index, messages)
    assert lacks == [COMPLETE, COMPLETE if len(numbers) == 2 else ABSENT] * 20


def test_models_without_a_pose_or_a_name_are_absent(types: Typestore) -> None:
    stream = observe(STATES, {"path": "pose[name=box].position.x"})
    whole, short, unnamed, empty = (model_states(types, arm=1.0, box=2.0) for _ in range(4))
    short.pose = short.pose[:1]
    unnamed.name, empty.name, empty.pose = [], [], []
    messages = [whole, short, unnamed, empty] * 15
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT, ABSENT, ABSENT] * 15
    assert decoder.single == 0


def test_interfaces_without_a_value_are_absent(types: Typestore) -> None:
    path = "interface_values[joint_names=a].values[interface_names=velocity]"
    messages = [
        dynamic_state(types, ["b", "a"], [1, 2], [3, 4]),
        dynamic_state(types, ["b", "a"], [1, 2], [3]),
        dynamic_state(types, ["b", "a"], [1, 2]),
        dynamic_state(types, [], [1, 2]),
        dynamic_state(types, ["b"], [1, 2]),
    ]
    decoder, lacks = assert_blocks_are_as_single_messages(
        types, observe(DYNAMIC, {"path": path}), messages * 12
    )
    assert lacks == [COMPLETE, ABSENT, ABSENT, ABSENT, ABSENT] * 12
    assert decoder.single == 0


def test_a_name_that_comes_twice_is_an_error_if_it_is_selected(types: Typestore) -> None:
    message = joint_state(types, ["a", "b", "b"], [1.0, 2.0, 3.0])
    assert StreamDecoder(observe(JOINTS, {"path": "position", "joints": ["a"]}))(message) == [1.0]
    for field, problem in (
        ({"path": "position", "joints": ["b"]}, "joint 'b' is twice in the message"),
        ({"path": "position[name=b]"}, "several elements are called 'b'"),
    ):
        stream = observe(JOINTS, field, when_absent="skip")
        with pytest.raises(ContractError, match=problem) as raised:
            StreamDecoder(stream)(message)
        assert not isinstance(raised.value, AbsentError)
        with pytest.raises(MessageError, match=problem):
            BlockDecoder(stream, types).decode(block_of(types, JOINTS, [message]))


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


@pytest.mark.parametrize("when_absent", ["refuse", "skip"])
@pytest.mark.parametrize("joints", [["a", "b"], ["b", "a"], ["b", "g"], []])
def test_a_trajectory_without_points_is_a_stop(
    types: Typestore, when_absent: str, joints: list[str]
) -> None:
    """Of the joints that it names, or of all."""
    field = {"path": "points.0.positions", "joints": ["a", "b"]}
    stream = command(TRAJECTORY, field, when_absent=when_absent)
    messages = [trajectory(types, ["b", "a"], [k, -k]) for k in range(30)]
    messages[10] = messages[20] = trajectory(types, joints)
    _, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert [k for k, lack in enumerate(lacks) if lack == ENDED] == [10, 20]
    assert lacks.count(COMPLETE) == 28


def test_a_trajectory_without_points_of_other_joints_stops_these(types: Typestore) -> None:
    """Names of as many letters, so that a layout must look at them."""
    stream = command(TRAJECTORY, {"path": "points.0.positions", "joints": ["a", "b"]})
    stops = {"g": ABSENT, "a": ENDED, "h": ABSENT, "b": ENDED}
    messages = [trajectory(types, [name]) for name in stops] * 10
    decoder, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [*stops.values()] * 10
    assert decoder.single == 0
    refusing = stream.model_copy(update={"when_absent": "refuse"})
    with pytest.raises(MessageError, match=r"element 0 of an array of 0.*'when_absent: skip'"):
        BlockDecoder(refusing, types).decode(block_of(types, TRAJECTORY, messages))


def test_a_stop_of_frames_names_them_too(types: Typestore) -> None:
    kind = "trajectory_msgs/msg/MultiDOFJointTrajectory"
    path = "points.0.transforms[joint_names=base].translation.x"
    header = trajectory(types, []).header
    messages = [types.types[kind](header, names, []) for names in (["base"], ["tool"], [])] * 10
    _, lacks = assert_blocks_are_as_single_messages(types, command(kind, {"path": path}), messages)
    assert lacks == [ENDED, ABSENT, ENDED] * 10


def test_a_point_without_some_numbers_is_no_stop(types: Typestore) -> None:
    stream = command(TRAJECTORY, {"path": "points.0.positions", "joints": ["a", "b"]})
    messages = [trajectory(types, ["a", "b"], each) for each in ([1, 2], [1], [])]
    _, lacks = assert_blocks_are_as_single_messages(types, stream, messages)
    assert lacks == [COMPLETE, ABSENT, ABSENT]


def explained(store: Typestore, stream: Stream, messages: Sequence[Any]) -> str:
    decoder = BlockDecoder(stream, store)
    decoder.decode(block_of(store, stream.type, messages))
    assert decoder.absence is not None
    return decoder.absence[0]


def test_joints_that_never_share_a_message_are_to_be_streams_of_their_own(
    types: Typestore,
) -> None:
    fields = [{"path": "position", "joints": ["a", "b"]}, {"path": "velocity", "joints": ["g"]}]
    messages = [
        joint_state(types, names, [0.0] * len(names)) for names in (["b", "a", "z"], ["g"], ["a"])
    ]
    assert explained(types, observe(JOINTS, *fields), messages * 9) == (
        "/t: no message has all of a, b, g; they come apart: a, b; g; make a stream of each part, "
        "with a 'name': {topic: /t, name: g, ...}, see 'Messages without it' in "
        "docs/reference/contract.md"
    )
    frames = [{"path": f"transforms[child_frame_id={each}].{X}"} for each in ("tool", "cam")]
    moved = [tf(types, tool=1.0), tf(types, cam=1.0, odom=2.0), tf(types)]
    text = explained(types, observe(TF, *frames), moved)
    assert "/t: no message has all of tool, cam; they come apart: tool; cam; make a" in text


def test_names_that_come_nowhere_are_told_with_the_nearest(types: Typestore) -> None:
    field = {"path": "position", "joints": ["sholder", "elbow", "wrist"]}
    messages = [joint_state(types, [name], [0.0]) for name in ("shoulder", "elbow", "j6")]
    assert explained(types, observe(JOINTS, field), messages) == (
        "/t: no message has 'sholder' (did you mean 'shoulder'?), 'wrist'; the messages name: "
        "shoulder, elbow, j6; correct the names in the contract"
    )
    frame = {"path": f"transforms[child_frame_id=tol].{X}"}
    assert "'tol' (did you mean 'tool'?)" in explained(
        types, observe(TF, frame), [tf(types, tool=1.0)]
    )


def test_what_else_is_absent_is_told_of_a_message_that_names_it(types: Typestore) -> None:
    stream = observe(JOINTS, {"path": "velocity", "joints": ["a"]})
    messages = [joint_state(types, ["g"], [0.0]), joint_state(types, ["a"], [0.0])]
    assert "'velocity' has 0 entries for 1 joint names" in explained(types, stream, messages)
    assert "names: none; set 'unnamed: by_index'" in explained(
        types, stream, [joint_state(types, [], [0.0])]
    )


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
