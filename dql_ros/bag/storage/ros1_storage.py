"""ROS 1 bags as parts: one a chunk."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.block import MessageBlock
from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DamageError, Loss
from dql_ros.bag.storage.part import Channel, Part, Piece, is_span
from dql_ros.bag.storage.ros1_contents import (
    Chunk,
    Message,
    messages_in,
    open_chunk,
    read_contents,
)


class Ros1Storage:
    """A ROS 1 bag; its messages are still in ROS 1's serialisation.

    Args:
        path: The file.
        salvage: Read what can be read of a damaged file, or of one without an index.

    Raises:
        DamageError: If the file is damaged and not salvaged.
    """

    metadata_text: str | None = None
    distribution = "noetic"

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self.path = path
        with BoundedFile(path) as file:
            self._contents = read_contents(file, salvage=salvage)

    @property
    def channels(self) -> Collection[Channel]:
        """All connections."""
        return self._contents.channels.values()

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last log time."""
        spans = [
            (chunk.start_ns, chunk.end_ns)
            for chunk in self._contents.chunks
            if chunk.counts != {} and is_span(chunk.start_ns, chunk.end_ns)
        ]
        if not spans:
            return None
        return min(start for start, _ in spans), max(end for _, end in spans)

    @property
    def losses(self) -> Collection[Loss]:
        """The end of a file that breaks off where no chunk does."""
        if self._contents.damage is None or any(chunk.is_cut for chunk in self._contents.chunks):
            return ()
        reason, offset = self._contents.damage
        return (Loss(self.path.name, reason, None, self.path.stat().st_size - offset),)

    @property
    def notes(self) -> Collection[str]:
        """What the user should know about the file."""
        return [f"{self.path.name}: {note}" for note in self._contents.notes]

    def counts(self) -> Mapping[str, int]:
        """Messages of each topic, by the chunks' indices."""
        counts = {channel.topic: 0 for channel in self.channels}
        for chunk in self._contents.chunks:
            for number, count in (chunk.counts or {}).items():
                if number in self._contents.channels:
                    counts[self._contents.channels[number].topic] += count
        return counts

    def parts(self, topics: Collection[str]) -> list[Part]:
        """One part a chunk that has messages of the topics."""
        wanted = {
            number: channel
            for number, channel in self._contents.channels.items()
            if channel.topic in topics
        }
        parts = []
        for chunk in self._contents.chunks:
            counts: dict[str, int] | None = None
            if chunk.counts is not None:
                counts = {}
                for number in wanted.keys() & chunk.counts.keys():
                    topic = wanted[number].topic
                    counts[topic] = counts.get(topic, 0) + chunk.counts[number]
            if counts is None or counts:
                read = partial(self._read, chunk, wanted)
                # What begins at no time that can be is read first, so that no promise is broken.
                is_known = is_span(chunk.start_ns, chunk.end_ns)
                start_ns = chunk.start_ns if is_known else 0
                parts.append(Part(start_ns, chunk.length, counts, read))
        return sorted(parts, key=lambda part: part.start_ns)

    def close(self) -> None:
        """Nothing is held open."""

    def _read(self, chunk: Chunk, wanted: Mapping[int, Channel]) -> Iterator[Piece]:
        with BoundedFile(self.path) as file:
            raw = file.read(chunk.offset, chunk.length)
        data = open_chunk(raw, is_cut=chunk.is_cut)
        found: dict[int, list[Message]] = {number: [] for number in wanted}
        for message in messages_in(data, self._contents.channels, is_cut=chunk.is_cut):
            if message.connection in found:
                found[message.connection].append(message)
            elif message.connection not in self._contents.channels:
                raise DamageError(
                    f"a message is on connection {message.connection}, which it does not define"
                )
        content = np.frombuffer(data, np.uint8)
        yield Piece(
            tuple(
                (wanted[number], _block(wanted[number], messages, content))
                for number, messages in found.items()
                if messages
            )
        )
        if chunk.is_cut:
            assert self._contents.damage is not None
            raise DamageError(self._contents.damage[0])


def _block(channel: Channel, messages: list[Message], content: NDArray[np.uint8]) -> MessageBlock:
    messages = sorted(messages, key=lambda message: message.log_time_ns)
    columns = np.array([message[1:] for message in messages], np.int64).T
    return MessageBlock(channel.topic, channel.msgtype, columns[0], content, *columns[1:])
