"""The same serialised messages as bags of all kinds, written by others' libraries."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mcap.writer import CompressionType, IndexType, Writer
from rosbags import rosbag2
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

STORE: Typestore = get_typestore(Stores.ROS2_JAZZY)


class Recorded(NamedTuple):
    """One serialised message and when it was received."""

    topic: str
    msgtype: str
    log_time_ns: int
    cdr: bytes


@dataclass(frozen=True)
class Way:
    """A way to write a bag.

    Attributes:
        storage: Kind of its files.
        chunk_size: Bytes of an MCAP chunk; 0 for none.
        compression: Of chunks, or ``file`` or ``message`` for sqlite.
        files: How many files the messages are divided among.
        is_indexed: Whether an MCAP has indexes and statistics.
        is_shuffled: Whether messages of different topics lie in a file in another order than that
            of their times.
    """

    storage: Literal["mcap", "db3"] = "mcap"
    chunk_size: int = 1 << 20
    compression: Literal["none", "lz4", "zstd", "file", "message"] = "none"
    files: int = 1
    is_indexed: bool = True
    is_shuffled: bool = False


def write_bag(folder: Path, messages: Sequence[Recorded], way: Way = Way()) -> Path:
    """Write messages, sorted by time, into ``folder``; several files without metadata.yaml."""
    topics = {message.topic: message.msgtype for message in messages}
    bounds = [len(messages) * index // way.files for index in range(way.files + 1)]
    write = _mcap if way.storage == "mcap" else _db3
    for index in range(way.files):
        part = list(messages[bounds[index] : bounds[index + 1]])
        write(folder / f"bag_{index}", topics, _shuffled(part) if way.is_shuffled else part, way)
    if way.files == 1 and way.storage == "db3":
        return folder / "bag_0"
    for file in sorted(folder.glob(f"*/*.{way.storage}*")):
        shutil.move(file, folder / f"{file.parent.name}{''.join(file.suffixes)}")
        shutil.rmtree(file.parent)
    return folder


def _shuffled(messages: list[Recorded]) -> list[Recorded]:
    """Neighbours change places, but those of one topic keep theirs."""
    swapped = list(messages)
    for index in range(0, len(swapped) - 1, 2):
        if swapped[index].topic != swapped[index + 1].topic:
            swapped[index : index + 2] = swapped[index + 1], swapped[index]
    return swapped


def _mcap(folder: Path, topics: dict[str, str], messages: Sequence[Recorded], way: Way) -> None:
    folder.mkdir(parents=True)
    with (folder / "bag.mcap").open("wb") as file:
        writer = Writer(
            file,
            chunk_size=max(way.chunk_size, 1),
            compression=CompressionType[way.compression.upper()],
            index_types=IndexType.ALL if way.is_indexed else IndexType.NONE,
            use_chunking=way.chunk_size > 0,
            use_statistics=way.is_indexed,
            use_summary_offsets=way.is_indexed,
        )
        writer.start(profile="ros2", library="test")
        channels = {}
        for topic, msgtype in topics.items():
            definition = STORE.generate_msgdef(msgtype, ros_version=2)[0]
            schema = writer.register_schema(msgtype, "ros2msg", definition.encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for topic, _, time_ns, cdr in messages:
            writer.add_message(channels[topic], time_ns, cdr, time_ns)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap


def _db3(folder: Path, topics: dict[str, str], messages: Sequence[Recorded], way: Way) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    bag = rosbag2.Writer(folder, version=9)
    modes: dict[str, Any] = {
        "file": rosbag2.CompressionMode.FILE,
        "message": rosbag2.CompressionMode.MESSAGE,
    }
    if way.compression in modes:
        bag.set_compression(modes[way.compression], rosbag2.CompressionFormat.ZSTD)
    with bag:
        connections = {
            topic: bag.add_connection(topic, msgtype, typestore=STORE)
            for topic, msgtype in topics.items()
        }
        for topic, _, time_ns, cdr in messages:
            bag.write(connections[topic], time_ns, cdr)
