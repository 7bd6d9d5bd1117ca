"""Reads a bag's messages once, and compares their number with what the bag says.

The segments of all its files are read in the order of their times, and become plain CDR.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import (
    Callable,
    Collection,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from dql_core.errors import listed
from dql_ros.bag.storage.definitions import BagTypes
from dql_ros.bag.storage.folder import METADATA_NAME
from dql_ros.bag.storage.plain_blocks import PlainBlocks
from dql_ros.bag.storage.storage import (
    DAMAGE,
    MAX_TIME_NS,
    Channel,
    ChannelBlocks,
    DamageError,
    Loss,
    LostSpan,
    Segment,
    StorageFile,
    reason_of,
)
from dql_ros.bag.storage.written_order import (
    ChannelNumbers,
    ClockStep,
    FileSegment,
    Part,
    WrittenOrder,
    clock_steps,
    file_segments,
    parts,
)
from dql_ros.codecs.block import Batch, MessageBlock

_Blocks = tuple[tuple[Channel, MessageBlock], ...]
_Read = tuple[list[ChannelBlocks], Exception | None]
# So many threads read ahead; decompression and checksums leave the interpreter to the others.
READERS = 1


class Reading:
    """Reads topics once.

    Args:
        storages: The bag's files in their order.
        topics: The wanted topics, all of them in the bag.
        typestore: Finds the types of a topic and type, or raises a `BagError`.
        stated: How many messages each topic has by those who say so, if they do.
        losses: What could not be opened.
        size_bytes: Size of the bag.
        salvage: Note what cannot be read as a loss, instead of raising it.
        unreadable: By topic, why its messages cannot be decoded: they are yielded as recorded,
            and so are those of which this turns out; ``None`` to raise it.
        steps: Where the recording's clock had been set back: what was written after each is read
            after all from before it, and its times are shifted.

    Attributes:
        losses: What could not be read so far.
        lost_spans: When it was recorded, as far as that is known.
        notes: What the user should know, complete at the end.
    """

    def __init__(
        self,
        storages: Sequence[StorageFile],
        topics: Collection[str],
        typestore: Callable[[str, str], BagTypes],
        *,
        stated: Mapping[str, Mapping[str, int] | None],
        losses: Iterable[Loss],
        size_bytes: int,
        salvage: bool,
        unreadable: dict[str, str] | None = None,
        steps: Sequence[ClockStep] = (),
    ) -> None:
        self.losses = list(losses)
        self.lost_spans = [
            LostSpan(loss.start_ns, loss.end_ns)
            for loss in self.losses
            if loss.start_ns is not None
        ]
        self.notes: list[str] = []
        self._plain = PlainBlocks(typestore, unreadable)
        self._parts = parts(steps)
        self._order = WrittenOrder(ChannelNumbers(storages))
        self._storages = storages
        self._stated = stated
        self._size_bytes = size_bytes
        self._salvage = salvage
        self._topics = topics
        self._read: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._complete_until_ns = -MAX_TIME_NS
        self._messages_lost: dict[tuple[str, str], int] = {}  # where of the losses those are
        self._left = self._total = 0  # bytes of segments
        self._is_read = False

    def batches(self) -> Iterator[Batch]:
        """Yield the messages, segment by segment in the order of their starts.

        Raises:
            DamageError: If the bag is damaged and not salvaged; also the libraries' own.
        """
        segments = file_segments(self._storages, self._topics)
        segments.sort(key=lambda each: each.segment.start_ns)
        divided = [(part, [each for each in segments if part.has(each)]) for part in self._parts]
        self._left = sum(each.segment.size_bytes for _, some in divided for each in some)
        self._total = self._left
        for part, some in divided:
            yield from self._part(part, some)
        self._is_read = True
        self._compare()
        yield Batch((), MAX_TIME_NS, self._size_bytes)

    @property
    def is_in_order(self) -> bool:
        """Whether all was read, and the log times of every channel ascend as they were written."""
        return self._is_read and self._order.is_kept

    def clock_steps(self, tolerance_ns: int, repeated: Container[str]) -> list[ClockStep]:
        """Find where the recording's clock had been set back; see `written_order.clock_steps`."""
        segments = file_segments(self._storages, self._topics)
        return clock_steps(segments, ChannelNumbers(self._storages), tolerance_ns, repeated)

    def _part(self, part: Part, segments: Sequence[FileSegment]) -> Iterator[Batch]:
        """Yield the messages of a part."""
        starts = (each.segment.start_ns + part.shift_ns for each in segments[1:])
        begins = [*(min(start_ns, part.until_ns) for start_ns in starts), part.until_ns]
        ahead = read_ahead([each.segment for each in segments])
        for at, (_, pieces), following_ns in zip(segments, ahead, begins, strict=False):
            found: Counter[str] = Counter()
            try:
                for piece in pieces:
                    mine = self._of(part, at, piece)
                    blocks, late = _in_time(mine, self._complete_until_ns)
                    blocks = _by_topic(blocks)
                    for channel, block in blocks:
                        found[channel.topic] += len(block)
                    until_ns = max(self._complete_until_ns, min(mine.until_ns, following_ns))
                    # What is lost of a segment may be known only at its end.
                    until_ns = self._complete_until_ns if self._salvage else until_ns
                    yield from self._in_cdr(at.segment.file, blocks, until_ns)
                    if late:
                        raise DamageError(
                            f"has {late} messages before the time it says it begins at"
                        )
            except DAMAGE as cause:
                self._note(at.segment, found, cause, part.shift_ns)
            self._left -= at.segment.size_bytes
            if self._salvage:
                self._complete_until_ns = max(self._complete_until_ns, following_ns)
                yield Batch((), self._complete_until_ns, self._bytes_done)

    @property
    def _bytes_done(self) -> int:
        return int(self._size_bytes * (1 - self._left / self._total if self._total else 1.0))

    def _of(self, part: Part, at: FileSegment, piece: ChannelBlocks) -> ChannelBlocks:
        """What of a segment's messages is in a part."""
        for channel, block in piece.blocks:
            self._order.add(at, channel, block)
        if len(self._parts) == 1:
            return piece
        mine = ((channel, part.of(at, block)) for channel, block in piece.blocks)
        until_ns = piece.until_ns + part.shift_ns
        return ChannelBlocks(tuple(pair for pair in mine if len(pair[1])), until_ns)

    def _in_cdr(self, file: str, blocks: _Blocks, until_ns: int) -> Iterator[Batch]:
        """Messages of a segment; those that must be worked on first are batches of their own."""
        ready = []
        for channel, block in blocks:
            lost: dict[int, str] | None = {} if self._salvage else None
            plain = self._plain.of(channel, block, lost)
            if not isinstance(plain, MessageBlock):
                for each in plain:
                    self._read[each.topic] += len(each)
                    yield Batch((each,), self._complete_until_ns, self._bytes_done)
            elif len(plain):
                ready.append(plain)
            if lost:
                self._lose_messages(file, block, sorted(lost.items()))
        for block in ready:
            self._read[block.topic] += len(block)
        self._complete_until_ns = until_ns
        yield Batch(tuple(ready), until_ns, self._bytes_done)

    def _note(
        self, segment: Segment, found: Counter[str], cause: Exception, shift_ns: int
    ) -> None:
        """Note a segment that could not be read wholly as a loss, or raise what is wrong."""
        if not self._salvage:
            raise DamageError(f"{segment.file}: {reason_of(cause)}") from cause
        messages = None
        missing: dict[str, int] = {}
        if segment.counts is not None:
            missing = {topic: count - found[topic] for topic, count in segment.counts.items()}
            self._lost.update(missing)
            messages = sum(missing.values())
        span = None if segment.end_ns is None else (segment.start_ns, segment.end_ns)
        lost_ns = getattr(cause, "lost_ns", None) or span
        start_ns, end_ns = (lost_ns and (each + shift_ns for each in lost_ns)) or (None, None)
        reason, size = reason_of(cause), segment.size_bytes
        self.losses.append(Loss(segment.file, reason, messages, size, start_ns, end_ns))
        if start_ns is not None:
            topics = (topic for topic, count in missing.items() if count > 0)
            self.lost_spans.append(LostSpan(start_ns, end_ns, frozenset(topics)))

    def _lose_messages(
        self, file: str, block: MessageBlock, lost: Sequence[tuple[int, str]]
    ) -> None:
        """Note messages that are none of their type, by place: one loss a file and topic."""
        times_ns = block.log_times_ns[[index for index, _ in lost]].tolist()
        key = file, block.topic
        if key not in self._messages_lost:
            self._messages_lost[key] = len(self.losses)
            self.losses.append(Loss(file, lost[0][1], 0, None, times_ns[0], times_ns[0]))
        place = self._messages_lost[key]
        known = self.losses[place]
        count, end_ns = (known.messages or 0) + len(lost), max(known.end_ns or 0, times_ns[-1])
        self.losses[place] = replace(known, messages=count, end_ns=end_ns)
        self._lost[block.topic] += len(lost)
        # Between messages that can be read, those that cannot are a span of their own.
        begins = [n for n in range(len(lost)) if not n or lost[n][0] != lost[n - 1][0] + 1]
        for first, after in zip(begins, [*begins[1:], len(lost)], strict=True):
            span = times_ns[first], times_ns[after - 1]
            self.lost_spans.append(LostSpan(*span, frozenset({block.topic})))

    def _compare(self) -> None:
        """Compare the numbers of messages with what metadata.yaml and the files say."""
        self._note_more()
        short = [loss for topic in sorted(self._topics) for loss in self._shortfall(topic)]
        if short and not self._salvage:
            raise DamageError(short[0].reason)
        unknown = [index for index, loss in enumerate(self.losses) if loss.messages is None]
        missing = sum(loss.messages or 0 for loss in short)
        if len(unknown) == 1 and missing > 0:
            # All that is missing is what the one file lost of which nobody knew how much it had.
            self.losses[unknown[0]] = replace(self.losses[unknown[0]], messages=missing)
        else:
            self.losses += short

    def _note_more(self) -> None:
        """Note of which topics there is more than metadata.yaml says: it was written too soon."""
        stated = self._stated.get(METADATA_NAME)
        if stated is None:
            return
        more = [
            f"{stated.get(topic, 0)} of {self._read[topic]} of {topic}"
            for topic in sorted(self._topics)
            if self._read[topic] > stated.get(topic, 0)
        ]
        if more:
            self.notes.append(
                f"{METADATA_NAME} counts fewer messages than there are: {listed(more)}"
            )

    def _shortfall(self, topic: str) -> list[Loss]:
        """What a topic lacks to the larger of the counts, beyond what is known to be lost."""
        wrong = {
            source: known[topic]
            for source, known in self._stated.items()
            if known and topic in known and known[topic] != self._read[topic]
        }
        if not wrong:
            return []
        source = max(wrong, key=lambda source: wrong[source])
        missing = wrong[source] - self._read[topic] - self._lost[topic]
        if missing <= 0:
            return []  # Of a file without an end there may be more than is counted.
        reason = (
            f"{topic} has {wrong[source]} messages by {source}, but "
            f"{self._read[topic]} could be read"
        )
        return [Loss(source, reason, missing, None)]


