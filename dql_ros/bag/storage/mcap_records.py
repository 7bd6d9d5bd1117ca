"""The records of MCAP, and the messages of a chunk, found without a step of Python for each.

A record is an opcode, a length and so many bytes (source: https://mcap.dev/spec). The ``mcap``
library reads their contents, but for chunks and their indices, which need no copy and no loop.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from numpy.typing import NDArray

from dql_ros.bag.storage.io import BoundedFile, decompress, decompress_partly
from dql_ros.bag.storage.storage import MAX_TIME_NS, Channel, DamageError
from dql_ros.codecs.block import MessageBlock

MAGIC = b"\x89MCAP0\r\n"
HEAD_BYTES = 9
_HEAD = struct.Struct("<BQ")
_CHUNK_HEAD = struct.Struct("<QQQII")
_COUNT = struct.Struct("<Q")
_INDEX_HEAD = struct.Struct("<HI")
# A message record up to its payload; the fields are not aligned.
MESSAGE = np.dtype(
    [
        ("opcode", "u1"),
        ("length", "<u8"),
        ("channel", "<u2"),
        ("sequence", "<u4"),
        ("log_time", "<u8"),
        ("publish_time", "<u8"),
    ]
)
_IN_CHUNKS = {Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE}
# So many bytes of a message record's content come before its payload.
_FIELD_BYTES = MESSAGE.itemsize - HEAD_BYTES


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
    record = _record(file.read(offset, HEAD_BYTES), offset)
    if record.end > file.size:
        raise DamageError(
            f"is cut off: its record at byte {offset} has {record.length} bytes, of which "
            f"{file.size - offset - HEAD_BYTES} are there"
        )
    return record


def records_in(data: bytes | memoryview, start: int, end: int) -> Iterator[Record]:
    """Yield the records that lie in ``data`` from ``start`` to ``end``.

    Raises:
        DamageError: If the last one reaches beyond ``end``.
    """
    while start < end:
        record = None
        if end - start >= HEAD_BYTES:
            record = _record(data[start : start + HEAD_BYTES], start)
        if record is None or record.end > end:
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


def _record(head: bytes | memoryview, offset: int) -> Record:
    opcode, length = _HEAD.unpack(head)
    return Record(opcode, offset, length)


def open_chunk(content: bytes | memoryview) -> bytes | memoryview:
    """Return a chunk's records, decompressed and compared with its checksum if it has one.

    Args:
        content: The chunk record's content.

    Raises:
        DamageError: If it cannot be decompressed, or differs from its checksum.
    """
    head = parse_chunk_head(content)
    if head.data_offset + head.data_length > len(content):
        raise DamageError(f"a chunk of {len(content)} bytes says it has {head.data_length}")
    compressed = memoryview(content)[head.data_offset : head.data_offset + head.data_length]
    data = decompress(head.compression, compressed, head.size)
    if head.crc and zlib.crc32(data) != head.crc:
        raise DamageError("a chunk differs from its checksum")
    return data


def open_cut_chunk(content: bytes | memoryview) -> bytes | memoryview:
    """Return the whole records of a chunk whose end is missing; there is no checksum for them.

    Raises:
        DamageError: If its compression is not known.
    """
    head = parse_chunk_head(content)
    data = decompress_partly(head.compression, memoryview(content)[head.data_offset :], head.size)
    return data[: _sound_bytes(data, head)]


def open_damaged_chunk(content: bytes | memoryview) -> bytes | memoryview:
    """Return the records of a chunk that stand before the first broken one.

    Where no record is broken, but the checksum is wrong, nobody knows which are sound: none.

    Raises:
        DamageError: If its compression is not known, or its own fields are broken.
    """
    head = parse_chunk_head(content)
    end = head.data_offset + head.data_length
    data = decompress_partly(
        head.compression, memoryview(content)[head.data_offset : end], head.size
    )
    sound = _sound_bytes(data, head)
    return data[: 0 if sound == head.size else sound]


def _sound_bytes(data: bytes | memoryview, head: ChunkHead) -> int:
    """How many bytes of a chunk are whole records of kinds and times that it may have."""
    end = 0
    try:
        for record in records_in(data, 0, len(data)):
            if record.opcode not in _IN_CHUNKS or not _is_possible(data, record, head):
                break
            end = record.end
    except DamageError:
        pass  # The record that the damage goes through.
    return end


def _is_possible(data: bytes | memoryview, record: Record, head: ChunkHead) -> bool:
    if record.opcode != Opcode.MESSAGE:
        return True
    if record.length < _FIELD_BYTES:
        return False
    (fields,) = _heads(data, np.array([record.offset]))
    return bool(head.start_ns <= fields["log_time"] <= head.end_ns)


@dataclass(frozen=True)
class Messages:
    """The message records of a chunk, in their order.

    Attributes:
        data: The decompressed chunk.
        offsets: Where they begin, shape (n,).
        heads: Their fields, a structured array of `MESSAGE`, shape (n,).
    """

    data: bytes | memoryview
    offsets: NDArray[np.int64]
    heads: NDArray[np.void]

    def counts(self) -> dict[int, int]:
        """Return how many messages each channel has."""
        numbers, counts = np.unique(self.heads["channel"], return_counts=True)
        return {int(number): int(count) for number, count in zip(numbers, counts, strict=True)}

    def span_ns(self) -> tuple[int, int]:
        """Return the first and the last log time; there must be a message."""
        times = self.heads["log_time"]
        return int(times.min()), int(times.max())


def find_messages(data: bytes | memoryview, hint: NDArray[np.int64] | None = None) -> Messages:
    """Find the message records of a chunk.

    The index of a chunk has no checksum. It is believed only if walking through the records
    would give the same: if what it points at are message records, and what lies between them are
    whole records of other kinds. Otherwise the records are walked through.

    Args:
        data: The decompressed chunk.
        hint: Where the chunk's index says they begin.

    Raises:
        DamageError: If the chunk ends within a record.
    """
    if hint is not None and (indexed := _indexed(data, np.sort(hint))) is not None:
        return indexed
    messages = [each for each in records_in(data, 0, len(data)) if each.opcode == Opcode.MESSAGE]
    if short := [each.length for each in messages if each.length < _FIELD_BYTES]:
        raise DamageError(f"a message record has {short[0]} bytes, less than its fields need")
    offsets = np.array([each.offset for each in messages], np.int64)
    return Messages(data, offsets, _heads(data, offsets))


def blocks_of(
    messages: Messages, channels: Mapping[int, Channel], known: NDArray[np.bool_]
) -> tuple[tuple[Channel, MessageBlock], ...]:
    """Return a chunk's messages by channel, each in the order of the log times.

    Args:
        messages: The chunk's messages.
        channels: The wanted channels by their number in the file.
        known: Which channel numbers the file defines, shape (65536,).

    Raises:
        DamageError: If a time stamp is none, or a message is on a channel that is not defined.
    """
    offsets, heads = messages.offsets, messages.heads
    numbers = heads["channel"]
    if not known[numbers].all():
        stranger = int(numbers[~known[numbers]][0])
        raise DamageError(f"a message is on channel {stranger}, which the file does not define")
    content = np.frombuffer(messages.data, np.uint8)
    blocks = []
    for number, channel in channels.items():
        mine = np.flatnonzero(numbers == number)
        if not len(mine):
            continue
        times = heads["log_time"][mine]
        if times.max() > MAX_TIME_NS:
            raise DamageError(f"a message of {channel.topic} has a time stamp of {times.max()} ns")
        log_times = times.astype(np.int64)
        if (log_times[1:] < log_times[:-1]).any():
            order = np.argsort(log_times, kind="stable")
            mine, log_times = mine[order], log_times[order]
        starts = offsets[mine] + MESSAGE.itemsize
        lengths = heads["length"][mine].astype(np.int64) - _FIELD_BYTES
        block = MessageBlock(channel.topic, channel.msgtype, log_times, content, starts, lengths)
        blocks.append((channel, block))
    return tuple(blocks)


def _heads(data: bytes | memoryview, offsets: NDArray[np.int64]) -> NDArray[np.void]:
    """The message records' fields; offsets are known to lie in the data."""
    if not len(offsets):
        return np.empty(0, MESSAGE)
    everywhere: NDArray[np.void] = np.ndarray(
        (len(data) - MESSAGE.itemsize + 1,), MESSAGE, buffer=data, strides=(1,)
    )
    return everywhere[offsets]


def _indexed(data: bytes | memoryview, offsets: NDArray[np.int64]) -> Messages | None:
    """The messages at ascending offsets, if walking through the records gives these."""
    if not len(offsets) or offsets[0] < 0 or offsets[-1] + MESSAGE.itemsize > len(data):
        return None
    heads = _heads(data, offsets)
    lengths = heads["length"]
    if (
        (heads["opcode"] != Opcode.MESSAGE).any()
        or (lengths < _FIELD_BYTES).any()
        or (lengths > len(data)).any()
    ):
        return None
    ends = np.concatenate([[0], offsets + HEAD_BYTES + lengths.astype(np.int64)])
    nexts = np.concatenate([offsets, [len(data)]])
    if (ends > nexts).any():
        return None
    gaps = np.flatnonzero(ends != nexts)
    if not all(_has_no_message(data, int(ends[gap]), int(nexts[gap])) for gap in gaps):
        return None
    return Messages(data, offsets, heads)


def _has_no_message(data: bytes | memoryview, start: int, end: int) -> bool:
    """Whether there are only whole records of other kinds."""
    try:
        return all(record.opcode != Opcode.MESSAGE for record in records_in(data, start, end))
    except DamageError:
        return False
