"""ROS 1 bags as segments: one a chunk.

What a ROS 1 bag has and where, from its index or from front to back.

The framing of ROS 1 bags: records of a header with named fields, and data.

Source: the bag format version 2.0, http://wiki.ros.org/Bags/Format/2.0. The headers' fields are
read with ``rosbags``.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag1.reader import Header, RecordType, normalize
from rosbags.typesys.msg import normalize_msgtype

from dql_ros.bag.storage.io import MAX_CHUNK_BYTES, BoundedFile, decompress, decompress_partly
from dql_ros.bag.storage.storage import (
    DAMAGE,
    Channel,
    ChannelBlocks,
    DamageError,
    Definition,
    Loss,
    Segment,
    checked_time,
    is_span,
    sentence,
)
from dql_ros.codecs.block import MessageBlock

MAGIC = b"#ROSBAG V2.0\n"
_LENGTH = struct.Struct("<I")
_TIME = struct.Struct("<II")
__all__ = [
    "MAGIC",
    "Header",
    "Record",
    "RecordType",
    "connection_of",
    "read_record",
    "records_in",
    "time_of",
]


class Ros1File:
    """A ROS 1 bag; its messages are still in ROS 1's serialisation.

    Args:
        path: The file.
        salvage: Read what can be read of a damaged file, or of one without an index.

    Raises:
        DamageError: If the file is damaged and not salvaged.
    """

    metadata_text: str | None = None
    distribution = "noetic"

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self.path = path
        with BoundedFile(path) as file:
            self._contents = read_contents(file, salvage=salvage)

    @property
    def channels(self) -> Collection[Channel]:
        """All connections."""
        return self._contents.channels.values()

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last log time."""
        spans = [
            (chunk.start_ns, chunk.end_ns)
            for chunk in self._contents.chunks
            if chunk.counts != {} and is_span(chunk.start_ns, chunk.end_ns)
        ]
        if not spans:
            return None
        return min(start for start, _ in spans), max(end for _, end in spans)

    @property
    def losses(self) -> Collection[Loss]:
        """The end of a file that breaks off where no chunk does."""
        if self._contents.damage is None or any(chunk.is_cut for chunk in self._contents.chunks):
            return ()
        reason, offset = self._contents.damage
        return (Loss(self.path.name, reason, None, self.path.stat().st_size - offset),)

    @property
    def notes(self) -> Collection[str]:
        """What the user should know about the file."""
        return [f"{self.path.name}: {note}" for note in self._contents.notes]

    def counts(self) -> Mapping[str, int]:
        """Messages of each topic, by the chunks' indices."""
        counts = {channel.topic: 0 for channel in self.channels}
        for chunk in self._contents.chunks:
            for number, count in (chunk.counts or {}).items():
                if number in self._contents.channels:
                    counts[self._contents.channels[number].topic] += count
        return counts

    def segments(self, topics: Collection[str]) -> list[Segment]:
        """One segment a chunk that has messages of the topics."""
        wanted = {
            number: channel
            for number, channel in self._contents.channels.items()
            if channel.topic in topics
        }
        segments = []
        for chunk in self._contents.chunks:
            counts: dict[str, int] | None = None
            if chunk.counts is not None:
                counts = {}
                for number in wanted.keys() & chunk.counts.keys():
                    topic = wanted[number].topic
                    counts[topic] = counts.get(topic, 0) + chunk.counts[number]
            if counts is None or counts:
                read = partial(self._read, chunk, wanted)
                # What begins at no time that can be is read first, so that no promise is broken.
                is_known = is_span(chunk.start_ns, chunk.end_ns)
                start_ns = chunk.start_ns if is_known else 0
                segments.append(Segment(start_ns, chunk.length, counts, read))
        return sorted(segments, key=lambda segment: segment.start_ns)

    def close(self) -> None:
        """Nothing is held open."""

    def _read(self, chunk: Chunk, wanted: Mapping[int, Channel]) -> Iterator[ChannelBlocks]:
        with BoundedFile(self.path) as file:
            raw = file.read(chunk.offset, chunk.length)
        data = open_chunk(raw, is_cut=chunk.is_cut)
        found: dict[int, list[Message]] = {number: [] for number in wanted}
        for message in messages_in(data, self._contents.channels, is_cut=chunk.is_cut):
            if message.connection in found:
                found[message.connection].append(message)
            elif message.connection not in self._contents.channels:
                raise DamageError(
                    f"a message is on connection {message.connection}, which it does not define"
                )
        content = np.frombuffer(data, np.uint8)
        yield ChannelBlocks(
            tuple(
                (wanted[number], _block(wanted[number], messages, content))
                for number, messages in found.items()
                if messages
            )
        )
        if chunk.is_cut:
            assert self._contents.damage is not None
            raise DamageError(self._contents.damage[0])


