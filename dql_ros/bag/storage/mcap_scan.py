"""An MCAP file without a usable summary, from front to back: that of a killed recorder."""

from __future__ import annotations

import zlib
from dataclasses import replace

from mcap.opcode import Opcode

from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DAMAGE, DamageError, sentence
from dql_ros.bag.storage.decompress import MAX_CHUNK_BYTES
from dql_ros.bag.storage.mcap_chunk import (
    find_messages,
    open_chunk,
    open_cut_chunk,
)
from dql_ros.bag.storage.mcap_contents import Contents, Stretch
from dql_ros.bag.storage.mcap_records import (
    HEAD_BYTES,
    MAGIC,
    Record,
    parse_chunk_head,
    parse_message_index,
    read_content,
    read_head,
    records_in,
)

# Messages outside of chunks are read this many bytes at a time.
RUN_BYTES = 1 << 20
# Enough of a chunk record for the fields before its data.
_CHUNK_PREFIX = 256
_BLOCK_BYTES = 1 << 20


def scan(file: BoundedFile, contents: Contents, *, salvage: bool) -> None:
    """Find all messages by walking through the file.

    Args:
        file: The file.
        contents: Takes what is found; what is there already of channels and statistics stays.
        salvage: Stop at damage and note it, instead of raising it.

    Raises:
        DamageError: If the file is damaged and not salvaged.
    """
    contents.stretches.clear()
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
        contents.damage = (sentence(cause), min(offset, file.size))


class _Walk:
    """The state of one walk through a file."""

    def __init__(self, file: BoundedFile, contents: Contents, *, salvage: bool) -> None:
        self._file = file
        self._contents = contents
        self._salvage = salvage
        self._chunk: Stretch | None = None
        self._run: tuple[int, int] | None = None  # where it begins and ends
        self._passed: list[Stretch] = []  # chunks that were not looked into
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
            self._chunk = Stretch(
                record.offset, record.end - record.offset, 0, head.start_ns, head.end_ns, None
            )
        elif record.opcode in {Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA}:
            self._contents.take(record.opcode, read_content(self._file, record))
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
            self._contents.stretches.append(
                Stretch(begin, end - begin, 0, start_ns, end_ns, messages.counts(), is_chunk=False)
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
        number, pairs = parse_message_index(read_content(self._file, record))
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
        self._contents.stretches.append(chunk)

    def _look_into(self, chunk: Stretch) -> Stretch:
        content = self._file.read(chunk.offset + HEAD_BYTES, chunk.length - HEAD_BYTES)
        try:
            data = open_chunk(content)
            self._take_definitions(data)
            return chunk if chunk.counts else replace(chunk, counts=find_messages(data).counts())
        except DAMAGE:
            if not self._salvage:
                raise
            return chunk  # Told when its messages are read.

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
        self._contents.stretches.append(
            Stretch(offset, length, 0, head.start_ns, head.end_ns, None, is_cut=True)
        )

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
