"""Reads a bag's messages once, and compares their number with what the bag says.

The segments of all its files are read in the order of their times; messages that were compressed
one by one, are in ROS 1's serialisation or in a rarer form of CDR become plain CDR.
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

from dql_core.errors import BagError
from dql_ros.bag.storage.definitions import BagTypes
from dql_ros.bag.storage.folder import METADATA_NAME
from dql_ros.bag.storage.io import ZSTD_MAGIC, decompress_message
from dql_ros.bag.storage.storage import (
    DAMAGE,
    MAX_TIME_NS,
    Channel,
    ChannelBlocks,
    DamageError,
    Loss,
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

# So many bytes of messages at a time are decompressed.
BLOCK_BYTES = 1 << 24
MAX_NAMED = 4
# The second byte of a message in CDR.
BIG_ENDIAN = b"\0"
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
        self.notes: list[str] = []
        self._unreadable = unreadable
        self._parts = parts(steps)
        self._order = WrittenOrder(ChannelNumbers(storages))
        self._storages = storages
        self._stated = stated
        self._size_bytes = size_bytes
        self._salvage = salvage
        self._topics = topics
        self._typestore = typestore
        self._read: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._complete_until_ns = -MAX_TIME_NS
        self._types: dict[tuple[str, str], BagTypes | None] = {}
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
                    yield from self._in_cdr(blocks, until_ns)
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

    def _in_cdr(self, blocks: _Blocks, until_ns: int) -> Iterator[Batch]:
        """Messages of a segment; those that must be worked on first are batches of their own."""
        ready = []
        for channel, block in blocks:
            lost: list[tuple[str, int]] | None = [] if self._salvage else None
            converted = self._converted(channel, block, lost)
            if converted is None:
                ready.append(block)
                continue
            for each in converted:
                self._read[each.topic] += len(each)
                yield Batch((each,), self._complete_until_ns, self._bytes_done)
            if lost:
                self._lost[block.topic] += len(lost)
                name = self._storages[0].path.name
                (reason, start_ns), (_, end_ns) = lost[0], lost[-1]
                self.losses.append(Loss(name, reason, len(lost), None, start_ns, end_ns))
        for block in ready:
            self._read[block.topic] += len(block)
        self._complete_until_ns = until_ns
        yield Batch(tuple(ready), until_ns, self._bytes_done)

    def _converted(
        self, channel: Channel, block: MessageBlock, lost: list[tuple[str, int]] | None
    ) -> Iterable[MessageBlock] | None:
        """A block's messages in plain CDR, in blocks; ``None`` if they are as they should be."""
        if self._unreadable is None:
            conversion = self._conversion(channel, block)
            return None if conversion is None else converted(block, conversion, lost)
        if channel.topic in self._unreadable:
            return None
        try:
            conversion = self._conversion(channel, block)
            return None if conversion is None else list(converted(block, conversion, lost))
        except (BagError, DamageError) as cause:
            self._unreadable[channel.topic] = str(cause)
            return None

    def _conversion(
        self, channel: Channel, block: MessageBlock
    ) -> Callable[[memoryview], bytes] | None:
        """What makes plain CDR of a message; ``None`` if all of a block's are."""
        name, msgtype = channel.topic, channel.msgtype
        if channel.encoding == "ros1":
            of_ros1 = self._typestore(name, msgtype)
            return lambda message: bytes(of_ros1.ros1_to_cdr(message, msgtype))
        are_compressed, types = is_compressed(block), self._types_of(name, msgtype)
        are_plain = types is None or types.is_plain
        if not are_compressed and (types is None or (are_plain and not is_big_endian(block))):
            return None
        rewrite = None if types is None else types.plain_cdr(msgtype)

        def conversion(message: memoryview) -> bytes:
            cdr = _decompressed(message) if are_compressed else bytes(message)
            if rewrite is None or (are_plain and cdr[1:2] != BIG_ENDIAN):
                return cdr
            return rewrite(cdr)

        return conversion

    def _types_of(self, topic: str, msgtype: str) -> BagTypes | None:
        """The types of messages in CDR; ``None`` if nobody knows them, nor needs to."""
        key = topic, msgtype
        if key not in self._types:
            try:
                self._types[key] = self._typestore(topic, msgtype)
            except BagError:
                self._types[key] = None
        return self._types[key]

    def _note(
        self, segment: Segment, found: Counter[str], cause: Exception, shift_ns: int
    ) -> None:
        """Note a segment that could not be read wholly as a loss, or raise what is wrong."""
        if not self._salvage:
            raise DamageError(f"{segment.file}: {reason_of(cause)}") from cause
        messages = None
        if segment.counts is not None:
            missing = {topic: count - found[topic] for topic, count in segment.counts.items()}
            self._lost.update(missing)
            messages = sum(missing.values())
        span = None if segment.end_ns is None else (segment.start_ns, segment.end_ns)
        lost_ns = getattr(cause, "lost_ns", None) or span
        start_ns, end_ns = (lost_ns and (each + shift_ns for each in lost_ns)) or (None, None)
        reason, size = reason_of(cause), segment.size_bytes
        self.losses.append(Loss(segment.file, reason, messages, size, start_ns, end_ns))

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
            others = (
                f" and of {len(more) - MAX_NAMED} more topics" if len(more) > MAX_NAMED else ""
            )
            self.notes.append(
                f"{METADATA_NAME} counts fewer messages than there are: "
                f"{', '.join(more[:MAX_NAMED])}{others}"
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


def is_compressed(block: MessageBlock) -> bool:
    """Whether its messages are compressed one by one, as in rosbag2's ``message`` mode.

    CDR begins with a zero byte, so that no message is taken for a compressed one.
    """
    filled = block.starts[block.lengths >= len(ZSTD_MAGIC)]
    return bool(len(filled)) and bool((block.data[filled] == ZSTD_MAGIC[0]).any())


def is_big_endian(block: MessageBlock) -> bool:
    """Whether some of its messages are in big-endian CDR."""
    filled = block.starts[block.lengths >= 2]
    return bool(len(filled)) and bool((block.data[filled + 1] == BIG_ENDIAN[0]).any())


def _decompressed(payload: memoryview) -> bytes:
    if payload[: len(ZSTD_MAGIC)] == ZSTD_MAGIC:
        return decompress_message(payload)
    if len(payload) and payload[0] == 0:
        return bytes(payload)
    raise DamageError("it is neither CDR nor compressed CDR")


def converted(
    block: MessageBlock,
    conversion: Callable[[memoryview], bytes],
    lost: list[tuple[str, int]] | None,
) -> Iterator[MessageBlock]:
    """Yield a block's messages in another form, in blocks that are not large.

    Args:
        block: Messages as recorded.
        conversion: Makes another form of one.
        lost: Takes the reason for each message that is left out, and its log time; ``None`` to
            raise it.

    Raises:
        DamageError: If one does not fit its type, and ``lost`` is ``None``.
    """
    payloads: list[bytes] = []
    kept: list[int] = []
    size = 0
    for index in range(len(block)):
        try:
            payload = conversion(memoryview(block.payload(index)))
        except DAMAGE as cause:
            reason = f"a message of {block.topic} is no valid {block.msgtype} ({reason_of(cause)})"
            if lost is None:
                raise DamageError(reason) from cause
            lost.append((reason, int(block.log_times_ns[index])))
            continue
        payloads.append(payload)
        kept.append(index)
        size += len(payload)
        if size >= BLOCK_BYTES:
            yield _block(block, kept, payloads)
            payloads, kept, size = [], [], 0
    if payloads:
        yield _block(block, kept, payloads)


def _block(block: MessageBlock, kept: list[int], payloads: list[bytes]) -> MessageBlock:
    lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
    return MessageBlock(
        topic=block.topic,
        msgtype=block.msgtype,
        log_times_ns=block.log_times_ns[kept],
        data=np.frombuffer(b"".join(payloads), np.uint8),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        shift_ns=block.shift_ns,
    )


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
