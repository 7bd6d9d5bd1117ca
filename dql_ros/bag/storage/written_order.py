"""Where a recording's clock was set back: log times beside the order in which they were written.

A recorder writes messages as it receives them, so that the log times of one channel ascend in the
order of the file. Of different channels they need not: a bag that was merged or rewritten has
chunks that overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.storage.storage import (
    DAMAGE,
    MAX_TIME_NS,
    Channel,
    DamageError,
    Segment,
    StorageFile,
)
from dql_ros.codecs.block import MessageBlock

# Topic, type, and which of the channels that have these.
_Key = tuple[str, str, int]
# A recording whose clock goes back more often is not one that can be divided.
MAX_STEPS = 1000
# A recorder that is busy writes some messages so much too late, beside those of other topics.
LATE_NS = 500_000_000


class Place(NamedTuple):
    """Where a message was written: which file, which segment of it, where in that."""

    file: int
    segment: int
    message: int


@dataclass(frozen=True)
class ClockStep:
    """A place at which the recording's clock had been set back.

    Attributes:
        topic: The topic that shows it first.
        number: Which of the topic's messages does, from 1.
        before_ns: Log time of the topic's last message by the old clock.
        after_ns: Log time of its first message by the new one.
        place: Where the first message by the new clock was written, of whichever topic.
        shift_ns: What to add to the log times from there on, so that they follow on those before.
        resumed_ns: The first of them, shifted.
        unmoved: A topic that did not go back with it; empty if all did.
    """

    topic: str
    number: int
    before_ns: int
    after_ns: int
    place: Place
    shift_ns: int = 0
    resumed_ns: int = 0
    unmoved: str = ""

    @property
    def is_of_one_clock(self) -> bool:
        """Whether all topics went back, as they do if it is the recorder's clock."""
        return not self.unmoved


class FileSegment(NamedTuple):
    """A segment and the number of its file, in the order of the files' times."""

    file: int
    segment: Segment

    @property
    def place(self) -> Place:
        """Before all of its messages."""
        return Place(self.file, self.segment.place, -1)


def file_segments(storages: Sequence[StorageFile], topics: Iterable[str]) -> list[FileSegment]:
    """Return the segments of all files that have messages of the topics."""
    in_time = sorted(storages, key=lambda storage: (storage.span_ns or (MAX_TIME_NS,))[0])
    wanted = frozenset(topics)
    return [
        FileSegment(number, segment)
        for number, storage in enumerate(in_time)
        for segment in storage.segments(wanted)
    ]


class ChannelNumbers:
    """Tells channels apart that are equal, as of two publishers, and knows them in every file.

    Args:
        storages: The files.
    """

    def __init__(self, storages: Iterable[StorageFile]) -> None:
        self._numbers: dict[int, _Key] = {}
        for storage in storages:
            seen: Counter[tuple[str, str]] = Counter()
            for channel in storage.channels.values():
                key = channel.topic, channel.msgtype
                self._numbers[id(channel)] = (*key, seen[key])
                seen[key] += 1

    def __getitem__(self, channel: Channel) -> _Key:
        """Topic, type, and which of the channels that have these."""
        return self._numbers[id(channel)]


class WrittenOrder:
    """Notes, while messages are read in the order of their times, whether they lie in it, too."""

    def __init__(self, numbers: ChannelNumbers) -> None:
        self._numbers = numbers
        self._is_kept = True
        self._last: dict[_Key, tuple[Place, int]] = {}
        # First and last log time of each channel in each segment.
        self._spans: dict[_Key, dict[tuple[int, int], tuple[int, int]]] = {}

    def add(self, at: FileSegment, channel: Channel, block: MessageBlock) -> None:
        """Take note of messages of a segment, in the order of their times."""
        if not self._is_kept or not len(block):
            return
        written = _written(block)
        if (written[1:] < written[:-1]).any():
            self._is_kept = False
        key, where = self._numbers[channel], (at.file, at.segment.place)
        spans = self._spans.setdefault(key, {})
        first_ns, last_ns = int(block.log_times_ns[0]), int(block.log_times_ns[-1])
        if where in spans:
            place, _ = self._last[key]
            if place > Place(*where, int(written[0])):
                self._is_kept = False
            first_ns = min(first_ns, spans[where][0])
        spans[where] = first_ns, last_ns
        self._last[key] = Place(*where, int(written[-1])), last_ns

    @property
    def is_kept(self) -> bool:
        """Whether the log times of every channel ascend in the order of the recording."""
        return self._is_kept and all(
            earlier[1] <= later[0]
            for spans in self._spans.values()
            for (_, earlier), (_, later) in pairwise(sorted(spans.items()))
        )


