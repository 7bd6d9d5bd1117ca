import struct
from pathlib import Path
from typing import Any

import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from tests.ros.bag.bag_files import in_order, ramp, read, read_blocks, write_ros1

COMPRESSIONS = [None, Writer.CompressionFormat.BZ2, Writer.CompressionFormat.LZ4]


@pytest.mark.parametrize("chunk_size", [200, 1 << 20])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_read_with_and_without_index(
    tmp_path: Path, compression: Writer.CompressionFormat | None, chunk_size: int
) -> None:
    messages = ramp(50)
    path = write_ros1(tmp_path / "x.bag", reversed(messages), compression, chunk_size)
    assert read(path) == in_order(read_blocks(path)) == messages
    assert read(path, topics={"/b"}) == [sent for sent in messages if sent.topic == "/b"]
    with Bag(path) as bag:
        assert {topic.name: topic.count for topic in bag.topics.values()} == {"/a": 25, "/b": 25}
        assert (bag.start_ns, bag.end_ns) == (messages[0].time_ns, messages[-1].time_ns)
    data = bytearray(path.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(BagError, match=r"x\.bag: has no index: the recorder was stopped before"):
        read(path)
    assert read(path, salvage=True) == messages
    with Bag(path, salvage=True) as bag:
        assert bag.losses == ()
        assert bag.notes == (
            "x.bag: has no index: the recorder was stopped before it had finished the file; it "
            "was read from front to back instead",
        )


def test_header_loses_its_counter_on_the_way_to_cdr(tmp_path: Path) -> None:
    typestore = get_typestore(Stores.ROS1_NOETIC)
    types: dict[str, Any] = dict(typestore.types)
    stamp = types["builtin_interfaces/msg/Time"](sec=7, nanosec=8)
    header = types["std_msgs/msg/Header"](seq=3, stamp=stamp, frame_id="base")
    vector = types["geometry_msgs/msg/Vector3"](x=1.0, y=2.0, z=3.0)
    message = types["geometry_msgs/msg/Vector3Stamped"](header=header, vector=vector)
    name = "geometry_msgs/msg/Vector3Stamped"
    with Writer(tmp_path / "x.bag") as writer:
        connection = writer.add_connection("/v", name, typestore=typestore)
        writer.write(connection, 5, typestore.serialize_ros1(message, name))
    with Bag(tmp_path / "x.bag") as bag:
        (found,) = bag.messages(frozenset({"/v"}))
        batch = next(bag.batches(frozenset({"/v"})))
    cdr = batch.blocks[0].payload(0)
    assert cdr == struct.pack("<I2iI5s7x3d", 256, 7, 8, 5, b"base\0", 1.0, 2.0, 3.0)
    jazzy: Any = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(cdr, name)
    assert (jazzy.header.frame_id, jazzy.vector.z) == ("base", 3.0)
    assert found.message.header.stamp.nanosec == 8
    assert not hasattr(found.message.header, "seq")


def test_message_that_does_not_fit_its_type_is_one_loss(tmp_path: Path) -> None:
    typestore = get_typestore(Stores.ROS1_NOETIC)
    with Writer(tmp_path / "x.bag") as writer:
        connection = writer.add_connection("/x", "std_msgs/msg/String", typestore=typestore)
        writer.write(connection, 5, b"\xff\xff\xff\xff")
        writer.write(connection, 6, b"\1\0\0\0a")
    with pytest.raises(BagError, match=r"a message of /x is no valid std_msgs/msg/String"):
        read(tmp_path / "x.bag")
    with Bag(tmp_path / "x.bag", salvage=True) as bag:
        assert [message.message.data for message in bag.messages(frozenset({"/x"}))] == ["a"]
        assert [(loss.file, loss.messages) for loss in bag.losses] == [("x.bag", 1)]
