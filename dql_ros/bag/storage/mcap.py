"""MCAP files as segments: one a chunk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from dql_ros.bag.storage.io import MAX_CHUNK_BYTES, BoundedFile
from dql_ros.bag.storage.mcap_contents import (
    Contents,
    MessageRange,
    check_magic,
    read_footer,
    read_summary,
    scan,
)
from dql_ros.bag.storage.mcap_records import (
    HEAD_BYTES,
    Record,
    blocks_of,
    find_messages,
    open_chunk,
    open_cut_chunk,
    parse_message_index,
    records_in,
)
from dql_ros.bag.storage.storage import (
    DAMAGE,
    Channel,
    ChannelBlocks,
    DamageError,
    Loss,
    Segment,
    is_span,
    sentence,
)


class McapFile:
    """An MCAP file.

    Args:
        path: The file to read.
        name: The file as it lies in the bag, if that is a compressed one.
        salvage: Read what can be read of a damaged file.

    Raises:
        DamageError: If the file is damaged and not salvaged.
    """

    def __init__(self, path: Path, name: Path, *, salvage: bool) -> None:
        self.path = name
        self._file = path
        self._contents = _contents(path, salvage=salvage)
        self._known = np.zeros(1 << 16, np.bool_)
        self._known[list(self._contents.channels)] = True
        if salvage:
            self._known[:] = True  # What is on others is told as a loss already.
        else:
            self._check()

    @property
    def channels(self) -> Collection[Channel]:
        """All channels."""
        return self._contents.channels.values()

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last log time."""
        spans = [
            (each.start_ns, each.end_ns)
            for each in self._contents.ranges
            if each.counts != {} and is_span(each.start_ns, each.end_ns)
        ]
        if not spans:
            return None
        return min(start for start, _ in spans), max(end for _, end in spans)

    @property
    def metadata_text(self) -> str | None:
        """What rosbag2 wrote of the bag into the file."""
        return self._contents.metadata.get("serialized_metadata")

    @property
    def distribution(self) -> str:
        """The distribution that wrote the file."""
        return self._contents.metadata.get("ROS_DISTRO", "")

    @property
    def losses(self) -> Collection[Loss]:
        """The end of a file that breaks off, and messages on channels that nothing defines."""
        losses = []
        ranges = self._contents.ranges
        if self._contents.damage is not None and not any(each.is_cut for each in ranges):
            reason, offset = self._contents.damage
            losses.append(Loss(self.path.name, reason, None, self._file.stat().st_size - offset))
        undefined = sum(
            count
            for each in ranges
            for number, count in (each.counts or {}).items()
            if number not in self._contents.channels
        )
        if undefined:
            reason = f"has {undefined} messages on channels whose definitions cannot be read"
            losses.append(Loss(self.path.name, reason, undefined, None))
        return losses

    @property
    def notes(self) -> Collection[str]:
        """What the user should know about the file."""
        return [f"{self.path.name}: {note}" for note in self._contents.notes]

    def counts(self) -> Mapping[str, int]:
        """Messages of each topic, by the statistics or else by the chunks' indices."""
        statistics = self._contents.statistics
        counts = {channel.topic: 0 for channel in self.channels}
        if statistics is not None and statistics.channel_message_counts:
            each: list[Mapping[int, int]] = [statistics.channel_message_counts]
        else:
            each = [known.counts or {} for known in self._contents.ranges]
        for numbers in each:
            for number, count in numbers.items():
                if number in self._contents.channels:
                    counts[self._contents.channels[number].topic] += count
        return counts

    def segments(self, topics: Collection[str]) -> list[Segment]:
        """One segment a chunk that has messages of the topics."""
        wanted = {
            number: channel
            for number, channel in self._contents.channels.items()
            if channel.topic in topics
        }
        segments = []
        for where in self._contents.ranges:
            counts = _by_topic(where, wanted)
            if counts is None or counts:
                read = partial(self._read, where, wanted)
                # What begins at no time that can be is read first, so that no promise is broken.
                start_ns = where.start_ns if is_span(where.start_ns, where.end_ns) else 0
                segments.append(Segment(start_ns, where.length, counts, read, is_small=True))
        return sorted(segments, key=lambda segment: segment.start_ns)

    def close(self) -> None:
        """Nothing is held open."""

    def _read(self, where: MessageRange, wanted: Mapping[int, Channel]) -> Iterator[ChannelBlocks]:
        with BoundedFile(self._file) as file:
            raw = memoryview(file.read(where.offset, where.length + where.index_length))
        if where.is_cut:
            data = open_cut_chunk(raw[HEAD_BYTES:])
            yield ChannelBlocks(blocks_of(find_messages(data), wanted, self._known))
            assert self._contents.damage is not None
            raise DamageError(self._contents.damage[0])
        if where.is_chunk:
            (chunk, *indices) = records_in(raw, 0, len(raw))
            if chunk.opcode != Opcode.CHUNK:
                raise DamageError(f"has no chunk at byte {where.offset}, where its summary says")
            data = open_chunk(raw[HEAD_BYTES : chunk.end])
            messages = find_messages(data, _hint(raw, indices))
        else:
            messages = find_messages(raw)
        yield ChannelBlocks(blocks_of(messages, wanted, self._known))

    def _check(self) -> None:
        statistics = self._contents.statistics
        if statistics is not None and not self._contents.is_complete:
            raise DamageError(
                f"has {statistics.message_count} messages by its statistics, but others in its "
                f"chunks"
            )
        if self.losses:
            raise DamageError(next(iter(self.losses)).reason)
        for each in self._contents.ranges:
            if each.counts != {} and not is_span(each.start_ns, each.end_ns):
                raise DamageError(
                    f"has a chunk from {each.start_ns} ns to {each.end_ns} ns, which cannot be"
                )


def _contents(path: Path, *, salvage: bool) -> Contents:
    """From the summary where it tells where every message is, else from front to back."""
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
                notes=[f"{sentence(cause)}; it was read from front to back instead"]
            )
        if not contents.is_complete:
            scan(file, contents, salvage=salvage)
    if "serialized_metadata" in contents.metadata:
        contents.metadata.setdefault("ROS_DISTRO", _distribution(contents.metadata))
    return contents


def _distribution(metadata: Mapping[str, str]) -> str:
    for line in metadata["serialized_metadata"].splitlines():
        key, _, value = line.partition(":")
        if key == "ros_distro":
            return value.strip()
    return ""


def _by_topic(where: MessageRange, wanted: Mapping[int, Channel]) -> dict[str, int] | None:
    if where.counts is None:
        return None
    counts: dict[str, int] = {}
    for number, count in where.counts.items():
        if number in wanted:
            topic = wanted[number].topic
            counts[topic] = counts.get(topic, 0) + count
    return counts


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
