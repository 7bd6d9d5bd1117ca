"""The framing of MCAP: records of an opcode, a length and so many bytes.

Source: the MCAP format specification, https://mcap.dev/spec. The records' contents are read with
the ``mcap`` library, but for chunks and their indices, which are read without a copy or a loop.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
from mcap.data_stream import ReadDataStream
from numpy.typing import NDArray

from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DamageError

MAGIC = b"\x89MCAP0\r\n"
HEAD_BYTES = 9
_HEAD = struct.Struct("<BQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_COUNT = struct.Struct("<Q")
_INDEX_HEAD = struct.Struct("<HI")


class Record(NamedTuple):
    """Where a record lies.

    Attributes:
        opcode: Its kind.
        offset: Where it begins, in bytes.
        length: Its content's length, after the nine bytes of opcode and length.
    """

    opcode: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + HEAD_BYTES + self.length


class ChunkHead(NamedTuple):
    """A chunk record's fields before its data.

    Attributes:
        start_ns: Its earliest log time.
        end_ns: Its latest log time.
        size: Its length in bytes when decompressed.
        crc: Checksum of the decompressed bytes; 0 if there is none.
        compression: How it is compressed.
        data_length: Length of the compressed bytes.
        data_offset: Where they begin, from the record's content.
    """

    start_ns: int
    end_ns: int
    size: int
    crc: int
    compression: str
    data_length: int
    data_offset: int


class ExactStream(ReadDataStream):
    """A record's content for the library to read; short reads are damage, not short values."""

    def __init__(self, content: bytes | memoryview) -> None:
        super().__init__(BytesIO(content))

    def read(self, length: int) -> bytes:
        """Return exactly ``length`` bytes."""
        content = super().read(length) if length else b""
        if len(content) != length:
            raise DamageError("a record ends before its fields do")
        return content


def read_head(file: BoundedFile, offset: int) -> Record:
    """Return the record at ``offset``.

    Raises:
        DamageError: If it reaches beyond the end of the file.
    """
    record = Record(*_unpack_head(file.read(offset, HEAD_BYTES), offset))
    if record.end > file.size:
        raise DamageError(
            f"is cut off: its record at byte {offset} has {record.length} bytes, of which "
            f"{file.size - offset - HEAD_BYTES} are there"
        )
    return record


def read_content(file: BoundedFile, record: Record) -> bytes:
    """Return a record's content."""
    return file.read(record.offset + HEAD_BYTES, record.length)


def records_in(data: bytes | memoryview, start: int, end: int) -> Iterator[Record]:
    """Yield the records that lie in ``data`` from ``start`` to ``end``.

    Raises:
        DamageError: If the last one reaches beyond ``end``.
    """
    while start < end:
        if end - start < HEAD_BYTES:
            raise DamageError(f"a chunk ends within a record, at its byte {start}")
        record = Record(*_unpack_head(data[start : start + HEAD_BYTES], start))
        if record.end > end:
            raise DamageError(f"a chunk ends within a record, at its byte {start}")
        yield record
        start = record.end


def parse_chunk_head(content: bytes | memoryview) -> ChunkHead:
    """Read the fields of a chunk record before its data.

    Args:
        content: The record's content, or at least its first bytes.

    Raises:
        DamageError: If it is too short.
    """
    try:
        start_ns, end_ns, size, crc, name_length = _CHUNK_HEAD.unpack_from(content)
        name_end = _CHUNK_HEAD.size + name_length
        (data_length,) = _COUNT.unpack_from(content, name_end)
    except struct.error as cause:
        raise DamageError("a chunk record is too short for its fields") from cause
    compression = bytes(content[_CHUNK_HEAD.size : name_end]).decode("utf-8", "replace")
    return ChunkHead(start_ns, end_ns, size, crc, compression, data_length, name_end + _COUNT.size)


def parse_message_index(content: bytes | memoryview) -> tuple[int, NDArray[np.uint64]]:
    """Return a message index' channel and its pairs of log time and offset, shape (n, 2).

    Raises:
        DamageError: If its lengths contradict each other.
    """
    if len(content) < _INDEX_HEAD.size:
        raise DamageError("a message index is too short")
    channel, length = _INDEX_HEAD.unpack_from(content)
    if length != len(content) - _INDEX_HEAD.size or length % 16:
        raise DamageError(f"a message index of {len(content)} bytes says it has {length}")
    pairs = np.frombuffer(content, "<u8", offset=_INDEX_HEAD.size).reshape(-1, 2)
    return channel, pairs


def _unpack_head(data: bytes | memoryview, offset: int) -> tuple[int, int, int]:
    opcode, length = _HEAD.unpack(data)
    return opcode, offset, length
