import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mcap.opcode import Opcode
from mcap.writer import CompressionType, IndexType, Writer

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.mcap_records import MAGIC, records_in
from tests.ros.bag.bag_files import (
    FLOAT,
    SECOND,
    Sent,
    cdr,
    in_order,
    ramp,
    read,
    read_blocks,
    write_mcap,
)
from tests.ros.bag.messages import messages_of

NOTHING = {
    "index_types": IndexType.NONE,
    "repeat_channels": False,
    "repeat_schemas": False,
    "use_statistics": False,
    "use_summary_offsets": False,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "zstd": {},
    "lz4": {"compression": CompressionType.LZ4},
    "uncompressed": {"compression": CompressionType.NONE},
    "many chunks": {"chunk_size": 200},
    "no chunks": {"use_chunking": False},
    "no chunks, with a checksum": {"use_chunking": False, "enable_data_crcs": True},
    "no statistics": {"use_statistics": False, "chunk_size": 500},
    "no message indices": {"index_types": IndexType.CHUNK, "chunk_size": 500},
    "no channels in the summary": {"repeat_channels": False, "repeat_schemas": False},
    "no summary": {**NOTHING, "chunk_size": 500},
    "no summary, no chunks": {**NOTHING, "use_chunking": False},
    "no checksums": {"enable_crcs": False, "compression": CompressionType.NONE},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_way_of_writing_gives_the_same_messages(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    messages = ramp(100)
    path = write_mcap(tmp_path / "x.mcap", messages, **options)
    assert read(path) == messages
    assert in_order(read_blocks(path)) == messages
    assert read(path, topics={"/b"}) == [sent for sent in messages if sent.topic == "/b"]
    assert read(path, salvage=True) == messages
    with Bag(path) as bag:
        assert {topic.name: topic.count for topic in bag.topics.values()} == {"/a": 50, "/b": 50}
        assert (bag.start_ns, bag.end_ns) == (messages[0].time_ns, messages[-1].time_ns)
        assert bag.losses == () == bag.notes


TIMES = st.integers(0, 50)


@settings(max_examples=60, deadline=None)
@example(sent=[("/a", 0)] * 3 + [("/b", 0)], chunk_size=100, option="no summary")
@given(
    sent=st.lists(st.tuples(st.sampled_from(["/a", "/b", "/c"]), TIMES), max_size=60),
    chunk_size=st.sampled_from([1, 100, 400, 1 << 20]),
    option=st.sampled_from(sorted(OPTIONS)),
)
def test_messages_in_any_order_come_by_time_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory,
    sent: list[tuple[str, int]],
    chunk_size: int,
    option: str,
) -> None:
    messages = [Sent(topic, time, float(index)) for index, (topic, time) in enumerate(sent)]
    path = tmp_path_factory.mktemp("bag") / "x.mcap"
    write_mcap(path, messages, **{**OPTIONS[option], "chunk_size": chunk_size})
    found = read(path)
    assert [message.time_ns for message in found] == sorted(time for _, time in sent)
    assert sorted(found) == sorted(messages)
    assert sorted(read_blocks(path)) == sorted(messages)
    for topic in ("/a", "/b", "/c"):
        mine = [message for message in found if message.topic == topic]
        if chunk_size == 1 << 20 or "no chunks" in option:
            assert mine == in_order(each for each in messages if each.topic == topic)


def test_wrong_index_is_not_believed(tmp_path: Path) -> None:
    messages = ramp(20)
    path = write_mcap(tmp_path / "x.mcap", messages)
    whole = path.read_bytes()
    for record in records_in(whole, len(MAGIC), len(whole) - len(MAGIC)):
        if record.opcode != Opcode.MESSAGE_INDEX:
            continue
        for at in range(record.offset + 9 + 6 + 8, record.end, 16):
            data = bytearray(whole)
            data[at : at + 8] = struct.pack("<Q", 2**63 if at % 32 else 0)
            path.write_bytes(data)
            assert read(path) == messages


def test_several_publishers_of_a_topic_are_one_topic(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(FLOAT, "ros2msg", b"float64 data")
        other = writer.register_schema("std_msgs/msg/Bool", "ros2msg", b"bool data")
        for qos in ("a", "b"):
            channel = writer.register_channel("/x", "cdr", schema, {"offered_qos_profiles": qos})
            writer.add_message(channel, 5, cdr(1.0), 5)
        mixed = writer.register_channel("/y", "cdr", other)
        writer.add_message(mixed, 6, b"\0\1\0\0\1", 6)
        writer.add_message(writer.register_channel("/y", "cdr", schema), 7, cdr(2.0), 7)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    with Bag(path) as bag:
        assert bag.topics["/x"].count == 2
        assert bag.topics["/y"].msgtype == "std_msgs/msg/Bool and std_msgs/msg/Float64"
        assert [message.message.data for message in messages_of(bag, frozenset({"/y"}))] == [
            True,
            2,
        ]
        with pytest.raises(BagError, match=r"/y was recorded with 2 types"):
            bag.typestore("/y")
        assert FLOAT in bag.typestore("/x").fielddefs
        with pytest.raises(BagError, match=r"no topic /z \(known: /x, /y\)"):
            bag.typestore("/z")


EVENT = """service_msgs/ServiceEventInfo info
example_interfaces/AddTwoInts_Request[<=1] request
example_interfaces/AddTwoInts_Response[<=1] response
"""


def test_channels_of_services_or_unknown_types_do_not_break_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        good = writer.register_channel(
            "/good", "cdr", writer.register_schema(FLOAT, "ros2msg", b"float64 data")
        )
        event = "example_interfaces/srv/AddTwoInts_Event"
        schemas = {
            "/service": writer.register_schema(event, "ros2msg", EVENT.encode()),
            "/empty": writer.register_schema("my/msg/Thing", "", b""),
            "/broken": writer.register_schema("my/msg/Broken", "ros2msg", b"!?"),
            "/schemaless": 0,
        }
        for topic, schema in schemas.items():
            channel = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channel, 3, b"\0\1\0\0\1", 3)
        writer.add_message(writer.register_channel("/json", "json", 0), 4, b"{}", 4)
        writer.add_message(good, 5, cdr(1.0), 5)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    assert read(path, topics={"/good"}) == [Sent("/good", 5, 1.0)]
    with Bag(path) as bag:
        assert [(topic.name, topic.count) for topic in bag.unknown_types] == [
            ("/service", 1),
            ("/empty", 1),
            ("/broken", 1),
            ("/schemaless", 1),
            ("/json", 1),
        ]
        for topic, why in {
            "/empty": r"/empty cannot be read: neither the bag nor ROS's standard packages define",
            "/broken": r"/broken cannot be read: the definition of my/msg/Broken in the bag is",
            "/service": r"/service cannot be read: the definition of example_interfaces/srv/Add",
        }.items():
            with pytest.raises(BagError, match=why) as raised:
                bag.typestore(topic)
            assert "\n" not in str(raised.value)
        with pytest.raises(BagError, match="/json cannot be read: it is serialised as 'json'"):
            list(bag.batches(frozenset({"/json"})))


def test_two_definitions_of_a_topics_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        for definition in (b"float64 data", b"float64 data # a comment", b"float32 data"):
            schema = writer.register_schema("my/msg/Number", "ros2msg", definition)
            writer.register_channel("/y" if b"32" in definition else "/x", "cdr", schema)
        writer.register_channel("/y", "cdr", 1)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    with Bag(path) as bag:
        bag.typestore("/x")
        with pytest.raises(BagError, match="/y cannot be read: the bag defines my/msg/Number in"):
            bag.typestore("/y")


def test_messages_of_ros1_in_an_mcap_file_become_cdr(tmp_path: Path) -> None:
    messages = ramp(10)
    path = write_mcap(
        tmp_path / "x.mcap",
        messages,
        encoding="ros1",
        payload=lambda value: struct.pack("<d", value),
    )
    assert read(path) == in_order(read_blocks(path)) == messages


def test_messages_from_before_their_chunks_start_are_damage(tmp_path: Path) -> None:
    messages = ramp(40)
    path = write_mcap(
        tmp_path / "x.mcap", messages, chunk_size=500, compression=CompressionType.NONE
    )
    data = bytearray(path.read_bytes())
    late = data.rindex(struct.pack("<d", 39.0), 0, data.rindex(b"\x08"))
    data[late - 20 : late - 12] = struct.pack("<Q", SECOND - 1)
    path.write_bytes(_with_right_checksums(bytes(data)))
    with pytest.raises(BagError, match=r"x\.mcap: has 1 messages before the time it says"):
        read(path)
    with Bag(path, salvage=True) as bag:
        found = [message.message.data for message in messages_of(bag, frozenset(bag.topics))]
        assert found == [message.value for message in messages[:-1]]
        assert [(loss.messages, loss.file) for loss in bag.losses] == [(1, "x.mcap")]


def _with_right_checksums(data: bytes) -> bytes:
    """Correct the checksums of uncompressed chunks."""
    changed = bytearray(data)
    for record in records_in(data, len(MAGIC), len(data) - len(MAGIC)):
        if record.opcode == Opcode.CHUNK:
            content = record.offset + 9
            crc = zlib.crc32(data[content + 40 : record.end])
            changed[content + 24 : content + 28] = struct.pack("<I", crc)
    return bytes(changed)
