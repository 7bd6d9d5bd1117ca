"""What an MCAP file has and where: from its summary, or from front to back.

The latter is the way through a file without a usable summary, as a killed recorder leaves it.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace

from mcap.opcode import Opcode
from mcap.records import Channel as ChannelRecord
from mcap.records import ChunkIndex, Footer, Metadata, MetadataIndex, Schema, Statistics

from dql_ros.bag.storage.io import MAX_CHUNK_BYTES, BoundedFile
from dql_ros.bag.storage.mcap_records import (
    HEAD_BYTES,
    MAGIC,
    ExactStream,
    Record,
    find_messages,
    open_chunk,
    open_cut_chunk,
    open_damaged_chunk,
    parse_chunk_head,
    parse_message_index,
    read_head,
    records_in,
)
from dql_ros.bag.storage.storage import (
    DAMAGE,
    UNKNOWN_TYPE,
    Channel,
    DamageError,
    Definition,
    MessageRange,
    absolute_topic,
    full_msgtype,
    reason_of,
)

FOOTER_BYTES = HEAD_BYTES + 20 + len(MAGIC)
# Checksum of the summary: all bytes from its start up to the checksum, which ends the footer.
_CRC_BYTES = 4
MAX_SUMMARY_BYTES = 1 << 28
_INDEX_OVERHEAD = HEAD_BYTES + 6
_INDEX_ENTRY = 16
# Messages outside of chunks are read this many bytes at a time.
RUN_BYTES = 1 << 20
# Enough of a chunk record for the fields before its data.
_CHUNK_PREFIX = 256
_BLOCK_BYTES = 1 << 20


@dataclass
class Contents:
    """What a file has.

    Attributes:
        schemas: Definitions by schema number: name, and text in its format.
        channels: Channels by their number.
        ranges: Where its messages lie, in the order of the file.
        statistics: The file's own counts, if it has them.
        metadata: Texts of the record that rosbag2 writes.
        damage: What ended the reading from front to back early, and where.
        notes: What the user should know.
    """

    schemas: dict[int, tuple[str, Definition]] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    ranges: list[MessageRange] = field(default_factory=list)
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
                schema.id, (full_msgtype(schema.name), Definition(schema.encoding, text))
            )
        elif opcode == Opcode.CHANNEL:
            record = ChannelRecord.read(stream)
            msgtype, definition = self.schemas.get(record.schema_id, (UNKNOWN_TYPE, Definition()))
            self.channels.setdefault(
                record.id,
                Channel(
                    absolute_topic(record.topic), msgtype, record.message_encoding, definition
                ),
            )
        elif opcode == Opcode.METADATA:
            metadata = Metadata.read(stream)
            if metadata.name == "rosbag2":
                self.metadata.update(metadata.metadata)
        elif opcode == Opcode.STATISTICS:
            self.statistics = Statistics.read(stream)

    @property
    def is_complete(self) -> bool:
        """Whether every message that the statistics count is in a known range."""
        counts = [each.counts for each in self.ranges]
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
            contents.ranges.append(_range_of(ChunkIndex.read(ExactStream(content))))
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
    contents.take(record.opcode, file.read(record.offset + HEAD_BYTES, record.length))


def _range_of(index: ChunkIndex) -> MessageRange:
    """A chunk as the summary describes it; how many messages follows from its indices' lengths."""
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
    return MessageRange(
        offset=index.chunk_start_offset,
        length=index.chunk_length,
        start_ns=index.message_start_time,
        end_ns=index.message_end_time,
        counts=counts if begins or not index.uncompressed_size else None,
        index_length=index.message_index_length,
    )


def scan(file: BoundedFile, contents: Contents, *, salvage: bool) -> None:
    """Find all messages by walking through the file.

    Args:
        file: The file.
        contents: Takes what is found; what is there already of channels and statistics stays.
        salvage: Stop at damage and note it, instead of raising it.

    Raises:
        DamageError: If the file is damaged and not salvaged.
    """
    contents.ranges.clear()
    walk = _Walk(file, contents, salvage=salvage)
    offset = len(MAGIC)
    try:
        while offset < file.size and walk.data_end is None:
            record = walk.record_at(offset)
            walk.take(record)
            offset = record.end
        walk.end_run()
        walk.find_definitions()
        if walk.data_end is None:
            raise DamageError(
                "has no end: the recorder was stopped before it had finished the file"
            )
        if walk.found_runs:
            _check_data(file, walk.data_end)
    except DAMAGE as cause:
        if not salvage:
            raise
        walk.end_run()
        walk.find_definitions()
        contents.damage = (reason_of(cause), min(offset, file.size))