def _in_time(piece: ChannelBlocks, from_ns: int) -> tuple[_Blocks, int]:
    """A segment's blocks without messages from before a time, and how many of those there were."""
    kept = tuple((channel, _from(block, from_ns)) for channel, block in piece.blocks)
    late = sum(len(block) for _, block in piece.blocks) - sum(len(block) for _, block in kept)
    return tuple((channel, block) for channel, block in kept if len(block)), late


def _by_topic(blocks: _Blocks) -> _Blocks:
    """Blocks of which each has all messages of a topic, type and encoding, by their times."""
    found: dict[tuple[object, ...], list[tuple[Channel, MessageBlock]]] = {}
    for channel, block in blocks:
        key = channel.topic, channel.msgtype, channel.encoding, id(block.data)
        found.setdefault(key, []).append((channel, block))
    if len(found) == len(blocks):
        return blocks
    return tuple((each[0][0], _merged([block for _, block in each])) for each in found.values())


def _merged(blocks: Sequence[MessageBlock]) -> MessageBlock:
    """Blocks of several publishers, which lie in the same bytes, as one."""
    if len(blocks) == 1:
        return blocks[0]
    times = np.concatenate([block.log_times_ns for block in blocks])
    order = np.argsort(times, kind="stable")
    return replace(
        blocks[0],
        log_times_ns=times[order],
        starts=np.concatenate([block.starts for block in blocks])[order],
        lengths=np.concatenate([block.lengths for block in blocks])[order],
        written=None,
    )


