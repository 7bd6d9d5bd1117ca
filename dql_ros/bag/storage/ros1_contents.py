"""What a ROS 1 bag has and where, from its index or from front to back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import NamedTuple

import numpy as np

from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DAMAGE, DamageError, sentence
from dql_ros.bag.storage.decompress import MAX_CHUNK_BYTES, decompress, decompress_partly
from dql_ros.bag.storage.part import Channel
from dql_ros.bag.storage.ros1_records import (
    MAGIC,
    Header,
    Record,
    RecordType,
    connection_of,
    read_record,
    records_in,
    time_of,
)


@dataclass(frozen=True)
class Chunk:
    """A chunk.

    Attributes:
        offset: Where its record begins.
        length: Its bytes in the file.
        start_ns: No message of it has a log time before this one.
        end_ns: None has one after this one.
        counts: Messages by connection number; ``None`` if nobody knows.
        is_cut: Whether its end is missing.
    """

    offset: int
    length: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int] | None
    is_cut: bool = False


@dataclass
class Contents:
    """What a bag has.

    Attributes:
        channels: Channels by connection number.
        chunks: Its chunks.
        damage: What ended the reading early, and where.
        notes: What the user should know.
    """

    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    damage: tuple[str, int] | None = None
    notes: list[str] = field(default_factory=list)


class Message(NamedTuple):
    """A message in a decompressed chunk: its connection, log time, and where its payload lies."""

    connection: int
    log_time_ns: int
    start: int
    length: int


def read_contents(file: BoundedFile, *, salvage: bool) -> Contents:
    """Read a bag's index; without one, walk through the bag.

    Raises:
        DamageError: If the bag is damaged or not indexed, and not salvaged.
    """
    try:
        if file.read(0, min(len(MAGIC), file.size)) != MAGIC:
            raise DamageError("does not begin as a ROS 1 bag of version 2.0 does")
        head = read_record(file, len(MAGIC))
        if head.kind != RecordType.BAGHEADER:
            raise DamageError("does not begin with a bag header")
        if head.header.get("encryptor"):
            raise DamageError("is encrypted")
        index = head.header.get_uint64("index_pos")
        if index == 0:
            raise DamageError(
                "has no index: the recorder was stopped before it had finished the file"
            )
        return _from_index(file, index, head.header.get_uint32("chunk_count"))
    except DAMAGE as cause:
        if not salvage:
            raise
        contents = Contents(notes=[f"{sentence(cause)}; it was read from front to back instead"])
    return _from_front(file, contents)


def _from_index(file: BoundedFile, offset: int, chunk_count: int) -> Contents:
    contents = Contents()
    while offset < file.size:
        record = read_record(file, offset)
        data = file.read(record.data_offset, record.end - record.data_offset)
        if record.kind == RecordType.CONNECTION:
            number, channel = connection_of(record, data)
            contents.channels[number] = channel
        elif record.kind == RecordType.CHUNK_INFO:
            contents.chunks.append(_from_info(file, record, data))
        offset = record.end
    if len(contents.chunks) != chunk_count:
        raise DamageError(
            f"has {chunk_count} chunks by its header, {len(contents.chunks)} in its index"
        )
    return contents


def _from_info(file: BoundedFile, record: Record, data: bytes) -> Chunk:
    pairs = np.frombuffer(data, "<u4").reshape(-1, 2).tolist()
    offset = record.header.get_uint64("chunk_pos")
    chunk = read_record(file, offset)
    if chunk.kind != RecordType.CHUNK:
        raise DamageError(f"has no chunk at byte {offset}, where its index says")
    return Chunk(
        offset=offset,
        length=chunk.end - offset,
        start_ns=time_of(record.header["start_time"]) if pairs else 0,
        end_ns=time_of(record.header["end_time"]) if pairs else 0,
        counts=dict(pairs),
    )


def _from_front(file: BoundedFile, contents: Contents) -> Contents:
    offset = len(MAGIC)
    try:
        while offset < file.size:
            try:
                record = read_record(file, offset)
            except DAMAGE:
                if file.size - offset <= MAX_CHUNK_BYTES:
                    _look_into(file, offset, file.size - offset, contents, is_cut=True)
                raise
            if record.kind == RecordType.CHUNK:
                _look_into(file, offset, record.end - offset, contents)
            elif record.kind == RecordType.CONNECTION:
                data = file.read(record.data_offset, record.end - record.data_offset)
                number, channel = connection_of(record, data)
                contents.channels.setdefault(number, channel)
            offset = record.end
    except DAMAGE as cause:
        contents.damage = (sentence(cause), offset)
    return contents


def _look_into(
    file: BoundedFile, offset: int, length: int, contents: Contents, *, is_cut: bool = False
) -> None:
    """Note a chunk that no index tells of: its connections, times and counts."""
    raw = file.read(offset, length)
    try:
        data = open_chunk(raw, is_cut=is_cut)
    except DAMAGE:
        contents.chunks.append(Chunk(offset, length, -1, -1, None, is_cut))
        return
    found = list(messages_in(data, contents.channels, is_cut=is_cut))
    if found:
        times = [message.log_time_ns for message in found]
        counts = None if is_cut else Counter(message.connection for message in found)
        contents.chunks.append(Chunk(offset, length, min(times), max(times), counts, is_cut))


def open_chunk(raw: bytes, *, is_cut: bool) -> bytes | memoryview:
    """Return a chunk's records, decompressed.

    Args:
        raw: The chunk record.
        is_cut: Whether its end is missing.

    Raises:
        DamageError: If it is none, or cannot be decompressed.
    """
    header_length = int.from_bytes(raw[:4], "little")
    if header_length + 8 > len(raw):
        raise DamageError("a chunk has no whole header")
    header = Header.read(BytesIO(raw[: header_length + 4]), RecordType.CHUNK)
    compression = header.get_string("compression")
    data = memoryview(raw)[header_length + 8 :]
    if is_cut:
        return decompress_partly(compression, data)
    return decompress(compression, data, header.get_uint32("size"))


def messages_in(
    data: bytes | memoryview, channels: dict[int, Channel], *, is_cut: bool = False
) -> Iterator[Message]:
    """Yield a decompressed chunk's messages; connections that it defines join ``channels``.

    Raises:
        DamageError: If the chunk ends within a record, and its end is not known to be missing.
    """
    try:
        for record in records_in(data):
            if record.kind == RecordType.CONNECTION:
                number, channel = connection_of(record, data[record.data_offset : record.end])
                channels.setdefault(number, channel)
            elif record.kind == RecordType.MSGDATA:
                yield Message(
                    record.header.get_uint32("conn"),
                    time_of(record.header["time"]),
                    record.data_offset,
                    record.end - record.data_offset,
                )
    except DamageError:
        if not is_cut:
            raise
