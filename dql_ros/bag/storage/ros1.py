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
from rosbags.rosbag1.reader import Header, Reader, RecordType, normalize, read_uint32

from dql_ros.bag.storage.io import BoundedFile, decompress
from dql_ros.bag.storage.storage import (
    DAMAGE,
    Channel,
    ChannelBlocks,
    ChunkedFile,
    DamageError,
    Definition,
    Loss,
    MessageRange,
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
        try:
            with _IndexReader(path) as index:
                channels = {
                    each.id: Channel(
                        each.topic, each.msgtype, "ros1", Definition("ros1msg", each.msgdef.data)
                    )
                    for each in index.connections
                }
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
            self.notes = [f"{name.name}: read without its index: {reason}"]
        super().__init__(name, channels, ranges)

    def read(
        self, messages: MessageRange, wanted: Mapping[int, Channel]
    ) -> Iterator[ChannelBlocks]:
        """Yield a chunk's messages; see `ChunkedFile.read`."""
        with BoundedFile(self._file) as file:
            data = _chunk(file, messages.offset, messages.length)
        found: dict[int, list[tuple[int, int, int]]] = {number: [] for number in wanted}
        for number, *place in _messages(data):
            if number in found:
                found[number].append((place[0], place[1], place[2]))
            elif number not in self.channels:
                raise DamageError(f"a message is on connection {number}, which it does not define")
        content = np.frombuffer(data, np.uint8)
        yield ChannelBlocks(
            tuple(
                (channel, _block(channel, found[number], content))
                for number, channel in wanted.items()
                if found[number]
            )
        )


class _IndexReader(Reader):
    """Reads which connections and chunks a bag has, but not where each message is."""

    def __init__(self, path: Path) -> None:
        super().__init__(_BoundedPath(path))  # type: ignore[arg-type]  # all that is used of one

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
            try:
                stream.seek(begin)
                header = Header.read(stream)
                size = read_uint32(stream)
                is_chunk = header.get_uint8("op") == RecordType.CHUNK
                if is_chunk and not size:
                    raise DamageError("its last chunk was not finished")
                end = stream.tell() + size
                data = _chunk(file, begin, end - begin) if is_chunk else b""
                for number, channel in _connections(data):
                    channels.setdefault(number, channel)
                found = [(time_ns, number) for number, time_ns, *_ in _messages(data)]
                if found:
                    counts = Counter(number for _, number in found)
                    span = min(found)[0], max(found)[0]
                    ranges.append(MessageRange(begin, end - begin, *span, counts))
            except DAMAGE as cause:
                end = end if begin < end <= file.size else file.size
                losses.append(Loss(name, reason_of(cause), None, end - begin, after(ranges)))
    return channels, ranges, losses


def _chunk(file: BoundedFile, offset: int, length: int) -> bytes | memoryview:
    """Return a chunk's records."""
    raw = BytesIO(file.read(offset, length))
    header = Header.read(raw, RecordType.CHUNK)
    compressed = raw.getbuffer()[raw.tell() + 4 :]
    return decompress(header.get_string("compression"), compressed, header.get_uint32("size"))


def _records(data: bytes | memoryview) -> Iterator[tuple[Header, int, int]]:
    """Yield the header of each record of a chunk, and where its content lies."""
    stream = BytesIO(data)
    while stream.tell() < len(data):
        header = Header.read(stream)
        length = read_uint32(stream)
        start = stream.tell()
        if start + length > len(data):
            raise DamageError(f"a chunk ends within a record, at its byte {start}")
        yield header, start, length
        stream.seek(start + length)


def _connections(data: bytes | memoryview) -> Iterator[tuple[int, Channel]]:
    """Yield the connections that a chunk defines, by their number."""
    for header, start, length in _records(data):
        if header.get_uint8("op") == RecordType.CONNECTION:
            content = Header.read(BytesIO(data[start - 4 : start + length]))
            definition = Definition("ros1msg", content.get_string("message_definition"))
            topic, msgtype = normalize(header.get_string("topic")), content.get_string("type")
            number = header.get_uint32("conn")
            yield number, Channel(topic, full_msgtype(msgtype), "ros1", definition)


def _messages(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield each message's connection, log time, and where its payload lies."""
    for header, start, length in _records(data):
        if header.get_uint8("op") == RecordType.MSGDATA:
            log_time_ns = checked_time(header.get_time("time"))
            yield header.get_uint32("conn"), log_time_ns, start, length


def _block(
    channel: Channel, messages: list[tuple[int, int, int]], content: np.ndarray
) -> MessageBlock:
    messages.sort(key=lambda message: message[0])
    log_times_ns, starts, lengths = np.array(messages, np.int64).T
    return MessageBlock(channel.topic, channel.msgtype, log_times_ns, content, starts, lengths)