class _Walk:
    """The state of one walk through a file."""

    def __init__(self, file: BoundedFile, contents: Contents, *, salvage: bool) -> None:
        self._file = file
        self._contents = contents
        self._salvage = salvage
        self._chunk: MessageRange | None = None
        self._run: tuple[int, int] | None = None  # where it begins and ends
        self._passed: list[MessageRange] = []  # chunks that were not looked into
        self._used: set[int] = set()  # channels that have messages
        self.data_end: Record | None = None
        self.found_runs = False

    def record_at(self, offset: int) -> Record:
        """Return a record; one that is a chunk without its end is noted before this raises."""
        try:
            return read_head(self._file, offset)
        except DamageError:
            self._take_cut_chunk(offset)
            raise

    def take(self, record: Record) -> None:
        """Take note of one record of the data section."""
        if record.opcode == Opcode.MESSAGE_INDEX and self._chunk is not None:
            self._take_index(record)
            return
        self._end_chunk()
        if record.opcode in {Opcode.MESSAGE, Opcode.SCHEMA, Opcode.CHANNEL}:
            self._extend_run(record)
        else:
            self.end_run()
        if record.opcode == Opcode.CHUNK:
            prefix = self._file.read(record.offset + HEAD_BYTES, min(record.length, _CHUNK_PREFIX))
            head = parse_chunk_head(prefix)
            self._chunk = MessageRange(
                record.offset, record.end - record.offset, head.start_ns, head.end_ns, None
            )
        elif record.opcode in {Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA}:
            self._contents.take(record.opcode, self._content(record))
        elif record.opcode in {Opcode.DATA_END, Opcode.FOOTER}:
            self.data_end = record

    def end_run(self) -> None:
        """Note the messages outside of chunks since the last chunk."""
        self._end_chunk()
        if self._run is None:
            return
        begin, end = self._run
        self._run = None
        messages = find_messages(self._file.read(begin, end - begin))
        if len(messages.offsets):
            self.found_runs = True
            start_ns, end_ns = messages.span_ns()
            self._used.update(messages.counts())
            self._contents.ranges.append(
                MessageRange(
                    begin, end - begin, start_ns, end_ns, messages.counts(), is_chunk=False
                )
            )

    def find_definitions(self) -> None:
        """Look for the channels that are used, also in the chunks that were passed over.

        A recorder defines a channel in the chunk that is open, be its messages in a later one.
        """
        while self._passed and not self._used <= self._contents.channels.keys():
            self._look_into(self._passed.pop())

    def _extend_run(self, record: Record) -> None:
        begin = record.offset if self._run is None else self._run[0]
        self._run = (begin, record.end)
        if record.end - begin >= RUN_BYTES:
            self.end_run()

    def _take_index(self, record: Record) -> None:
        assert self._chunk is not None
        number, pairs = parse_message_index(self._content(record))
        counts = dict(self._chunk.counts or {})
        counts[number] = counts.get(number, 0) + len(pairs)
        self._chunk = replace(
            self._chunk,
            counts=counts,
            index_length=record.end - self._chunk.offset - self._chunk.length,
        )

    def _end_chunk(self) -> None:
        """Note a chunk; one that is not indexed or has unknown channels is looked into."""
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            return
        if chunk.counts is None or not chunk.counts.keys() <= self._contents.channels.keys():
            chunk = self._look_into(chunk)
        else:
            self._passed.append(chunk)
        self._used.update(chunk.counts or {})
        self._contents.ranges.append(chunk)

    def _look_into(self, chunk: MessageRange) -> MessageRange:
        content = self._file.read(chunk.offset + HEAD_BYTES, chunk.length - HEAD_BYTES)
        try:
            data = open_chunk(content)
            self._take_definitions(data)
            return chunk if chunk.counts else replace(chunk, counts=find_messages(data).counts())
        except DAMAGE:
            if not self._salvage:
                raise
            with suppress(*DAMAGE):
                self._take_definitions(open_damaged_chunk(content))
            return chunk  # Reported when its messages are read.

    def _take_cut_chunk(self, offset: int) -> None:
        length = self._file.size - offset
        if not self._salvage or not HEAD_BYTES < length <= MAX_CHUNK_BYTES:
            return
        raw = self._file.read(offset, length)
        if raw[0] != Opcode.CHUNK:
            return
        self.end_run()
        head = parse_chunk_head(raw[HEAD_BYTES:])
        data = open_cut_chunk(raw[HEAD_BYTES:])
        self._take_definitions(data)
        self._used.update(find_messages(data).counts())
        self._contents.ranges.append(
            MessageRange(offset, length, head.start_ns, head.end_ns, None, is_cut=True)
        )

    def _content(self, record: Record) -> bytes:
        return self._file.read(record.offset + HEAD_BYTES, record.length)

    def _take_definitions(self, data: bytes | memoryview) -> None:
        for record in records_in(data, 0, len(data)):
            if record.opcode in {Opcode.SCHEMA, Opcode.CHANNEL}:
                self._contents.take(record.opcode, data[record.offset + HEAD_BYTES : record.end])


def _check_data(file: BoundedFile, data_end: Record) -> None:
    """Compare the data section with its checksum; messages outside of chunks have no other."""
    stated = int.from_bytes(file.read(data_end.offset + HEAD_BYTES, data_end.length)[:4], "little")
    if data_end.opcode != Opcode.DATA_END or not stated:
        return
    crc = 0
    for offset in range(0, data_end.offset, _BLOCK_BYTES):
        crc = zlib.crc32(file.read(offset, min(_BLOCK_BYTES, data_end.offset - offset)), crc)
    if crc != stated:
        raise DamageError("has messages that differ from the file's checksum")
