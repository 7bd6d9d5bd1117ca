"""Messages in the rarer forms of CDR become the plain form, to the bit."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import Writer
from rosbags.typesys import Stores, get_typestore

from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.definition_text import types_from_idl, types_from_msg
from dql_ros.bag.storage.definitions import Definitions, standard_types
from dql_ros.bag.storage.plain_cdr import PlainCdr, plain_types
from dql_ros.bag.storage.storage import Channel, DamageError, Definition
from dql_ros.codecs.block_decoder import BlockDecoder
from dql_ros.contract import Stream
from tests.ros.bag.bag_files import SECOND, ramp, write_mcap
from tests.ros.bag.messages import messages_of

HEAD, BIG = b"\0\1\0\0", b"\0\0\0\0"
STANDARD = get_typestore(Stores.ROS2_JAZZY)
ODD = "odd_msgs/msg/Odd"


def joints(blank: Callable[[str], Any]) -> Any:
    message = blank("sensor_msgs/msg/JointState")
    message.header.frame_id = "b\u00e4se"
    message.name = ["a", "bc", ""]
    message.position = np.array([1.5, -2.0, 1e300])
    return message


def multi(blank: Callable[[str], Any]) -> Any:
    message = blank("std_msgs/msg/Float32MultiArray")
    dimension = blank("std_msgs/msg/MultiArrayDimension")
    dimension.label, dimension.size = "rows", 2
    message.layout.dim = [dimension, dimension]
    message.data = np.array([1.0, 2.0], np.float32)
    return message


def odometry(blank: Callable[[str], Any]) -> Any:
    message = blank("nav_msgs/msg/Odometry")
    message.header.stamp.sec = -5
    message.pose.covariance = np.arange(36.0)
    return message


@pytest.mark.parametrize("make", [joints, multi, odometry])
def test_big_endian_messages_become_little_endian_ones(
    blank: Callable[[str], Any], make: Callable[[Any], Any]
) -> None:
    message = make(blank)
    msgtype = message.__msgtype__
    little = bytes(STANDARD.serialize_cdr(message, msgtype, little_endian=True))
    big = bytes(STANDARD.serialize_cdr(message, msgtype, little_endian=False))
    rewrite = PlainCdr(msgtype, STANDARD.fielddefs)
    assert rewrite(big) == little == rewrite(little)
    for cut in range(4, len(little) - 3, 5):
        with pytest.raises(DamageError):
            rewrite(little[:cut])


def test_big_endian_messages_are_decoded_with_all_others(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "x.mcap", ramp(40), payload=lambda value: BIG + struct.pack(">d", value)
    )
    with Bag(path) as bag:
        assert [each.message.data for each in messages_of(bag, frozenset({"/a"}))] == [
            *np.arange(0.0, 40.0, 2.0)
        ]
        (block,) = (block for batch in bag.batches(frozenset({"/a"})) for block in batch.blocks)
    assert (block.data[block.starts + 1] == 1).all()


WIDE = "hi \u00e9\U0001f600"


def utf16(text: str, order: str) -> bytes:
    return text.encode(f"utf-16-{order}e")


def wide(text: str, order: str, size: int, in_bytes: bool) -> bytes:
    """A wide text, as one of the writers has it: in UTF-16 units of 2 or 4 bytes."""
    units = np.frombuffer(utf16(text, "l"), "<u2").astype(f"{'<' if order == 'l' else '>'}u{size}")
    length = len(units) * size if in_bytes else len(units)
    return struct.pack("<I" if order == "l" else ">I", length) + units.tobytes()


@pytest.mark.parametrize("order", ["l", "b"])
@pytest.mark.parametrize(("size", "in_bytes"), [(4, False), (2, True), (2, False)])
@pytest.mark.parametrize("text", [WIDE, "", "abc", "a"])
def test_wide_texts_are_read_however_wide_they_are(
    order: str, size: int, in_bytes: bool, text: str
) -> None:
    types = types_from_msg("wstring w\nuint8 n\nwstring[] list\nfloat64 x", ODD)
    sign = "<" if order == "l" else ">"
    content = wide(text, order, size, in_bytes) + b"\7"
    content += bytes(-len(content) % 4) + struct.pack(f"{sign}I", 2)
    for each in ("longer", text):
        content += bytes(-len(content) % 4) + wide(each, order, size, in_bytes)
    content += bytes(-len(content) % 8) + struct.pack(f"{sign}d", 2.5)
    plain = PlainCdr(ODD, types)((HEAD if order == "l" else BIG) + content)
    narrow = Definition("ros2msg", "string w\nuint8 n\nstring[] list\nfloat64 x")
    store = Definitions("jazzy").typestore([Channel("/x", ODD, "cdr", narrow)])
    message: Any = store.deserialize_cdr(plain, ODD)
    assert (message.w, message.n, message.list, message.x) == (text, 7, ["longer", text], 2.5)


def test_a_long_double_is_passed_over() -> None:
    text = (
        "module odd_msgs { module msg { struct Odd { octet a; long double d[2]; double x; }; }; };"
    )
    types = types_from_idl(text, ODD)
    long_doubles = bytes(range(32))
    recorded = HEAD + b"\1" + bytes(7) + long_doubles + struct.pack("<d", 0.5)
    assert PlainCdr(ODD, types)(recorded) == HEAD + b"\1" + long_doubles + bytes(7) + struct.pack(
        "<d", 0.5
    )
    (_, fields) = plain_types(types)[ODD]
    assert [name for name, _ in fields] == ["a", "d", "x"]


def pose(frame: bytes, x: float) -> bytes:
    content = struct.pack("<iI", 1, 2) + struct.pack("<I", len(frame)) + frame
    return HEAD + content + bytes(-len(content) % 8) + struct.pack("<7d", x, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("frame", [b"", b"caf\xe9\0", b"\xff\xfe\0"])
def test_texts_that_are_none_do_not_matter_to_who_needs_a_number(
    tmp_path: Path, frame: bytes
) -> None:
    msgtype = "geometry_msgs/msg/PoseStamped"
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2")
        channel = writer.register_channel("/p", "cdr", writer.register_schema(msgtype, "", b""))
        for tick in range(20):
            writer.add_message(channel, SECOND + tick, pose(frame, float(tick)), SECOND + tick)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    fields = [{"path": "pose.position.x"}]
    stream_ = Stream.model_validate({"topic": "/p", "type": msgtype, "fields": fields})
    with Bag(path) as bag:
        decoder = BlockDecoder(stream_, bag.typestore("/p"))
        blocks = [block for batch in bag.batches(frozenset({"/p"})) for block in batch.blocks]
        decoded = decoder.decode(blocks[0])
    assert decoded.values[:, 0].tolist() == list(range(20))
    assert decoder.bulk == 20  # as fast as others


def test_a_damaged_message_is_not_made_whole() -> None:
    message = pose(b"abc", 1.0)  # the text has no end
    with pytest.raises(Exception, match="Missing string terminator"):
        standard_types(Stores.ROS2_JAZZY).deserialize_cdr(message, "geometry_msgs/msg/PoseStamped")