def clock_steps(
    segments: Iterable[FileSegment],
    numbers: ChannelNumbers,
    tolerance_ns: int,
    repeated: Container[str] = (),
) -> list[ClockStep]:
    """Find where the recording's clock had been set back, by the log times as they were written.

    Args:
        segments: All that has messages of the topics.
        numbers: The channels.
        tolerance_ns: By how much a channel's log times may go back.
        repeated: Topics whose log times say nothing: a recorder repeats what is latched.

    Raises:
        DamageError: If that is so at very many places.
    """
    scan = _Scan(tolerance_ns, repeated)
    for at in sorted(segments, key=lambda each: each.place):
        scan.add(at, _as_written(at, numbers))
    return scan.steps()


@dataclass(frozen=True)
class _Messages:
    """The messages of a segment as they were written.

    Attributes:
        channels: Their channels.
        which: Which of these each is on, shape (n,).
        times_ns: Their log times, shape (n,).
        written: Where in the segment they are, ascending; shape (n,).
    """

    channels: Sequence[_Key]
    which: NDArray[np.intp]
    times_ns: NDArray[np.int64]
    written: NDArray[np.int64]


def _as_written(at: FileSegment, numbers: ChannelNumbers) -> _Messages:
    channels: list[_Key] = []
    which, times_ns, written = [], [], []
    with suppress(*DAMAGE):  # Reported when the messages are read for their own sake.
        for piece in at.segment.read():
            for channel, block in piece.blocks:
                which.append(np.full(len(block), len(channels)))
                channels.append(numbers[channel])
                times_ns.append(block.log_times_ns)
                written.append(_written(block))
    if not channels:
        return _Messages([], np.empty(0, np.intp), *(np.empty(0, np.int64),) * 2)
    order = np.argsort(np.concatenate(written), kind="stable")
    columns = (np.concatenate(column)[order] for column in (which, times_ns, written))
    return _Messages(channels, *columns)


