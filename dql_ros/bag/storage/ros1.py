"""ROS 1 bags: rosbags reads the index, and each chunk is read by itself.

A bag that its recorder did not close has no index; with ``salvage`` its chunks say what it has.

rosbags' own way through the messages keeps an entry of each message of the bag in memory, and
decompresses chunks that overlap in time again and again, without a limit.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag1.reader import Header, Reader, RecordType, normalize, read_uint32

from dql_ros.bag.storage.io import BoundedFile, decompress, decompress_partly
from dql_ros.bag.storage.storage import (
    DAMAGE,
    Channel,
    ChannelBlocks,
    ChunkedFile,
    DamageError,
    Definition,
    Loss,
    MessageRange,
    absolute_topic,
    after,
    checked_time,
    full_msgtype,
    reason_of,
)
from dql_ros.codecs.block import MessageBlock

MAGIC = b"#ROSBAG V2.0\n"


class Ros1File(ChunkedFile):
    """A ROS 1 bag; its messages are still in ROS 1's serialisation.

    Args:
        path: The file to read.
        name: The file as it lies in the bag, if that is a compressed one.
        salvage: Do without an index that is missing or damaged.

    Raises:
        DamageError: If its index is missing or damaged, and it is not salvaged or has no message.
    """

    distribution = "noetic"

    def __init__(self, path: Path, name: Path, *, salvage: bool) -> None:
        self._file = path
        self._salvage = salvage
        try:
            with _IndexReader(path) as index:
                channels = index.channels
                if len(index.chunks) != len(index.chunk_infos):
                    raise DamageError("has a chunk twice in its index")
                ranges = [
                    MessageRange(
                        offset=info.pos,
                        length=chunk.datapos + chunk.datasize - info.pos,
                        start_ns=info.start_time,
                        end_ns=info.end_time - 1,
                        counts=info.connection_counts,
                    )
                    for info in index.chunk_infos
                    for chunk in [index.chunks[info.pos]]
                ]
        except DAMAGE as cause:
            # Reindexing by ROS 1's own tool destroys bags that rosbags wrote.
            reason = reason_of(cause).removesuffix(", reindex before reading")
            channels, ranges, self.losses = _scan(path, name.name) if salvage else ({}, [], [])
            if not ranges:
                raise DamageError(reason) from cause
            self.damage = reason
            self.notes = [f"{name.name}: read without its index: {reason}"]
        super().__init__(name, channels, ranges)

    def read(
        self, messages: MessageRange, wanted: Mapping[int, Channel]
    ) -> Iterator[ChannelBlocks]:
        """Yield a chunk's messages; see `ChunkedFile.read`."""
        with BoundedFile(self._file) as file:
            data, damage = _chunk(file, messages.offset, messages.length, partly=self._salvage)
        found: dict[int, list[tuple[int, int, int]]] = {number: [] for number in wanted}
        last_ns = messages.start_ns - 1
        try:
            for number, *place in _messages(data):
                if number in found:
                    found[number].append((place[0], place[1], place[2]))
                elif number not in self.channels:
                    raise DamageError(
                        f"a message is on connection {number}, which it does not define"
                    )
                last_ns = place[0]
        except DAMAGE as cause:
            if not self._salvage:
                raise
            damage = damage or cause
        content = np.frombuffer(data, np.uint8)
        blocks = tuple(
            (channel, _block(channel, found[number], content))
            for number, channel in wanted.items()
            if found[number]
        )
        if blocks or damage is None:
            yield ChannelBlocks(blocks)
        if damage is not None:
            raise DamageError(reason_of(damage), (last_ns + 1, messages.end_ns))


class _IndexReader(Reader):
    """Reads which connections and chunks a bag has, but not where each message is."""

    def __init__(self, path: Path) -> None:
        super().__init__(_BoundedPath(path))  # type: ignore[arg-type]  # all that is used of one
        self.channels: dict[int, Channel] = {}

    def read_connection(self) -> Connection:
        assert self.bio is not None
        header = Header.read(self.bio, RecordType.CONNECTION)
        number = header.get_uint32("conn")
        channel = _channel(header, Header.read(self.bio))
        self.channels[number] = channel
        # What rosbags makes of it is not asked for: it would refuse what nobody needs.
        return Connection(
            number,
            channel.topic,
            channel.msgtype,
            MessageDefinition(MessageDefinitionFormat.MSG, ""),
            "",
            0,
            ConnectionExtRosbag1(None, None),
            self,
        )

    def read_index_data(self, pos: int, indexes: object) -> None:
        pass


class _BoundedPath(NamedTuple):
    """Opens a file for rosbags, which asks for as many bytes as a length in it says."""

    path: Path

    def exists(self) -> bool:
        return self.path.exists()

    def open(self, _: str) -> _BoundedStream:
        return _BoundedStream(FileIO(self.path))


class _BoundedStream(BufferedReader):
    """A stream that makes no room for more bytes than it has left."""

    def read(self, size: int | None = None, /) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(left if size is None else min(size, left))


