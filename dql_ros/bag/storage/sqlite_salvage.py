"""The rows of a damaged sqlite file that can still be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from dql_ros.bag.storage.damage import DAMAGE
from dql_ros.bag.storage.sqlite_rows import BATCH_BYTES, Row

WINDOW_ROWS = 1024

_COLUMNS = "SELECT topic_id, timestamp, data FROM messages"
_PLACES = "SELECT rowid, timestamp, LENGTH(data) FROM messages"
# Row number, time stamp and payload's length.
_Place = tuple[int, int, int]
_NO_ROW: Row = (-1, 0, None)  # type: ignore[assignment]  # never sound


class Window(NamedTuple):
    """Neighbouring rows, in the order in which they were written.

    Attributes:
        after: The row before the first.
        last: The last row.
        start_ns: Least time stamp.
        end_ns: Greatest time stamp.
    """

    after: int
    last: int
    start_ns: int
    end_ns: int


def readable_windows(connection: sqlite3.Connection) -> Iterator[Window]:
    """Yield windows over all rows that can be reached, from both ends towards the damage."""
    reached: int | None = None
    for rows, is_last in _stretches(connection, "ORDER BY rowid"):
        if window := _window(rows):
            yield window
        reached = rows[-1][0] if rows else reached
        if is_last:
            return
    after = f"WHERE rowid > {reached} " if reached is not None else ""
    for rows, _ in _stretches(connection, f"{after}ORDER BY rowid DESC"):
        if window := _window(rows[::-1]):
            yield window


def readable_rows(connection: sqlite3.Connection, window: Window) -> tuple[list[Row], int]:
    """Return a window's readable rows in their order, and how many cannot be read."""
    where = f"WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT {WINDOW_ROWS}"
    bounds = (window.after, window.last)
    try:
        rows = connection.execute(f"{_COLUMNS} {where}", bounds).fetchall()
    except DAMAGE:
        rows = []
        query = f"SELECT rowid FROM messages {where}"
        for (number,) in connection.execute(query, bounds).fetchall():
            rows.append(_row(connection, number))
    sound = [row for row in rows if _is_sound(row)]
    return sound, len(rows) - len(sound)


def _row(connection: sqlite3.Connection, number: int) -> Row:
    try:
        row: Row = connection.execute(f"{_COLUMNS} WHERE rowid = ?", (number,)).fetchone()
    except DAMAGE:
        return _NO_ROW
    return row or _NO_ROW


def _stretches(connection: sqlite3.Connection, order: str) -> Iterator[tuple[list[_Place], bool]]:
    """Rows in windows up to the first that cannot be reached; whether the end was, with them."""
    rows: list[_Place] = []
    size = 0
    step = -1 if order.endswith("DESC") else 1
    try:
        for place in connection.execute(f"{_PLACES} {order}"):
            if rows and (place[0] - rows[-1][0]) * step <= 0:
                break  # The tree leads back into itself.
            rows.append(place)
            size += place[2] or 0
            if len(rows) >= WINDOW_ROWS or size >= BATCH_BYTES:
                yield rows, False
                rows, size = [], 0
        else:
            yield rows, True
            return
    except DAMAGE:
        pass  # Told as a loss of the rows between both ends.
    yield rows, False


def _window(rows: list[_Place]) -> Window | None:
    times = [time_ns for _, time_ns, _ in rows if isinstance(time_ns, int)]
    return Window(rows[0][0] - 1, rows[-1][0], min(times), max(times)) if times else None


def _is_sound(row: tuple[object, object, object]) -> bool:
    number, time_ns, payload = row
    return isinstance(number, int) and isinstance(time_ns, int) and isinstance(payload, bytes)
