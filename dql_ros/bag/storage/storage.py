"""What every kind of file is to the reader: channels, counts, and segments read one at a time.

What is wrong with a file is a `DamageError`, and what was lost by it a `Loss`.
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import zstandard
from mcap.exceptions import McapError
from rosbags.rosbag1 import ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import TypesysError
from rosbags.typesys.msg import normalize_msgtype
from yaml import YAMLError

from dql_core.errors import one_line
from dql_ros.codecs.block import MessageBlock

MAX_TIME_NS = 2**63 - 1
# Parsers repeat what they could not parse, all of it.
MAX_REASON = 300
# What a channel's type is called if the file does not say, or what says it is lost.
UNKNOWN_TYPE = "unknown"
MAX_LOSSES = 3


@dataclass(frozen=True)
class Definition:
    """A message type's definition, as a file carries it.

    Attributes:
        format: ``ros2msg``, ``ros2idl``, ``ros1msg``; empty if the file has none.
        text: The definition with those of the types that it uses.
    """

    format: str = ""
    text: str = ""


@dataclass(frozen=True)
class Channel:
    """Messages of one topic, type and serialisation in a file.

    Attributes:
        topic: Absolute topic name.
        msgtype: Message type, ``package/msg/Name``.
        encoding: Serialisation: ``cdr``, ``ros1``, or one that is not understood.
        definition: The type's definition in the file.
    """

    topic: str
    msgtype: str
    encoding: str
    definition: Definition


@dataclass(frozen=True)
class ChannelBlocks:
    """What one step of reading a segment yields.

    Attributes:
        blocks: Messages by channel.
        until_ns: No later step of the segment has a message with a log time before this one.
    """

    blocks: tuple[tuple[Channel, MessageBlock], ...]
    until_ns: int = MAX_TIME_NS


@dataclass(frozen=True)
class Segment:
    """A stretch of a file that is read by itself: a chunk, or the whole of it.

    Attributes:
        start_ns: No message of it has a log time before this one.
        size_bytes: Its share of the file.
        counts: Messages of each wanted topic that it should have; ``None`` if nobody knows.
        read: Yields its messages; raises one of `DAMAGE`, after what could be read.
        file: Name of its file.
        is_small: Whether it is read at once, so that it may be read ahead.
        end_ns: No message of it has a log time after this one; ``None`` where nobody knows.
        place: Where it lies in its file: what has a larger one was written later.
    """

    start_ns: int
    size_bytes: int
    counts: Mapping[str, int] | None
    read: Callable[[], Iterator[ChannelBlocks]]
    file: str
    is_small: bool = False
    end_ns: int | None = None
    place: int = 0


class StorageFile(ABC):
    """An opened file of a bag; it is held open only while it is read.

    Attributes:
        path: The file, as it lies in the bag.
        channels: All channels by their number, also those without a message.
        metadata_text: The bag's metadata, yaml, if the file carries it.
        distribution: The ROS distribution that recorded it; empty if it does not say.
        losses: What is known to be lost since the file was opened.
        notes: What the user should know about the file although nothing is lost by it.
        damage: Why it may lack topics; empty if it does not. What else is lost, reading shows.
    """

    metadata_text: str | None = None
    distribution = ""
    losses: Sequence[Loss] = ()
    notes: Sequence[str] = ()
    damage = ""

    def __init__(self, path: Path, channels: Mapping[int, Channel]) -> None:
        self.path = path
        self.channels = channels

    @property
    @abstractmethod
    def span_ns(self) -> tuple[int, int] | None:
        """First and last log time; ``None`` without a message."""

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Return the number of messages of each topic by the file's own count."""

    @abstractmethod
    def segments(self, topics: Collection[str]) -> list[Segment]:
        """Return the segments that have messages of the topics, in any order."""

    def wanted(self, topics: Collection[str]) -> dict[int, Channel]:
        """Return the channels of topics, by their number."""
        return {n: channel for n, channel in self.channels.items() if channel.topic in topics}


@dataclass(frozen=True)
class MessageRange:
    """Messages that lie together: a chunk with its indices, or messages outside of chunks.

    Attributes:
        offset: Where it begins in the file.
        length: Its bytes, without indices.
        start_ns: No message of it has a log time before this one.
        end_ns: None has one after this one.
        counts: Messages by channel number; ``None`` if nobody knows.
        index_length: Bytes of the message indices that follow.
        is_chunk: Whether it is a chunk.
        is_cut: Whether its end is missing.
    """

    offset: int
    length: int
    start_ns: int
    end_ns: int
    counts: Mapping[int, int] | None
    index_length: int = 0
    is_chunk: bool = True
    is_cut: bool = False

    @property
    def is_possible(self) -> bool:
        """Whether its times can be the first and the last of something."""
        return 0 <= self.start_ns <= self.end_ns <= MAX_TIME_NS


def after(ranges: Iterable[MessageRange]) -> int | None:
    """The first log time after all of some ranges; ``None`` without any."""
    return max((each.end_ns + 1 for each in ranges if each.is_possible), default=None)


