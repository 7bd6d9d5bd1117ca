"""ROS 1 bags: rosbags reads the index, and each chunk is read by itself.

rosbags' own way through the messages keeps an entry of each message of the bag in memory, and
decompresses chunks that overlap in time again and again, without a limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rosbags.rosbag1.reader import Header, Reader, RecordType, read_uint32

from dql_core.errors import BagError
from dql_ros.bag.storage.io import BoundedFile, decompress
from dql_ros.bag.storage.storage import (
    DAMAGE,
    Channel,
    ChannelBlocks,
    ChunkedFile,
    DamageError,
    Definition,
    MessageRange,
    checked_time,
    reason_of,
)
from dql_ros.codecs.block import MessageBlock

MAGIC = b"#ROSBAG V2.0\n"


class Ros1File(ChunkedFile):
    """A ROS 1 bag; its messages are still in ROS 1's serialisation.

    Args:
        path: The file to read.
        name: The file as it lies in the bag, if that is a compressed one.

    Raises:
        BagError: If its index is missing or damaged, with what mends it.
    """

    distribution = "noetic"

    def __init__(self, path: Path, name: Path) -> None:
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
            raise BagError(
                f"{name}: cannot be read: {reason_of(cause)}; the bag is damaged: mend a copy of "
                f"it with 'rosbag reindex', which is in Debian's and Ubuntu's python3-rosbag"
            ) from cause
        super().__init__(name, channels, ranges)

    def read(
        self, messages: MessageRange, wanted: Mapping[int, Channel]
    ) -> Iterator[ChannelBlocks]:
        """Yield a chunk's messages; see `ChunkedFile.read`."""
        with BoundedFile(self._file) as file:
            raw = BytesIO(file.read(messages.offset, messages.length))
        header = Header.read(raw, RecordType.CHUNK)
        compressed = raw.getbuffer()[raw.tell() + 4 :]
        data = decompress(header.get_string("compression"), compressed, header.get_uint32("size"))
        found: dict[int, list[tuple[int, int, int]]] = {number: [] for number in wanted}
        for number, *place in _messages_in(data):
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


def _messages_in(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield each message's connection, log time, and where its payload lies."""
    stream = BytesIO(data)
    while stream.tell() < len(data):
        header = Header.read(stream)
        length = read_uint32(stream)
        start = stream.tell()
        if start + length > len(data):
            raise DamageError(f"a chunk ends within a record, at its byte {start}")
        if header.get_uint8("op") == RecordType.MSGDATA:
            log_time_ns = checked_time(header.get_time("time"))
            yield header.get_uint32("conn"), log_time_ns, start, length
        stream.seek(length, os.SEEK_CUR)


def _block(
    channel: Channel, messages: list[tuple[int, int, int]], content: np.ndarray
) -> MessageBlock:
    messages.sort(key=lambda message: message[0])
    log_times_ns, starts, lengths = np.array(messages, np.int64).T
    return MessageBlock(channel.topic, channel.msgtype, log_times_ns, content, starts, lengths)
