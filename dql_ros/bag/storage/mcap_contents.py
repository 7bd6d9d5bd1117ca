"""What an MCAP file has and where, from its summary or from front to back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import ChunkIndex, Footer, Metadata, MetadataIndex, Schema, Statistics
from rosbags.typesys.msg import normalize_msgtype

from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DamageError
from dql_ros.bag.storage.mcap_records import (
    HEAD_BYTES,
    MAGIC,
    ExactStream,
    read_content,
    read_head,
    records_in,
)
from dql_ros.bag.storage.part import Channel, Definition

FOOTER_BYTES = HEAD_BYTES + 20 + len(MAGIC)
# Checksum of the summary: all bytes from its start up to the checksum, which ends the footer.
_CRC_BYTES = 4
MAX_SUMMARY_BYTES = 1 << 28
_INDEX_OVERHEAD = HEAD_BYTES + 6
_INDEX_ENTRY = 16


@dataclass(frozen=True)
class Stretch:
    """Messages that lie together: a chunk with its indices, or messages outside of chunks.

    Attributes:
        offset: Where it begins in the file.
        length: Its bytes, without indices.
        index_length: Bytes of the message indices that follow.
        start_ns: No message of it has a log time before this one.
        end_ns: None has one after this one.
        counts: Messages by channel number; ``None`` if nobody knows.
        is_chunk: Whether it is a chunk.
        is_cut: Whether its end is missing.
    """

    offset: int
    length: int
    index_length: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int] | None
    is_chunk: bool = True
    is_cut: bool = False


@dataclass
class Contents:
    """What a file has.

    Attributes:
        schemas: Definitions by schema number: name, and text in its format.
        channels: Channels by their number.
        stretches: Where its messages lie, in the order of the file.
        statistics: The file's own counts, if it has them.
        metadata: Texts of the record that rosbag2 writes.
        damage: What ended the reading from front to back early, and where.
        notes: What the user should know.
    """

    schemas: dict[int, tuple[str, Definition]] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    statistics: Statistics | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    damage: tuple[str, int] | None = None
    notes: list[str] = field(default_factory=list)

    def take(self, opcode: int, content: bytes | memoryview) -> None:
        """Take note of a schema, channel, metadata or statistics record."""
        stream = ExactStream(content)
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            text = schema.data.decode("utf-8", "replace")
            self.schemas.setdefault(
                schema.id, (_msgtype(schema.name), Definition(schema.encoding, text))
            )
        elif opcode == Opcode.CHANNEL:
            record = ChannelRecord.read(stream)
            msgtype, definition = self.schemas.get(record.schema_id, ("unknown", Definition()))
            self.channels.setdefault(
                record.id, Channel(record.topic, msgtype, record.message_encoding, definition)
            )
        elif opcode == Opcode.METADATA:
            metadata = Metadata.read(stream)
            if metadata.name == "rosbag2":
                self.metadata.update(metadata.metadata)
        elif opcode == Opcode.STATISTICS:
            self.statistics = Statistics.read(stream)

    @property
    def is_complete(self) -> bool:
        """Whether every message that the statistics count is in a known stretch."""
        counts = [stretch.counts for stretch in self.stretches]
        if self.statistics is None or None in counts:
            return False
        numbers = {number for each in counts if each for number in each}
        total = sum(sum(each.values()) for each in counts if each)
        return numbers <= self.channels.keys() and total == self.statistics.message_count


def check_magic(file: BoundedFile) -> None:
    """Check how the file begins.

    Raises:
        DamageError: If it is no MCAP file.
    """
    if file.read(0, min(file.size, len(MAGIC))) != MAGIC:
        raise DamageError("does not begin as an MCAP file does")


def read_footer(file: BoundedFile) -> Footer:
    """Return the record that ends the file.

    Raises:
        DamageError: If the file does not end as an MCAP file does.
    """
    offset = file.size - FOOTER_BYTES
    end = file.read(offset, FOOTER_BYTES) if offset >= len(MAGIC) else b""
    if not end.endswith(MAGIC) or end[0] != Opcode.FOOTER:
        raise DamageError("has no end: the recorder was stopped before it had finished the file")
    if int.from_bytes(end[1:HEAD_BYTES], "little") != 20:
        raise DamageError("has a footer of a wrong length")
    footer: Footer = Footer.read(ExactStream(end[HEAD_BYTES:]))
    if footer.summary_start and not len(MAGIC) <= footer.summary_start <= offset:
        raise DamageError(f"has a summary at byte {footer.summary_start}, which is outside of it")
    return footer


def read_summary(file: BoundedFile, footer: Footer) -> Contents:
    """Read what the file says of itself at its end.

    Raises:
        DamageError: If the summary is damaged.
    """
    end = file.size - FOOTER_BYTES
    if end - footer.summary_start > MAX_SUMMARY_BYTES:
        raise DamageError(f"has a summary of over {MAX_SUMMARY_BYTES} bytes")
    checked = file.read(
        footer.summary_start, file.size - len(MAGIC) - _CRC_BYTES - footer.summary_start
    )
    if footer.summary_crc and zlib.crc32(checked) != footer.summary_crc:
        raise DamageError("has a summary that differs from its checksum")
    contents = Contents()
    for record in records_in(checked, 0, end - footer.summary_start):
        content = memoryview(checked)[record.offset + HEAD_BYTES : record.end]
        if record.opcode == Opcode.CHUNK_INDEX:
            contents.stretches.append(_stretch(ChunkIndex.read(ExactStream(content))))
        elif record.opcode == Opcode.METADATA_INDEX:
            where = MetadataIndex.read(ExactStream(content))
            if where.name == "rosbag2":
                _take_metadata(file, where.offset, contents)
        else:
            contents.take(record.opcode, content)
    return contents


def _take_metadata(file: BoundedFile, offset: int, contents: Contents) -> None:
    record = read_head(file, offset)
    if record.opcode != Opcode.METADATA or record.length > MAX_SUMMARY_BYTES:
        raise DamageError(f"has no metadata at byte {offset}, where its summary says")
    contents.take(record.opcode, read_content(file, record))


def _stretch(index: ChunkIndex) -> Stretch:
    """A chunk as the summary tells of it; how many messages follows from its indices' lengths."""
    begins = sorted((offset, number) for number, offset in index.message_index_offsets.items())
    end = index.chunk_start_offset + index.chunk_length + index.message_index_length
    counts: dict[int, int] = {}
    ends = [*(offset for offset, _ in begins[1:]), end]
    for (offset, number), following in zip(begins, ends, strict=False):
        count, rest = divmod(following - offset - _INDEX_OVERHEAD, _INDEX_ENTRY)
        if rest or count < 0:
            raise DamageError("has a summary whose message indices overlap")
        if count:
            counts[number] = count
    return Stretch(
        offset=index.chunk_start_offset,
        length=index.chunk_length,
        index_length=index.message_index_length,
        start_ns=index.message_start_time,
        end_ns=index.message_end_time,
        counts=counts if begins or not index.uncompressed_size else None,
    )


def _msgtype(name: str) -> str:
    """``package/Name`` and ``package/msg/Name`` are the same type."""
    return str(normalize_msgtype(name)) if name.count("/") == 1 else name
