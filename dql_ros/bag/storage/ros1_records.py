"""The framing of ROS 1 bags: records of a header with named fields, and data.

Source: the bag format version 2.0, http://wiki.ros.org/Bags/Format/2.0. The headers' fields are
read with ``rosbags``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from rosbags.rosbag1.reader import Header, RecordType, normalize
from rosbags.typesys.msg import normalize_msgtype

from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DamageError
from dql_ros.bag.storage.part import Channel, Definition, checked_time

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
