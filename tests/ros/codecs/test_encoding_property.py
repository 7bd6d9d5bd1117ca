"""Encoding and decoding are inverses: for any contract, of any type."""

from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

from dql_ros.codecs import StreamDecoder, StreamEncoder
from dql_ros.codecs.blank import blank_element, blank_message
from dql_ros.codecs.block_decoder import BlockDecoder
from dql_ros.codecs.installed import installed_types, message_class, new_element
from dql_ros.codecs.sendable import require_room, require_sendable
from dql_ros.contract import ActionStream
from tests.ros.codecs.named_messages import block_of
from tests.ros.codecs.random_commands import commands, has_numbers

PACKAGES = (
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "nav_msgs",
    "sensor_msgs",
    "shape_msgs",
    "std_msgs",
    "stereo_msgs",
    "trajectory_msgs",
    "visualization_msgs",
)
SETTINGS = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@cache
def store_of(msgtype: str) -> Typestore:
    return installed_types(msgtype)


@cache
def installed() -> list[str]:
    names = [
        f"{package}/msg/{name}"
        for package in PACKAGES
        for name in vars(import_module(f"{package}.msg"))
        if name[0].isupper() and name != "Empty"
    ]
    return [name for name in names if has_numbers(store_of(name), name)]


def assert_inverse(stream: ActionStream, store: Typestore, values: Any, sent: bytes) -> None:
    """What was sent is read as it was by the codec of one message and by that of many."""
    message = store.deserialize_cdr(sent, stream.type)
    np.testing.assert_array_equal(StreamDecoder(stream)(message), values)
    block = BlockDecoder(stream, store).decode(block_of(store, stream.type, [message] * 2))
    np.testing.assert_array_equal(block.values, [values, values])
    assert block.lacks is None


def sent_by_rosbags(stream: ActionStream, store: Typestore, values: Any) -> bytes:
    message, element = blank_message(store, stream.type), partial(blank_element, store)
    StreamEncoder(stream).encode(values, message, 5, element)
    return bytes(store.serialize_cdr(message, stream.type))


@SETTINGS
@given(data=st.data())
def test_commands_of_all_installed_types_are_read_as_they_were_sent(data: st.DataObject) -> None:
    msgtype = data.draw(st.sampled_from(installed()))
    store = store_of(msgtype)
    stream, vectors = data.draw(commands(store, msgtype))
    require_sendable(stream, store)
    require_room(stream, store)
    kind = message_class(msgtype)
    encoder, decoder, message = StreamEncoder(stream), StreamDecoder(stream), kind()
    for values in vectors:  # the message is used again, as a node does
        encoder.encode(values, message, 5, new_element)
        arrived = deserialize_message(serialize_message(message), kind)
        np.testing.assert_array_equal(decoder(arrived), values)
        sent = sent_by_rosbags(stream, store, values)
        assert_inverse(stream, store, values, sent)
        np.testing.assert_array_equal(decoder(deserialize_message(sent, kind)), values)
    again = StreamEncoder(stream).encode(decoder(arrived), kind(), 5, new_element)
    assert again == message == arrived


NUMBERS = (
    *("bool", "byte", "char", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


@st.composite
def definitions(draw: st.DrawFn) -> Typestore:
    """Types t/msg/T0 to T2 of any fields; a later one may have the former as parts."""
    store = Typestore()
    time = "int32 sec\nuint32 nanosec"
    store.register(get_types_from_msg(time, "builtin_interfaces/msg/Time"))
    header = "builtin_interfaces/Time stamp\nstring frame_id"
    store.register(get_types_from_msg(header, "std_msgs/msg/Header"))
    for number in range(3):
        parts = [f"t/T{part}" for part in range(number)]
        kinds = st.sampled_from([*NUMBERS, *parts, "string"])
        lines = [
            f"{kind}{form} f{line}"
            for line, (kind, form) in enumerate(
                draw(
                    st.lists(
                        st.tuples(kinds, st.sampled_from(["", "", "[]", "[3]", "[<=2]"])),
                        min_size=1,
                        max_size=5,
                    )
                )
            )
        ]
        extra = ["std_msgs/Header header", "string[] joint_names", "string[] motor_names"]
        extra += ["string name", "float64 last"]
        lines += draw(st.lists(st.sampled_from(extra), unique=True))
        store.register(get_types_from_msg("\n".join(lines), f"t/msg/T{number}"))
    return store


@SETTINGS
@given(data=st.data())
def test_commands_of_any_type_that_a_bag_defines_are_read_as_they_were_sent(
    data: st.DataObject,
) -> None:
    store = data.draw(definitions())
    msgtype = data.draw(st.sampled_from([f"t/msg/T{n}" for n in range(3)]))
    assume(has_numbers(store, msgtype))
    stream, vectors = data.draw(commands(store, msgtype))
    require_sendable(stream, store)
    require_room(stream, store)
    for values in vectors:
        assert_inverse(stream, store, values, sent_by_rosbags(stream, store, values))


def test_hundreds_of_types_are_drawn_from() -> None:
    assert len(installed()) > 100
    with pytest.raises(Exception, match="not installed"):
        installed_types("control_msgs/msg/Missing")