def _block(channel: Channel, messages: list[Message], content: NDArray[np.uint8]) -> MessageBlock:
    messages = sorted(messages, key=lambda message: message.log_time_ns)
    columns = np.array([message[1:] for message in messages], np.int64).T
    return MessageBlock(channel.topic, channel.msgtype, columns[0], content, *columns[1:])


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


class Record(NamedTuple):
    """Where a record lies.

    Attributes:
        header: Its named fields.
        offset: Where it begins.
        data_offset: Where its data begin.
        end: Where the next one begins.
    """

    header: Header
    offset: int
    data_offset: int
    end: int

    @property
    def kind(self) -> int:
        """What the record is, one of `RecordType` or unknown."""
        return self.header.get_uint8("op")


def read_record(file: BoundedFile, offset: int) -> Record:
    """Return the record at ``offset``; its data are not read.

    Raises:
        DamageError: If it reaches beyond the end of the file.
    """
    (length,) = _LENGTH.unpack(file.read(offset, _LENGTH.size))
    raw = file.read(offset, 2 * _LENGTH.size + length)
    (data_length,) = _LENGTH.unpack(raw[-_LENGTH.size :])
    start = offset + len(raw)
    if start + data_length > file.size:
        raise DamageError(
            f"is cut off: its record at byte {offset} has {data_length} bytes of data, of which "
            f"{file.size - start} are there"
        )
    return Record(Header.read(BytesIO(raw)), offset, start, start + data_length)


def records_in(data: bytes | memoryview) -> Iterator[Record]:
    """Yield the records of a decompressed chunk.

    Raises:
        DamageError: If the last one reaches beyond its end.
    """
    offset = 0
    while offset < len(data):
        try:
            (length,) = _LENGTH.unpack_from(data, offset)
            (data_length,) = _LENGTH.unpack_from(data, offset + _LENGTH.size + length)
        except struct.error as cause:
            raise DamageError(f"a chunk ends within a record, at its byte {offset}") from cause
        start = offset + 2 * _LENGTH.size + length
        if start + data_length > len(data):
            raise DamageError(f"a chunk ends within a record, at its byte {offset}")
        header = Header.read(BytesIO(data[offset : offset + _LENGTH.size + length]))
        yield Record(header, offset, start, start + data_length)
        offset = start + data_length


def connection_of(record: Record, data: bytes | memoryview) -> tuple[int, Channel]:
    """Return a connection record's number and channel.

    Args:
        record: The record.
        data: Its data, which are a header again.
    """
    fields = Header.read(BytesIO(_LENGTH.pack(len(data)) + bytes(data)))
    definition = Definition("ros1msg", fields.get_string("message_definition"))
    channel = Channel(
        normalize(record.header.get_string("topic")),
        str(normalize_msgtype(fields.get_string("type"))),
        "ros1",
        definition,
    )
    return record.header.get_uint32("conn"), channel


def time_of(value: bytes) -> int:
    """Return a time in nanoseconds from seconds and nanoseconds."""
    seconds, nanoseconds = _TIME.unpack(value)
    return checked_time(int(seconds) * 10**9 + int(nanoseconds))
