"""Rows of a messages table as blocks, and those of a damaged file that can still be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.storage.storage import DAMAGE, MAX_TIME_NS, Channel, DamageError
from dql_ros.codecs.block import MessageBlock

# Topic number, time stamp in ns, payload.
Row = tuple[int, int, bytes]
BATCH_ROWS = 8192
BATCH_BYTES = 4 << 20
# So few rows are asked for at a time that even large images do not fill the memory.
_STEP_ROWS = 32
_PAYLOAD, ROW_NUMBER = itemgetter(2), itemgetter(3)
WINDOW_ROWS = 1024
_COLUMNS = "SELECT topic_id, timestamp, data FROM messages"
_PLACES = "SELECT rowid, timestamp, LENGTH(data) FROM messages"
# Row number, time stamp and payload's length.
_Place = tuple[int, int, int]
_NO_ROW: Row = (-1, 0, None)  # type: ignore[assignment]  # never sound


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
    rows: Sequence[Row],
    channels: Mapping[int, Channel],
    written: NDArray[np.int64] | None = None,
) -> tuple[tuple[Channel, MessageBlock], ...]:
    """Return rows as blocks by channel, each in the order of the log times.

    Args:
        rows: Rows of the channels, those of equal times in the order of the recording.
        channels: Channels by topic number.
        written: Numbers that ascend in the order of the recording; ``None`` if the rows do.

    Raises:
        DamageError: If a time stamp or a payload is none.
    """
    if not rows:
        return ()
    numbers, times, payloads, *_ = zip(*rows, strict=True)
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
            mine = mine[np.argsort(log_times[mine], kind="stable")]
            order = mine if written is None else written[mine]
            block = MessageBlock(
                channel.topic,
                channel.msgtype,
                log_times[mine],
                data,
                starts[mine],
                lengths[mine],
                order,
            )
            blocks.append((channel, block))
    return tuple(blocks)


class Window(NamedTuple):
    """Neighbouring rows, in the order in which they were written.

    Attributes:
        after: The row before the first.
        last: The last row.
        size: How many there are, with those that are damaged.
        start_ns: Least time stamp.
        end_ns: Greatest time stamp.
    """

    after: int
    last: int
    size: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Readable:
    """What can be reached of a file.

    Attributes:
        windows: All rows that can be.
        damage: Which rows cannot; empty if all can.
        lost_ns: The first and the last time at which such a row may have been received.
    """

    windows: tuple[Window, ...]
    damage: str = ""
    lost_ns: tuple[int, int] = (0, MAX_TIME_NS)


def readable(connection: sqlite3.Connection) -> Readable:
    """Find the rows that can be reached, from both ends towards the damage."""
    windows, is_all = _windows(connection, "ORDER BY rowid")
    if is_all:
        return Readable(windows)
    last = windows[-1].last if windows else None
    after = f"WHERE rowid > {last} " if windows else ""
    behind, _ = _windows(connection, f"{after}ORDER BY rowid DESC")
    first = behind[-1].after + 1 if behind else None
    return Readable(
        (*windows, *behind),
        f"the rows after row {last or 'none'} and before row {first or 'none'} cannot be reached",
        (
            max((window.end_ns + 1 for window in windows), default=0),
            min((window.start_ns - 1 for window in behind), default=MAX_TIME_NS),
        ),
    )


def readable_rows(
    connection: sqlite3.Connection, window: Window
) -> tuple[list[Row], int, tuple[int, int]]:
    """Return a window's readable rows in their order, how many cannot be read, and their time."""
    # Behind the last row may lie a page that cannot be read, and so may an index.
    where = "NOT INDEXED WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
    bounds = (window.after, window.last, window.size)
    try:
        rows = connection.execute(f"{_COLUMNS} {where}", bounds).fetchall()
    except DAMAGE:
        rows = []
        query = f"SELECT rowid FROM messages {where}"
        for (number,) in connection.execute(query, bounds).fetchall():
            rows.append(_row(connection, number))
    rows = [
        _NO_ROW if _is_stray(before) and row[2] and row[2][-1:] == b"\0" else row
        for before, row in zip([_NO_ROW[:1], *rows], rows, strict=False)
    ]
    sound = [row for row in rows if _is_sound(row)]
    return sound, len(rows) - len(sound), _lost_ns(rows, window)


def _is_stray(row: Sequence[object]) -> bool:
    """Whether it is made of zeros, with which sqlite fills a page up that is cut off.

    The cut may go through the row behind it, whose content then ends with zeros.
    """
    return len(row) == len(_NO_ROW) and row[1] is None


def _lost_ns(rows: Sequence[Row], window: Window) -> tuple[int, int]:
    """The first and the last time at which a row that is not sound may have been received."""
    lost = [index for index, row in enumerate(rows) if not _is_sound(row)]
    if not lost:
        return window.start_ns, window.end_ns
    first, last = lost[0], lost[-1]
    return (
        rows[first - 1][1] + 1 if first else window.start_ns,
        rows[last + 1][1] - 1 if last + 1 < len(rows) else window.end_ns,
    )


def _row(connection: sqlite3.Connection, number: int) -> Row:
    try:
        row: Row = connection.execute(f"{_COLUMNS} WHERE rowid = ?", (number,)).fetchone()
    except DAMAGE:
        return _NO_ROW
    return row or _NO_ROW


def _windows(connection: sqlite3.Connection, order: str) -> tuple[tuple[Window, ...], bool]:
    """Rows in windows up to the first that cannot be reached, and whether all could."""
    windows: list[Window | None] = []
    rows: list[_Place] = []
    size = 0
    before: int | None = None
    step = -1 if order.endswith("DESC") else 1
    strays = 0
    is_all = False
    try:
        for place in connection.execute(f"{_PLACES} {order}"):
            if before is not None and (place[0] - before) * step <= 0:
                strays += 1  # Of a page that is not whole, or the tree leads back into itself.
                if strays == WINDOW_ROWS:
                    break
                continue
            before = place[0]
            rows.append(place)
            size += place[2] or 0
            if len(rows) >= WINDOW_ROWS or size >= BATCH_BYTES:
                windows.append(_window(rows[::step], strays))
                rows, size, strays = [], 0, 0
        else:
            is_all = True
    except DAMAGE:
        pass  # Reported by the caller as rows that cannot be reached.
    windows.append(_window(rows[::step], strays))
    return tuple(window for window in windows if window is not None), is_all


def _window(rows: list[_Place], strays: int) -> Window | None:
    """Ascending rows, and those between them that are none, as a window, if they have a time."""
    times = [time_ns for _, time_ns, _ in rows if isinstance(time_ns, int)]
    if not times:
        return None
    count = len(rows) + strays
    return Window(rows[0][0] - 1, rows[-1][0], count, min(times), max(times))


def _is_sound(row: tuple[object, object, object]) -> bool:
    number, time_ns, payload = row
    return isinstance(number, int) and isinstance(time_ns, int) and isinstance(payload, bytes)