def _scan(path: Path, name: str) -> tuple[dict[int, Channel], list[MessageRange], list[Loss]]:
    """Read all chunks for what an index says of them, up to where the file breaks off."""
    channels: dict[int, Channel] = {}
    ranges: list[MessageRange] = []
    losses: list[Loss] = []
    end = len(MAGIC)
    with BoundedFile(path) as file, _BoundedStream(FileIO(path)) as stream:
        while (begin := end) < file.size:
            is_cut = False
            try:
                stream.seek(begin)
                header = Header.read(stream)
                size = read_uint32(stream)
                is_chunk = header.get_uint8("op") == RecordType.CHUNK
                # The size of a chunk is written when it is finished.
                is_cut = is_chunk and not 0 < size <= file.size - stream.tell()
                end = file.size if is_cut else stream.tell() + size
                if is_chunk:
                    ranges.append(_range_of(file, begin, end - begin, channels))
            except DAMAGE as cause:
                end = end if begin < end <= file.size else file.size
                reason = "its last chunk is cut off" if is_cut else reason_of(cause)
                losses.append(Loss(name, reason, None, end - begin, after(ranges)))
    return channels, ranges, losses


def _range_of(
    file: BoundedFile, offset: int, length: int, channels: dict[int, Channel]
) -> MessageRange:
    """A chunk as an index would describe it; of one that is damaged, what stands before that.

    Raises:
        DamageError: If it has no message that can be read; also the libraries' own.
    """
    data, damage = _chunk(file, offset, length, partly=True)
    times: list[int] = []
    counts: Counter[int] = Counter()
    try:
        for header, start, size in _records(data):
            _take_connection(header, data, start, size, channels)
            for number, time_ns, *_ in _message(header, start, size):
                times.append(time_ns)
                counts[number] += 1
    except DAMAGE as cause:
        damage = damage or cause
    if damage is not None and not times:
        raise damage
    span = (min(times), max(times)) if times else (0, 0)
    return MessageRange(offset, length, *span, counts if damage is None else None)


def _chunk(
    file: BoundedFile, offset: int, length: int, *, partly: bool
) -> tuple[bytes | memoryview, Exception | None]:
    """Return a chunk's records, and why they are not all, which is raised if not ``partly``."""
    data = file.read(offset, length)
    raw = BytesIO(data)
    header = Header.read(raw, RecordType.CHUNK)
    # Not of `BytesIO.getbuffer`: an error that is kept holds this frame, and Python 3.12 crashes
    # when it collects such a view in a cycle.
    compression, compressed = header.get_string("compression"), memoryview(data)[raw.tell() + 4 :]
    size = header.get_uint32("size")
    try:
        return decompress(compression, compressed, size), None
    except DAMAGE as cause:
        if not partly:
            raise
        return decompress_partly(compression, compressed, size), cause


def _records(data: bytes | memoryview) -> Iterator[tuple[Header, int, int]]:
    """Yield the header of each record of a chunk, and where its content lies."""
    stream = BytesIO(data)
    while stream.tell() < len(data):
        header = Header.read(stream)
        length = read_uint32(stream)
        start = stream.tell()
        if start + length > len(data):
            raise DamageError(f"a chunk ends within a record, at its byte {start}")
        if header.get_uint8("op") not in {RecordType.CONNECTION, RecordType.MSGDATA}:
            raise DamageError(f"a chunk has a record that it cannot have, at its byte {start}")
        yield header, start, length
        stream.seek(start + length)


def _take_connection(
    header: Header,
    data: bytes | memoryview,
    start: int,
    length: int,
    channels: dict[int, Channel],
) -> None:
    """Take note of the connection that a record of a chunk defines, if it does."""
    if header.get_uint8("op") == RecordType.CONNECTION:
        content = Header.read(BytesIO(data[start - 4 : start + length]))
        channels.setdefault(header.get_uint32("conn"), _channel(header, content))


def _channel(header: Header, content: Header) -> Channel:
    """A connection by its record's header and content; remarks may be in any encoding."""
    text = content.get("message_definition", b"").decode("utf-8", "replace")
    topic = absolute_topic(normalize(header.get_string("topic")))
    msgtype = full_msgtype(content.get_string("type"))
    return Channel(topic, msgtype, "ros1", Definition("ros1msg", text))


def _messages(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield each message's connection, log time, and where its payload lies."""
    for header, start, length in _records(data):
        yield from _message(header, start, length)


def _message(header: Header, start: int, length: int) -> Iterator[tuple[int, int, int, int]]:
    if header.get_uint8("op") == RecordType.MSGDATA:
        log_time_ns = checked_time(header.get_time("time"))
        yield header.get_uint32("conn"), log_time_ns, start, length


def _block(
    channel: Channel, messages: list[tuple[int, int, int]], content: np.ndarray
) -> MessageBlock:
    messages.sort(key=lambda message: message[0])
    log_times_ns, starts, lengths = np.array(messages, np.int64).T
    return MessageBlock(channel.topic, channel.msgtype, log_times_ns, content, starts, lengths)