class _Scan:
    """The state of looking through messages as they were written."""

    def __init__(self, tolerance_ns: int, repeated: Container[str]) -> None:
        self._tolerance_ns, self._repeated = tolerance_ns, repeated
        self._found: list[ClockStep] = []
        self._spans_ns = [(MAX_TIME_NS, -MAX_TIME_NS)]  # between the steps
        self._newest: dict[_Key, int] = {}  # by the clock that counts now
        self._latest = (-MAX_TIME_NS, "")  # the newest of these, and its topic
        # How far behind that a message was at most, between the steps, and behind which topic.
        self._behind: list[tuple[int, str]] = [(0, "")]
        self._counts: Counter[str] = Counter()

    def add(self, at: FileSegment, messages: _Messages) -> None:
        """Take the messages of the next segment."""
        start, stop = 0, len(messages.which)
        while start < stop:
            last, first = self._next_step(messages, start)
            if first is None:
                self._take(messages, slice(start, stop))
                return
            # The first by the new clock may be of another channel, between the two of this one.
            steps = np.diff(messages.times_ns[last : first + 1])
            cut = last + 1 + int(np.argmin(steps)) if last < first and len(steps) else first
            self._take(messages, slice(start, cut))
            self._step(at, messages, cut, first)
            start = cut

    def steps(self) -> list[ClockStep]:
        """Return what was found, with the shifts that let each part follow on the one before."""
        end_ns = self._spans_ns[0][1]
        steps = []
        parts = zip(self._found, self._spans_ns[1:], self._behind[1:], strict=True)
        for step, (first_ns, last_ns), (behind_ns, topic) in parts:
            shift_ns = end_ns + 1 - first_ns
            end_ns = last_ns + shift_ns
            limit_ns = min((step.before_ns - step.after_ns) // 2, LATE_NS)
            steps.append(
                replace(
                    step,
                    shift_ns=shift_ns,
                    resumed_ns=first_ns + shift_ns,
                    unmoved=topic if behind_ns > max(limit_ns, 10 * self._tolerance_ns) else "",
                )
            )
        return steps

    def _next_step(self, messages: _Messages, start: int) -> tuple[int, int | None]:
        """The first message that goes back on its channel, and the one before it there."""
        found: tuple[int, int | None] = (start, None)
        for number, channel in enumerate(messages.channels):
            places = start + np.flatnonzero(messages.which[start:] == number)
            if not len(places) or channel[0] in self._repeated:
                continue
            times = messages.times_ns[places]
            before = np.append(self._newest.get(channel, times[0]), times[:-1])
            back = np.flatnonzero(times < np.maximum.accumulate(before) - self._tolerance_ns)
            if len(back) and (found[1] is None or places[back[0]] < found[1]):
                first = int(back[0])
                found = int(places[first - 1]) if first else start, int(places[first])
        return found

    def _take(self, messages: _Messages, part: slice) -> None:
        """Take note of messages of the clock that counts now."""
        which, times = messages.which[part], messages.times_ns[part]
        if not len(which):
            return
        for number, channel in enumerate(messages.channels):
            mine = times[which == number]
            if len(mine):
                newest = self._newest.get(channel, -MAX_TIME_NS)
                self._newest[channel] = max(newest, int(mine.max()))
                self._counts[channel[0]] += len(mine)
        self._compare(messages.channels, which, times)
        first_ns, last_ns = self._spans_ns[-1]
        self._spans_ns[-1] = min(first_ns, int(times.min())), max(last_ns, int(times.max()))

    def _compare(
        self, channels: Sequence[_Key], which: NDArray[np.intp], times: NDArray[np.int64]
    ) -> None:
        """Note how far behind those that were written before them messages are."""
        counts = np.array([channel[0] not in self._repeated for channel in channels])[which]
        if not counts.any():
            return
        which, times = which[counts], times[counts]
        newest = np.maximum.accumulate(np.append(self._latest[0], times))
        worst = int(np.argmax(newest[1:] - times))
        behind_ns = int(newest[worst + 1] - times[worst])
        if behind_ns > self._behind[-1][0]:
            found = np.flatnonzero(times == newest[worst + 1])
            topic = channels[which[found[0]]][0] if len(found) else self._latest[1]
            self._behind[-1] = behind_ns, topic
        if newest[-1] > self._latest[0]:
            self._latest = int(newest[-1]), channels[which[int(np.argmax(times))]][0]

    def _step(self, at: FileSegment, messages: _Messages, cut: int, first: int) -> None:
        """Take note of a step: the new clock's messages begin at ``cut``, ``first`` shows it."""
        channel = messages.channels[messages.which[first]]
        between = [messages.channels[each][0] for each in messages.which[cut : first + 1]]
        self._found.append(
            ClockStep(
                topic=channel[0],
                number=self._counts[channel[0]] + between.count(channel[0]),
                before_ns=self._newest[channel],
                after_ns=int(messages.times_ns[first]),
                place=Place(at.file, at.segment.place, int(messages.written[cut])),
            )
        )
        if len(self._found) > MAX_STEPS:
            raise DamageError(f"has a clock that was set back more than {MAX_STEPS} times")
        self._newest.clear()
        self._latest = (-MAX_TIME_NS, "")
        self._behind.append((0, ""))
        self._spans_ns.append((MAX_TIME_NS, -MAX_TIME_NS))


@dataclass(frozen=True)
class Part:
    """What was recorded between two steps of the clock.

    Attributes:
        first: Where it begins.
        end: Where the next begins; ``None`` for the last.
        shift_ns: What to add to its log times.
        until_ns: All of them are before this, shifted.
    """

    first: Place
    end: Place | None
    shift_ns: int
    until_ns: int

    def has(self, at: FileSegment) -> bool:
        """Whether messages of a segment may be in it."""
        where = at.file, at.segment.place
        return self.first[:2] <= where and (self.end is None or where <= self.end[:2])

    def of(self, at: FileSegment, block: MessageBlock) -> MessageBlock:
        """Return those messages of a segment that are in it, with their times shifted."""
        where, written = (at.file, at.segment.place), _written(block)
        chosen = np.ones(len(block), bool)
        if self.first[:2] == where:
            chosen &= written >= self.first.message
        if self.end is not None and self.end[:2] == where:
            chosen &= written < self.end.message
        if not chosen.all():
            block = block.select(chosen)
        if self.shift_ns:
            shifted_ns = block.log_times_ns + self.shift_ns
            block = replace(block, log_times_ns=shifted_ns, shift_ns=self.shift_ns)
        return block


def parts(steps: Sequence[ClockStep]) -> list[Part]:
    """Return the parts of a recording between the steps of its clock; one without any."""
    places = [Place(-1, -1, -1), *(step.place for step in steps)]
    ends = [*places[1:], None]
    shifts_ns = [0, *(step.shift_ns for step in steps)]
    untils_ns = [*(step.resumed_ns for step in steps), MAX_TIME_NS]
    return [Part(*each) for each in zip(places, ends, shifts_ns, untils_ns, strict=True)]


def _written(block: MessageBlock) -> NDArray[np.int64]:
    return block.starts if block.written is None else block.written
