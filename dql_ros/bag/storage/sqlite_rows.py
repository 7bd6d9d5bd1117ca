"""Rows of a messages table into blocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.block import MessageBlock
from dql_ros.bag.storage.damage import DamageError
from dql_ros.bag.storage.part import Channel

# Topic number, time stamp in ns, payload.
Row = tuple[int, int, bytes]

BATCH_ROWS = 8192
BATCH_BYTES = 4 << 20
# So few rows are asked for at a time that even large images do not fill the memory.
_STEP_ROWS = 32
_PAYLOAD = itemgetter(2)


def row_batches(cursor: sqlite3.Cursor) -> Iterator[list[Row]]:
    """Yield a query's rows in lists that are neither long nor large; none is empty.

    Raises:
        TypeError: If a payload has no length.
    """
    rows: list[Row] = []
    size = 0
    while step := cursor.fetchmany(_STEP_ROWS):
        rows += step
        size += sum(map(len, map(_PAYLOAD, step)))
        if size >= BATCH_BYTES or len(rows) >= BATCH_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def blocks_of(
    rows: Sequence[Row], channels: Mapping[int, Channel]
) -> tuple[tuple[Channel, MessageBlock], ...]:
    """Return rows as blocks by channel, each in the order of the log times.

    Args:
        rows: Rows of the channels, those of equal times in the order of the recording.
        channels: Channels by topic number.

    Raises:
        DamageError: If a time stamp or a payload is none.
    """
    if not rows:
        return ()
    numbers, times, payloads = zip(*rows, strict=True)
    topics = np.array(numbers)
    log_times = np.array(times)
    if log_times.dtype != np.int64 or topics.dtype != np.int64:
        raise DamageError("has a time stamp or a topic number that is no whole number")
    try:
        data = np.frombuffer(b"".join(payloads), np.uint8)
    except TypeError as cause:
        raise DamageError("has a message without bytes") from cause
    lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
    starts = np.cumsum(lengths) - lengths
    blocks = []
    for number, channel in channels.items():
        mine = np.flatnonzero(topics == number)
        if len(mine):
            blocks.append((channel, _block(channel, mine, log_times, data, starts, lengths)))
    return tuple(blocks)


def _block(
    channel: Channel,
    mine: NDArray[np.int64],
    log_times: NDArray[np.int64],
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> MessageBlock:
    mine = mine[np.argsort(log_times[mine], kind="stable")]
    return MessageBlock(
        channel.topic, channel.msgtype, log_times[mine], data, starts[mine], lengths[mine]
    )
