"""MCAP files: each chunk is a segment, and so are messages that lie outside of chunks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from dql_ros.bag.storage.io import MAX_CHUNK_BYTES, BoundedFile
from dql_ros.bag.storage.mcap_contents import (
    Contents,
    check_magic,
    read_footer,
    read_summary,
    scan,
)
from dql_ros.bag.storage.mcap_records import (
    HEAD_BYTES,
    Messages,
    Record,
    blocks_of,
    find_messages,
    open_chunk,
    open_cut_chunk,
    open_damaged_chunk,
    parse_chunk_head,
    parse_message_index,
    records_in,
)
from dql_ros.bag.storage.storage import (
    DAMAGE,
    Channel,
    ChannelBlocks,
    ChunkedFile,
    DamageError,
    Loss,
    MessageRange,
    after,
    reason_of,
)


class McapFile(ChunkedFile):
    """An MCAP file.

    Args:
        path: The file to read.
        name: The file as it lies in the bag, if that is a compressed one.
        salvage: Read what can be read of a damaged file.

    Raises:
        DamageError: If the file is damaged and not salvaged.
    """

    def __init__(self, path: Path, name: Path, *, salvage: bool) -> None:
        self._file = path
        self._salvage = salvage
        self._contents = _contents(path, salvage=salvage)
        super().__init__(name, self._contents.channels, self._contents.ranges)
        self.metadata_text = self._contents.metadata.get("serialized_metadata")
        self.distribution = self._contents.metadata.get("ROS_DISTRO", "")
        self.losses = tuple(self._losses())
        if self._contents.damage is not None:
            self.damage = self._contents.damage[0]
        self.notes = [f"{name.name}: {note}" for note in self._contents.notes]
        self._known = np.zeros(1 << 16, np.bool_)
        self._known[list(self.channels)] = True
        if salvage:
            self._known[:] = True  # What is on others is reported as a loss already.
        else:
            self._check()

    def _losses(self) -> Iterator[Loss]:
        """The end of a file that breaks off, and messages on channels that nothing defines."""
        if self._contents.damage is not None and not any(each.is_cut for each in self._ranges):
            reason, offset = self._contents.damage
            size, after_ns = self._file.stat().st_size - offset, after(self._ranges)
            yield Loss(self.path.name, reason, None, size, after_ns)
        undefined = sum(
            count
            for each in self._ranges
            for number, count in (each.counts or {}).items()
            if number not in self.channels
        )
        if undefined:
            reason = f"has {undefined} messages on channels whose definitions cannot be read"
            yield Loss(self.path.name, reason, undefined, None)

    def counts(self) -> Mapping[str, int]:
        """Messages of each topic, by the statistics or else by the chunks' indices."""
        statistics = self._contents.statistics
        if statistics is not None and statistics.channel_message_counts:
            return self._by_topic(statistics.channel_message_counts)
        return super().counts()

    def read(
        self, messages: MessageRange, wanted: Mapping[int, Channel]
    ) -> Iterator[ChannelBlocks]:
        """Yield the messages of a range; see `ChunkedFile.read`."""
        with BoundedFile(self._file) as file:
            raw = memoryview(file.read(messages.offset, messages.length + messages.index_length))
        if messages.is_cut:
            data = open_cut_chunk(raw[HEAD_BYTES:])
            found = find_messages(data)
            yield ChannelBlocks(blocks_of(found, wanted, self._known))
            assert self._contents.damage is not None
            start_ns = found.span_ns()[1] + 1 if len(found.offsets) else messages.start_ns
            raise DamageError(self._contents.damage[0], (start_ns, messages.end_ns))
        damage: DamageError | None = None
        try:
            found = self._messages(messages, raw)
        except DamageError as cause:
            if not self._salvage or not messages.is_chunk:
                raise
            found = find_messages(open_damaged_chunk(raw[HEAD_BYTES : messages.length]))
            start_ns = found.span_ns()[1] + 1 if len(found.offsets) else messages.start_ns
            damage = DamageError(str(cause), (start_ns, messages.end_ns))
        if damage is None or len(found.offsets):
            yield ChannelBlocks(blocks_of(found, wanted, self._known))
        if damage is not None:
            raise damage

    def _messages(self, messages: MessageRange, raw: memoryview) -> Messages:
        """Find the messages in a range's bytes."""
        if not messages.is_chunk:
            return find_messages(raw)
        (chunk, *indices) = records_in(raw, 0, len(raw))
        if chunk.opcode != Opcode.CHUNK:
            raise DamageError(f"has no chunk at byte {messages.offset}, where its summary says")
        content = raw[HEAD_BYTES : chunk.end]
        found = find_messages(open_chunk(content), _hint(raw, indices))
        stated = sum((messages.counts or {}).values())
        if len(found.offsets) < stated and not parse_chunk_head(content).crc:
            # Without a checksum only the index says that the chunk's own head is zeros.
            raise DamageError(
                f"a chunk has {stated} messages by its index, but {len(found.offsets)} were found"
            )
        return found

    def _check(self) -> None:
        statistics = self._contents.statistics
        if statistics is not None and not self._contents.is_complete:
            raise DamageError(
                f"has {statistics.message_count} messages by its statistics, but others in its "
                f"chunks"
            )
        if self.losses:
            raise DamageError(self.losses[0].reason)
        for each in self._ranges:
            if each.counts != {} and not each.is_possible:
                raise DamageError(
                    f"has a chunk from {each.start_ns} ns to {each.end_ns} ns, which cannot be"
                )


def _contents(path: Path, *, salvage: bool) -> Contents:
    """From the summary where that says where every message is, else from front to back."""
    with BoundedFile(path) as file:
        contents = Contents()
        try:
            check_magic(file)
            footer = read_footer(file)
            if footer.summary_start:
                contents = read_summary(file, footer)
        except DAMAGE as cause:
            if not salvage:
                raise
            contents = Contents(
                notes=[f"{reason_of(cause)}; it was read from front to back instead"]
            )
        if not contents.is_complete:
            scan(file, contents, salvage=salvage)
    return contents


def _hint(raw: memoryview, indices: Collection[Record]) -> NDArray[np.int64] | None:
    """Where the chunk's indices say that its messages are; no index is better than a wrong one."""
    try:
        found = [
            parse_message_index(raw[record.offset + HEAD_BYTES : record.end])[1][:, 1]
            for record in indices
            if record.opcode == Opcode.MESSAGE_INDEX
        ]
    except DamageError:
        return None
    if not found:
        return None
    offsets = np.concatenate(found)
    return offsets.astype(np.int64) if offsets.max(initial=0) < MAX_CHUNK_BYTES else None
