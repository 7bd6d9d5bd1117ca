import bz2
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lz4.frame  # type: ignore[import-untyped]  # the library has no types
import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from tests.ros.bag.bag_files import FLOAT, SECOND, in_order, ramp, read, read_blocks, write_ros1
from tests.ros.bag.messages import messages_of

NOETIC = get_typestore(Stores.ROS1_NOETIC)
COMPRESSIONS = [None, Writer.CompressionFormat.BZ2, Writer.CompressionFormat.LZ4]


@pytest.mark.parametrize("chunk_size", [200, 1 << 20])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_read(
    tmp_path: Path, compression: Writer.CompressionFormat | None, chunk_size: int
) -> None:
    messages = ramp(50)
    path = write_ros1(tmp_path / "x.bag", reversed(messages), compression, chunk_size)
    assert read(path) == in_order(read_blocks(path)) == messages
    assert read(path, topics={"/b"}) == [sent for sent in messages if sent.topic == "/b"]
    with Bag(path) as bag:
        assert {topic.name: topic.count for topic in bag.topics.values()} == {"/a": 25, "/b": 25}
        assert (bag.start_ns, bag.end_ns) == (messages[0].time_ns, messages[-1].time_ns)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_bag_that_was_not_closed_is_salvaged_up_to_its_end(
    tmp_path: Path, compression: Writer.CompressionFormat | None
) -> None:
    messages = ramp(50)
    path = write_ros1(tmp_path / "x.bag", messages, compression, chunk_size=200)
    data = bytearray(path.read_bytes())
    at = data.index(b"index_pos=") + len(b"index_pos=")
    index = struct.unpack("<Q", data[at : at + 8])[0]
    data[at : at + 8] = bytes(8)
    path.write_bytes(data[:index])
    with pytest.raises(BagError, match=r"x\.bag: Bag is not indexed; .* damaged: --salvage reads"):
        read(path)
    assert read(path, salvage=True) == messages
    with Bag(path, salvage=True) as bag:
        assert {topic.name: topic.count for topic in bag.topics.values()} == {"/a": 25, "/b": 25}
        assert (bag.start_ns, bag.end_ns) == (messages[0].time_ns, messages[-1].time_ns)
        assert bag.losses == ()
        assert bag.notes == ("x.bag: read without its index: Bag is not indexed",)


def test_without_an_index_chunks_that_cannot_be_read_are_losses(tmp_path: Path) -> None:
    messages = ramp(200)
    path = write_ros1(tmp_path / "x.bag", messages, chunk_size=2000)
    whole = path.read_bytes()
    first, second, third, *_ = (found.start() - 16 for found in re.finditer(b"compress", whole))
    two = whole[first:third].count(b"op=\x02")
    size = whole.index(b"size=", second) + len(b"size=")
    changes = (  # of the uncompressed and the compressed size of the second chunk
        (7, None, messages),
        (7, 0, messages[:two]),  # as of a recorder that was killed
        (None, 1 << 20, messages[:two]),
    )
    for plain, packed, expected in changes:
        data = bytearray(whole[: whole.rindex(b"op=\x04")])
        for at, value in ((size, plain), (size + 4, packed)):
            if value is not None:
                data[at : at + 4] = struct.pack("<I", value)
        path.write_bytes(data)
        assert read(path, salvage=True) == expected
        with Bag(path, salvage=True) as bag:
            list(bag.batches(frozenset(bag.topics)))
            reasons = [loss.reason for loss in bag.losses]
        assert re.search(r"a chunk of \d+ bytes by its header has \d+", " ".join(reasons))


def test_a_bag_without_chunks_is_refused_with_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "x.bag", ramp(50))
    head, _ = path.read_bytes().split(b"compression=")
    path.write_bytes(head[:-16].replace(b"V2.0", b"V1.2"))
    for salvage in (False, True):
        with pytest.raises(BagError, match="Bag version 102 is not supported"):
            read(path, salvage=salvage)


