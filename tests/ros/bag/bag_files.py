"""Small bags of every kind of file, and what reading them gives."""

import sqlite3
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mcap.opcode import Opcode
from mcap.writer import CompressionType, Writer
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, Loss
from dql_ros.bag.storage.mcap_records import MAGIC, Record, records_in
from tests.ros.bag.messages import messages_of

FLOAT = "std_msgs/msg/Float64"
DEFINITION = "float64 data"
SECOND = 10**9


class Sent(NamedTuple):
    """One message."""

    topic: str
    time_ns: int
    value: float


def cdr(value: float) -> bytes:
    return b"\0\1\0\0" + struct.pack("<d", value)


def ramp(count: int, topics: Sequence[str] = ("/a", "/b"), period_ns: int = 1000) -> list[Sent]:
    """Messages at even times, whose value tells their place."""
    return [
        Sent(topics[index % len(topics)], SECOND + index * period_ns, float(index))
        for index in range(count)
    ]


def in_order(messages: Iterable[Sent]) -> list[Sent]:
    return sorted(messages, key=lambda message: message.time_ns)


def write_mcap(
    path: Path,
    messages: Iterable[Sent],
    *,
    compression: CompressionType = CompressionType.ZSTD,
    chunk_size: int = 1 << 20,
    encoding: str = "cdr",
    payload: Any = cdr,
    **options: Any,
) -> Path:
    """Write an MCAP file; the options are those of the library's writer."""
    with path.open("wb") as stream:
        writer = Writer(stream, compression=compression, chunk_size=chunk_size, **options)
        writer.start(profile="ros2", library="test")
        channels: dict[str, int] = {}
        schema = writer.register_schema(FLOAT, "ros2msg", DEFINITION.encode())
        for message in messages:
            if message.topic not in channels:
                channels[message.topic] = writer.register_channel(message.topic, encoding, schema)
            writer.add_message(
                channels[message.topic], message.time_ns, payload(message.value), message.time_ns
            )
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    return path


def write_sqlite(path: Path, messages: Iterable[Sent], *, payload: Any = cdr) -> Path:
    """Write a sqlite file as Humble's recorder does; without an own count or definitions."""
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,
            serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);
        CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,
            timestamp INTEGER NOT NULL, data BLOB NOT NULL);
        CREATE INDEX timestamp_idx ON messages (timestamp ASC);
        """
    )
    topics: dict[str, int] = {}
    for message in messages:
        if message.topic not in topics:
            topics[message.topic] = len(topics) + 1
            connection.execute(
                "INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')",
                (topics[message.topic], message.topic, FLOAT),
            )
        connection.execute(
            "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)",
            (topics[message.topic], message.time_ns, payload(message.value)),
        )
    connection.commit()
    connection.close()
    return path


def write_ros1(
    path: Path,
    messages: Iterable[Sent],
    compression: Ros1Writer.CompressionFormat | None = None,
    chunk_size: int = 1 << 20,
) -> Path:
    """Write a ROS 1 bag."""
    typestore = get_typestore(Stores.ROS1_NOETIC)
    writer = Ros1Writer(path)
    writer.chunk_threshold = chunk_size
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connections: dict[str, Any] = {}
        for message in messages:
            if message.topic not in connections:
                connections[message.topic] = writer.add_connection(
                    message.topic, FLOAT, typestore=typestore
                )
            writer.write(
                connections[message.topic], message.time_ns, struct.pack("<d", message.value)
            )
    return path


def write_metadata(
    folder: Path, messages: Sequence[Sent], files: Sequence[str], /, **more: Any
) -> None:
    """Write a metadata.yaml."""
    topics = sorted({message.topic for message in messages})
    counts = {topic: sum(message.topic == topic for message in messages) for topic in topics}
    information = {
        "version": 5,
        "storage_identifier": "mcap",
        "relative_file_paths": list(files),
        "duration": {"nanoseconds": 0},
        "starting_time": {"nanoseconds_since_epoch": 0},
        "message_count": len(messages),
        "topics_with_message_count": [
            {
                "topic_metadata": {
                    "name": topic,
                    "type": FLOAT,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": "",
                },
                "message_count": count,
            }
            for topic, count in counts.items()
        ],
        "compression_format": "",
        "compression_mode": "",
        **more,
    }
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump({"rosbag2_bagfile_information": information})
    )


def read(path: Path, *, salvage: bool = False, topics: Iterable[str] | None = None) -> list[Sent]:
    """Read a bag's messages one by one."""
    with Bag(path, salvage=salvage) as bag:
        wanted = frozenset(bag.topics if topics is None else topics)
        return [
            Sent(message.topic, message.log_time_ns, message.message.data)
            for message in messages_of(bag, wanted)
        ]


def read_blocks(path: Path, *, salvage: bool = False) -> list[Sent]:
    """Read a bag's messages in blocks, and check what each batch promises."""
    found: list[Sent] = []
    with Bag(path, salvage=salvage) as bag:
        promised, done = -(2**63), 0
        for batch in bag.batches(frozenset(bag.topics)):
            for block in batch.blocks:
                times = block.log_times_ns.tolist()
                assert times == sorted(times)
                assert not times or times[0] >= promised
                found += [
                    Sent(block.topic, time, struct.unpack("<d", block.payload(index)[4:])[0])
                    for index, time in enumerate(times)
                ]
            assert batch.complete_until_ns >= promised
            assert done <= batch.bytes_done <= bag.size_bytes
            promised, done = batch.complete_until_ns, batch.bytes_done
        assert done == bag.size_bytes
    return found


def records(path: Path, opcode: Opcode) -> list[Record]:
    """The records of a kind of an MCAP file."""
    data = path.read_bytes()
    everything = records_in(data, len(MAGIC), len(data) - len(MAGIC))
    return [record for record in everything if record.opcode == opcode]


def salvaged(path: Path) -> tuple[list[Sent], tuple[Loss, ...], tuple[str, ...]]:
    """What is read, in the order of the messages, and the losses and notes."""
    with Bag(path, salvage=True) as bag:
        for _ in bag.batches(frozenset(bag.topics)):
            pass
        losses, notes = bag.losses, bag.notes
    found = read(path, salvage=True)
    assert sorted(read_blocks(path, salvage=True)) == sorted(found)
    return found, losses, notes


def refused(path: Path, why: str) -> None:
    """Check that a bag is refused in one line that names it."""
    with pytest.raises(BagError, match=why) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
