"""Blocks of messages in plain CDR: decompressed, of ROS 2's serialisation, and all of their type.

Messages that were compressed one by one, are in ROS 1's serialisation or in a rarer form of CDR
are written anew. In a damaged bag, those that are no message of their type are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from dql_core.errors import BagError
from dql_ros.bag.storage.definitions import BagTypes, UndefinedTypeError
from dql_ros.bag.storage.io import ZSTD_MAGIC, decompress_message
from dql_ros.bag.storage.storage import DAMAGE, Channel, DamageError, reason_of
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import DamageFinder
from dql_ros.codecs.cdr_layout import MAX_PADDING

# So many bytes of messages at a time are decompressed.
BLOCK_BYTES = 1 << 24
# A message without a field.
EMPTY = b"\0\1\0\0\0"
# The second byte of a message in CDR.
BIG_ENDIAN = b"\0"


class PlainBlocks:
    """Makes plain CDR of blocks.

    Args:
        typestore: Finds the types of a topic and type, or raises a `BagError`.
        unreadable: By topic, why its messages cannot be decoded: they stay as recorded, and so do
            those of which this turns out; ``None`` to raise it.
    """

    def __init__(
        self, typestore: Callable[[str, str], BagTypes], unreadable: dict[str, str] | None
    ) -> None:
        self._typestore = typestore
        self._unreadable = unreadable
        self._types: dict[tuple[str, str], BagTypes | None] = {}
        self._finders: dict[tuple[str, str], DamageFinder] = {}

    def of(
        self, channel: Channel, block: MessageBlock, lost: dict[int, str] | None
    ) -> MessageBlock | Iterable[MessageBlock]:
        """Return a block's messages in plain CDR: a block, or several where they were converted.

        Args:
            channel: Where the messages come from.
            block: The messages.
            lost: Takes, by its place in the block, why a message is left out: it is none of its
                type. It is complete when all blocks were taken. ``None`` to leave out none.

        Raises:
            DamageError: If a message that must be converted is none of its type, and ``lost`` is
                ``None``.
        """
        topic, unreadable = channel.topic, self._unreadable
        if unreadable is None:
            return self._plain(channel, block, lost)
        if topic not in unreadable and self._lacks_fields(channel, block):
            unreadable[topic] = str(UndefinedTypeError(channel.msgtype))
        if topic in unreadable:
            return block
        try:
            plain = self._plain(channel, block, lost)
            return plain if isinstance(plain, MessageBlock) else list(plain)
        except BagError as cause:
            unreadable[topic] = str(cause)
        except DamageError as cause:
            unreadable[topic] = f"{cause}; --salvage leaves it out"
        return block

    def _plain(
        self, channel: Channel, block: MessageBlock, lost: dict[int, str] | None
    ) -> MessageBlock | Iterable[MessageBlock]:
        conversion = self._conversion(channel, block)
        if conversion is None:
            return self._intact(channel, block, lost)
        return self._converted(channel, block, conversion, lost)

    def _converted(
        self,
        channel: Channel,
        block: MessageBlock,
        conversion: Callable[[memoryview], bytes],
        lost: dict[int, str] | None,
    ) -> Iterator[MessageBlock]:
        """The messages as they are converted, and of these those that are of their type."""
        for places, each in converted(block, conversion, lost):
            damaged: dict[int, str] | None = None if lost is None else {}
            intact = self._intact(channel, each, damaged)
            if lost is not None and damaged:
                lost.update({places[index]: reason for index, reason in damaged.items()})
            if len(intact):
                yield intact

    def _intact(
        self, channel: Channel, block: MessageBlock, lost: dict[int, str] | None
    ) -> MessageBlock:
        """The messages that are of their type, where those that are not are left out."""
        types = None if lost is None else self._types_of(channel.topic, channel.msgtype)
        if lost is None or types is None or types.is_fieldless:
            return block
        key = channel.topic, channel.msgtype
        if key not in self._finders:
            self._finders[key] = DamageFinder(*key, types)
        damaged = self._finders[key].damaged(block)
        if not damaged:
            return block
        lost.update({index: _reason(block, text) for index, text in damaged.items()})
        kept = np.ones(len(block), bool)
        kept[list(damaged)] = False
        return block.select(kept)

    def _conversion(
        self, channel: Channel, block: MessageBlock
    ) -> Callable[[memoryview], bytes] | None:
        """What makes plain CDR of a message; ``None`` if all of a block's are."""
        name, msgtype = channel.topic, channel.msgtype
        if channel.encoding == "ros1":
            of_ros1 = self._typestore(name, msgtype)
            if of_ros1.is_fieldless:
                return lambda _: EMPTY
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

    def _lacks_fields(self, channel: Channel, block: MessageBlock) -> bool:
        """Whether messages hold something, and by the bag's definition of their type nothing."""
        types = self._types_of(channel.topic, channel.msgtype)
        smallest = 0 if channel.encoding == "ros1" else len(EMPTY) + MAX_PADDING
        return types is not None and types.is_fieldless and bool((block.lengths > smallest).any())

    def _types_of(self, topic: str, msgtype: str) -> BagTypes | None:
        """The types of messages in CDR; ``None`` if nobody knows them, nor needs to."""
        key = topic, msgtype
        if key not in self._types:
            try:
                self._types[key] = self._typestore(topic, msgtype)
            except BagError:
                self._types[key] = None
        return self._types[key]


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
    block: MessageBlock, conversion: Callable[[memoryview], bytes], lost: dict[int, str] | None
) -> Iterator[tuple[list[int], MessageBlock]]:
    """Yield a block's messages in another form, in blocks that are not large.

    Args:
        block: Messages as recorded.
        conversion: Makes another form of one.
        lost: Takes, by its place in the block, why a message is left out; ``None`` to raise it.

    Yields:
        Places in the block, and what is made of the messages there.

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
            reason = _reason(block, reason_of(cause))
            if lost is None:
                raise DamageError(reason) from cause
            lost[index] = reason
            continue
        payloads.append(payload)
        kept.append(index)
        size += len(payload)
        if size >= BLOCK_BYTES:
            yield kept, _block(block, kept, payloads)
            payloads, kept, size = [], [], 0
    if payloads:
        yield kept, _block(block, kept, payloads)


def _reason(block: MessageBlock, text: str) -> str:
    return f"a message of {block.topic} is no valid {block.msgtype} ({text})"


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