@pytest.mark.parametrize(
    ("compression", "compress"),
    [
        (Writer.CompressionFormat.LZ4, lz4.frame.compress),
        (Writer.CompressionFormat.BZ2, bz2.compress),
    ],
)
def test_a_chunk_never_becomes_more_than_it_announces(
    tmp_path: Path, compression: Writer.CompressionFormat, compress: Callable[[bytes], bytes]
) -> None:
    bomb = compress(bytes(1 << 27))
    writer = Writer(tmp_path / "x.bag")
    writer.set_compression(compression)
    writer.compressor = lambda data: bomb
    with writer:
        connection = writer.add_connection("/x", FLOAT, typestore=NOETIC)
        writer.write(connection, SECOND, struct.pack("<d", 1.0))
    tracemalloc.start()
    for salvage in (False, True):
        with Bag(tmp_path / "x.bag", salvage=salvage) as bag:
            if salvage:
                assert not any(batch.blocks for batch in bag.batches(frozenset({"/x"})))
                (loss,) = bag.losses
                assert loss.messages == 1
            else:
                with pytest.raises(BagError, match=r"x\.bag: .* is damaged: --salvage"):
                    list(bag.batches(frozenset({"/x"})))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000


def test_a_chunk_is_in_the_index_once(tmp_path: Path) -> None:
    path = write_ros1(tmp_path / "x.bag", ramp(50), chunk_size=200)
    data = bytearray(path.read_bytes())
    at = [found.end() for found in re.finditer(b"chunk_pos=", data)]
    data[at[1] : at[1] + 8] = data[at[0] : at[0] + 8]
    path.write_bytes(data)
    with pytest.raises(BagError, match="has a chunk twice in its index"):
        read(path)


@pytest.mark.parametrize("value", [2**31, 2**32 - 1])
def test_huge_lengths_are_refused_before_anything_is_allocated(tmp_path: Path, value: int) -> None:
    path = write_ros1(tmp_path / "x.bag", ramp(50))
    whole = path.read_bytes()
    chunk = whole.index(b"compression=")
    size = whole.index(b"size=", chunk) + len(b"size=")
    tracemalloc.start()
    for at in (chunk - 8, size, size + 4):  # the header, the chunk as it says, its data
        data = bytearray(whole)
        data[at : at + 4] = struct.pack("<I", value)
        path.write_bytes(data)
        with pytest.raises(BagError, match=r"x\.bag: cannot be read"):
            read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000_000


def test_header_loses_its_counter_on_the_way_to_cdr(tmp_path: Path) -> None:
    typestore = NOETIC
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
        (found,) = messages_of(bag, frozenset({"/v"}))
        batch = next(bag.batches(frozenset({"/v"})))
    cdr = batch.blocks[0].payload(0)
    assert cdr == struct.pack("<I2iI5s7x3d", 256, 7, 8, 5, b"base\0", 1.0, 2.0, 3.0)
    jazzy: Any = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr(cdr, name)
    assert (jazzy.header.frame_id, jazzy.vector.z) == ("base", 3.0)
    assert found.message.header.stamp.nanosec == 8
    assert not hasattr(found.message.header, "seq")


def test_message_that_does_not_fit_its_type_is_one_loss(tmp_path: Path) -> None:
    typestore = NOETIC
    with Writer(tmp_path / "x.bag") as writer:
        connection = writer.add_connection("/x", "std_msgs/msg/String", typestore=typestore)
        writer.write(connection, 5, b"\xff\xff\xff\xff")
        writer.write(connection, 6, b"\1\0\0\0a")
    with pytest.raises(BagError, match=r"a message of /x is no valid std_msgs/msg/String"):
        read(tmp_path / "x.bag")
    with Bag(tmp_path / "x.bag", salvage=True) as bag:
        assert [message.message.data for message in messages_of(bag, frozenset({"/x"}))] == ["a"]
        assert [(loss.file, loss.messages) for loss in bag.losses] == [("x.bag", 1)]
