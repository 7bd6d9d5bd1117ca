"""Reads a bag's messages once, and compares their number with what the bag says.

The segments of all its files are read in the order of their times; messages that were compressed
one by one or are in ROS 1's serialisation become plain CDR.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from rosbags.typesys.store import Typestore

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
from dql_ros.codecs.block import Batch, MessageBlock

# So many bytes of messages at a time are decompressed.
BLOCK_BYTES = 1 << 24
_Blocks = tuple[tuple[Channel, MessageBlock], ...]
_Read = tuple[list[ChannelBlocks], Exception | None]
# So many threads read ahead; decompression and checksums leave the interpreter to the others.
READERS = 1


class Reading:
    """Reads topics once.

    Args:
        storages: The bag's files in their order.
        topics: The wanted topics, all of them in the bag.
        typestore: Finds the type store of a topic and type.
        stated: How many messages each topic has by those who say so, if they do.
        losses: What could not be opened.
        size_bytes: Size of the bag.
        salvage: Note what cannot be read as a loss, instead of raising it.

    Attributes:
        losses: What could not be read so far.
    """

    def __init__(
        self,
        storages: Sequence[StorageFile],
        topics: Collection[str],
        typestore: Callable[[str, str], Typestore],
        *,
        stated: Mapping[str, Mapping[str, int] | None],
        losses: Iterable[Loss],
        size_bytes: int,
        salvage: bool,
    ) -> None:
        self.losses = list(losses)
        self._storages = storages
        self._stated = stated
        self._size_bytes = size_bytes
        self._salvage = salvage
        self._topics = topics
        self._typestore = typestore
        self._read: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._complete_until_ns = -MAX_TIME_NS

    def batches(self) -> Iterator[Batch]:
        """Yield the messages, segment by segment in the order of their starts.

        Raises:
            DamageError: If the bag is damaged and not salvaged; also the libraries' own.
        """
        segments = [each for storage in self._storages for each in storage.segments(self._topics)]
        segments.sort(key=lambda segment: segment.start_ns)
        begins = [*(min(segment.start_ns, MAX_TIME_NS) for segment in segments[1:]), MAX_TIME_NS]
        total = sum(segment.size_bytes for segment in segments)
        done = 0
        for (segment, pieces), following_ns in zip(_ahead(segments), begins, strict=False):
            found: Counter[str] = Counter()
            try:
                for piece in pieces:
                    blocks, late = _in_time(piece, self._complete_until_ns)
                    for channel, block in blocks:
                        found[channel.topic] += len(block)
                    until_ns = max(self._complete_until_ns, min(piece.until_ns, following_ns))
                    done_bytes = int(self._size_bytes * (done / total if total else 1.0))
                    yield from self._in_cdr(blocks, until_ns, done_bytes)
                    if late:
                        raise DamageError(
                            f"has {late} messages before the time it says it begins at"
                        )
            except DAMAGE as cause:
                self._note(segment, found, cause)
            done += segment.size_bytes
        self._compare()
        yield Batch((), MAX_TIME_NS, self._size_bytes)

    def _in_cdr(self, blocks: _Blocks, until_ns: int, done_bytes: int) -> Iterator[Batch]:
        """Messages of a segment; those that must be worked on first are batches of their own."""
        ready = []
        for channel, block in blocks:
            lost: list[str] | None = [] if self._salvage else None
            converted = self._converter(channel, block, lost)
            if converted is None:
                ready.append(block)
                continue
            for each in converted:
                self._read[each.topic] += len(each)
                yield Batch((each,), self._complete_until_ns, done_bytes)
            if lost:
                self._lost[block.topic] += len(lost)
                name = self._storages[0].path.name
                self.losses.append(Loss(name, lost[0], len(lost), None))
        for block in ready:
            self._read[block.topic] += len(block)
        self._complete_until_ns = until_ns
        yield Batch(tuple(ready), until_ns, done_bytes)

    def _converter(
        self, channel: Channel, block: MessageBlock, lost: list[str] | None
    ) -> Iterator[MessageBlock] | None:
        if channel.encoding == "ros1":
            typestore = self._typestore(channel.topic, channel.msgtype)
            return ros1_to_cdr(block, typestore, lost)
        return decompressed(block, lost) if is_compressed(block) else None

    def _note(self, segment: Segment, found: Counter[str], cause: Exception) -> None:
        """Note a segment that could not be read wholly as a loss, or raise what is wrong."""
        if not self._salvage:
            raise DamageError(f"{segment.file}: {reason_of(cause)}") from cause
        messages = None
        if segment.counts is not None:
            missing = {topic: count - found[topic] for topic, count in segment.counts.items()}
            self._lost.update(missing)
            messages = sum(missing.values())
        span = None if segment.end_ns is None else (segment.start_ns, segment.end_ns)
        start_ns, end_ns = getattr(cause, "lost_ns", None) or span or (None, None)
        self.losses.append(
            Loss(segment.file, reason_of(cause), messages, segment.size_bytes, start_ns, end_ns)
        )

    def _compare(self) -> None:
        """Compare the numbers of messages with what metadata.yaml and the files say."""
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
        if missing == 0 or (missing < 0 and source != METADATA_NAME):
            return []  # Of a file without an end there may be more than is counted.
        reason = (
            f"{topic} has {wrong[source]} messages by {source}, but "
            f"{self._read[topic]} could be read"
        )
        return [Loss(source, reason, max(missing, 0), None)]


def is_compressed(block: MessageBlock) -> bool:
    """Whether its messages are compressed one by one, as in rosbag2's ``message`` mode.

    CDR begins with a zero byte, so that no message is taken for a compressed one.
    """
    filled = block.starts[block.lengths >= len(ZSTD_MAGIC)]
    return bool(len(filled)) and bool((block.data[filled] == ZSTD_MAGIC[0]).any())


def decompressed(block: MessageBlock, lost: list[str] | None) -> Iterator[MessageBlock]:
    """Yield a block's messages without their own compression, in blocks that are not large.

    Args:
        block: Messages as recorded.
        lost: Takes the reason for each message that is left out; ``None`` to raise it.

    Raises:
        DamageError: If one is not so compressed, and ``lost`` is ``None``.
    """
    return _converted(block, _decompressed, lost)


def ros1_to_cdr(
    block: MessageBlock, typestore: Typestore, lost: list[str] | None
) -> Iterator[MessageBlock]:
    """Yield a block of ROS 1 messages in CDR, in blocks that are not large.

    Args:
        block: Messages in ROS 1's serialisation.
        typestore: Knows their type.
        lost: Takes the reason for each message that is left out; ``None`` to raise it.

    Raises:
        DamageError: If a message does not fit its type, and ``lost`` is ``None``.
    """
    return _converted(
        block, lambda payload: bytes(typestore.ros1_to_cdr(payload, block.msgtype)), lost
    )


def _decompressed(payload: memoryview) -> bytes:
    if payload[: len(ZSTD_MAGIC)] == ZSTD_MAGIC:
        return decompress_message(payload)
    if len(payload) and payload[0] == 0:
        return bytes(payload)
    raise DamageError("it is neither CDR nor compressed CDR")


def _converted(
    block: MessageBlock, convert: Callable[[memoryview], bytes], lost: list[str] | None
) -> Iterator[MessageBlock]:
    payloads: list[bytes] = []
    kept: list[int] = []
    size = 0
    for index in range(len(block)):
        try:
            payload = convert(memoryview(block.payload(index)))
        except DAMAGE as cause:
            reason = f"a message of {block.topic} is no valid {block.msgtype} ({reason_of(cause)})"
            if lost is None:
                raise DamageError(reason) from cause
            lost.append(reason)
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
    )


def _in_time(piece: ChannelBlocks, from_ns: int) -> tuple[_Blocks, int]:
    """A segment's blocks without messages from before a time, and how many of those there were."""
    kept = tuple((channel, _from(block, from_ns)) for channel, block in piece.blocks)
    late = sum(len(block) for _, block in piece.blocks) - sum(len(block) for _, block in kept)
    return tuple((channel, block) for channel, block in kept if len(block)), late


def _from(block: MessageBlock, time_ns: int) -> MessageBlock:
    if not len(block) or block.log_times_ns[0] >= time_ns:
        return block
    first = int(block.log_times_ns.searchsorted(time_ns))
    return replace(
        block,
        log_times_ns=block.log_times_ns[first:],
        starts=block.starts[first:],
        lengths=block.lengths[first:],
    )


def _ahead(segments: Sequence[Segment]) -> Iterator[tuple[Segment, Iterator[ChannelBlocks]]]:
    """Yield the segments with what they hold; small ones are read while others are worked on."""
    coming: deque[Future[_Read] | None] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for number, segment in enumerate(segments):
            for each in segments[number + len(coming) : number + 1 + READERS]:
                coming.append(pool.submit(_read, each) if each.is_small else None)
            reading = coming.popleft()
            yield segment, segment.read() if reading is None else _again(*reading.result())


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