class ChunkedFile(StorageFile):
    """A file whose messages lie in ranges that are known and read one at a time.

    Args:
        path: The file, as it lies in the bag.
        channels: Its channels by their number.
        ranges: Where its messages lie.
    """

    def __init__(
        self, path: Path, channels: Mapping[int, Channel], ranges: Sequence[MessageRange]
    ) -> None:
        super().__init__(path, channels)
        self._ranges = ranges

    @abstractmethod
    def read(
        self, messages: MessageRange, wanted: Mapping[int, Channel]
    ) -> Iterator[ChannelBlocks]:
        """Yield the messages of a range that are of the wanted channels, by their number."""

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last log time."""
        filled = [each for each in self._ranges if each.counts != {} and each.is_possible]
        if not filled:
            return None
        return min(each.start_ns for each in filled), max(each.end_ns for each in filled)

    def counts(self) -> Mapping[str, int]:
        """Messages of each topic, by the ranges."""
        return self._by_topic(*(each.counts or {} for each in self._ranges))

    def segments(self, topics: Collection[str]) -> list[Segment]:
        """One segment a range that has messages of the topics."""
        wanted = self.wanted(topics)
        segments = []
        for each in self._ranges:
            counts: Counter[str] | None = None
            if each.counts is not None:
                counts = Counter()
                for number in wanted.keys() & each.counts.keys():
                    counts[wanted[number].topic] += each.counts[number]
            if counts is None or counts:
                # What begins at no possible time is read first, so that no promise is broken.
                start_ns = each.start_ns if each.is_possible else 0
                segments.append(
                    Segment(
                        start_ns,
                        each.length,
                        counts,
                        partial(self.read, each, wanted),
                        self.path.name,
                        is_small=True,
                        end_ns=each.end_ns if each.is_possible else None,
                        place=each.offset,
                    )
                )
        return segments

    def _by_topic(self, *counts: Mapping[int, int]) -> Mapping[str, int]:
        total = dict.fromkeys((channel.topic for channel in self.channels.values()), 0)
        for each in counts:
            for number, count in each.items():
                if number in self.channels:
                    total[self.channels[number].topic] += count
        return total


def full_msgtype(name: str) -> str:
    """``package/msg/Name``, also of the older form ``package/Name``."""
    return str(normalize_msgtype(name)) if name.count("/") == 1 else name


def absolute_topic(name: str) -> str:
    """A topic's absolute name; a recorder may leave out the slash that it begins with."""
    return name if name.startswith("/") else f"/{name}"


def checked_time(time_ns: int) -> int:
    """Return a time that fits 63 bits.

    Raises:
        DamageError: If it does not.
    """
    if not 0 <= time_ns <= MAX_TIME_NS:
        raise DamageError(f"has a time stamp of {time_ns} ns, which is none")
    return time_ns


class DamageError(Exception):
    """Why a file, or a part of it, cannot be read: half a sentence without the file's name.

    Attributes:
        lost_ns: The first and the last log time at which something is lost by it, if it is known
            better than by the segment that has it.
    """

    def __init__(self, text: str, lost_ns: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.lost_ns = lost_ns


# What the libraries raise on damaged files; a defect of theirs must not end in a traceback.
DAMAGE = (
    DamageError,
    McapError,
    ReaderError,
    SerdeError,
    TypesysError,
    YAMLError,
    sqlite3.Error,
    struct.error,
    zlib.error,
    zstandard.ZstdError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NameError,
    RuntimeError,
    MemoryError,
    SyntaxError,
)


@dataclass(frozen=True)
class Loss:
    """What could not be read of a file.

    Attributes:
        file: The file's name.
        reason: What is wrong with it.
        messages: How many messages of the wanted topics are lost; ``None`` where nobody knows.
        bytes: How many bytes of the file were given up; ``None`` where nobody knows.
        start_ns: Nothing received before this time is lost by it; ``None`` where nobody knows.
        end_ns: Nothing received after this time is; ``None`` where nobody knows, as behind a
            file's last sound chunk.
    """

    file: str
    reason: str
    messages: int | None
    bytes: int | None
    start_ns: int | None = None
    end_ns: int | None = None


@dataclass(frozen=True)
class LostSpan:
    """When something of a bag is lost: nothing that lasts over it is to be believed.

    Attributes:
        start_ns: Nothing received before this time is lost.
        end_ns: Nothing received after this time is; ``None`` where nobody knows.
        topics: Of which topics messages are lost; empty where nobody knows.
    """

    start_ns: int
    end_ns: int | None
    topics: frozenset[str] = frozenset()


def lost_words(losses: Sequence[Loss]) -> str:
    """Say what is lost of a bag, in one line that is not long."""
    first = "; ".join(f"{loss.file}: {loss.reason}" for loss in losses[:MAX_LOSSES])
    more = len(losses) - MAX_LOSSES
    return f"{first}; and {more} more" if more > 0 else first


def reason_of(cause: BaseException) -> str:
    """Return what an exception says, on one line that is not long."""
    text = one_line(cause).rstrip(".")
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
