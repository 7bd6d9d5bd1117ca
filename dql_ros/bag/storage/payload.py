"""Serialised messages as every reader wants them: each decompressed, and in CDR."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from rosbags.typesys.store import Typestore

from dql_ros.bag.block import MessageBlock
from dql_ros.bag.storage.damage import DAMAGE, DamageError, sentence
from dql_ros.bag.storage.decompress import ZSTD_MAGIC, decompress_message

# So many bytes of messages at a time are decompressed.
PIECE_BYTES = 1 << 24


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
            reason = f"a message of {block.topic} is no valid {block.msgtype} ({sentence(cause)})"
            if lost is None:
                raise DamageError(reason) from cause
            lost.append(reason)
            continue
        payloads.append(payload)
        kept.append(index)
        size += len(payload)
        if size >= PIECE_BYTES:
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