def _from(block: MessageBlock, time_ns: int) -> MessageBlock:
    if not len(block) or block.log_times_ns[0] >= time_ns:
        return block
    return block.select(slice(int(block.log_times_ns.searchsorted(time_ns)), None))


def read_ahead(
    segments: Sequence[Segment],
) -> Generator[tuple[Segment, Iterator[ChannelBlocks]], None, None]:
    """Yield the segments with what they hold; small ones are read while others are worked on."""
    coming: deque[Future[_Read] | None] = deque()
    pool = ThreadPoolExecutor(READERS)
    try:
        for number, segment in enumerate(segments):
            for each in segments[number + len(coming) : number + 1 + READERS]:
                coming.append(pool.submit(_read, each) if each.is_small else None)
            reading = coming.popleft()
            yield segment, segment.read() if reading is None else _again(*reading.result())
    finally:
        # Python may close a reading that was given up in any thread, also in one that begins: to
        # join another there would be for ever.
        pool.shutdown(wait=False, cancel_futures=True)


def _read(segment: Segment) -> _Read:
    """Read a segment whole, up to what is damaged."""
    found: list[ChannelBlocks] = []
    try:
        for each in segment.read():
            found.append(each)
    except DAMAGE as cause:
        return found, cause
    return found, None


def _again(found: Sequence[ChannelBlocks], damage: Exception | None) -> Iterator[ChannelBlocks]:
    """Yield and raise in this thread what was read in another."""
    yield from found
    if damage is not None:
        raise damage
