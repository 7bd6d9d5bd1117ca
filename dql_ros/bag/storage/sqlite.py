"""sqlite files: one segment each, read in the order of the time stamps.

A file that was not closed has a write-ahead log or a journal beside it, which sqlite works into a
copy.

Sources: the tables of rosbag2_storage_sqlite3, schema versions 1 to 4; and
https://www.sqlite.org/fileformat2.html, section 4, "The Write-Ahead Log".
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import IO

import numpy as np

from dql_ros.bag.storage.io import BoundedFile
from dql_ros.bag.storage.sqlite_rows import (
    ROW_NUMBER,
    Readable,
    Window,
    blocks_of,
    readable,
    readable_rows,
    row_batches,
)
from dql_ros.bag.storage.storage import (
    Channel,
    ChannelBlocks,
    DamageError,
    Definition,
    Loss,
    Segment,
    StorageFile,
    absolute_topic,
    full_msgtype,
    reason_of,
)

MAGIC = b"SQLite format 3\0"
_TABLES = {"topics", "messages", "message_definitions", "metadata", "schema"}
# sqlite's steps are counted, so that a damaged tree that leads back into itself ends too.
_STEPS_AT_LEAST = 2_000_000
_STEPS_PER_BYTE = 100
_STEPS_BETWEEN_LOOKS = 100_000
_LOG_HEADER = struct.Struct(">8I")
_LOG_MAGIC = bytes.fromhex("377f06")
_FRAME_HEADER = struct.Struct(">6I")
# How a journal begins whose transaction was not finished.
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


class SqliteFile(StorageFile):
    """A sqlite file.

    Args:
        path: The file to read.
        name: The file as it lies in the bag, if another one is read in its place.
        salvage: Read what can be read of a damaged file.
        losses: What was lost before it was opened.
        notes: What the user should know about the file.

    Raises:
        DamageError: If it is none of rosbag2's.
        sqlite3.Error: If it is damaged.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        *,
        salvage: bool,
        losses: Sequence[Loss] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self._file = path
        self._salvage = salvage
        self.losses = losses
        self.notes = notes
        with closing(self._connect()) as connection:
            super().__init__(name, _channels(connection))
            self.metadata_text, self.distribution = _metadata(connection)

    @cached_property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last log time."""
        if self._salvage:
            windows = self._readable.windows
            if not windows:
                return None
            return min(each.start_ns for each in windows), max(each.end_ns for each in windows)
        query = "SELECT MIN(timestamp), MAX(timestamp) FROM messages"
        with closing(self._connect()) as connection:
            first, last = connection.execute(query).fetchone()
        if first is None:
            return None
        if not (isinstance(first, int) and isinstance(last, int)):
            raise DamageError(f"has time stamps that are no whole numbers: {first!r}, {last!r}")
        return first, last

    def counts(self) -> Mapping[str, int]:
        """Messages of each topic, counted by sqlite."""
        counts = {channel.topic: 0 for channel in self.channels.values()}
        query = "SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"
        if len(self.channels) == 1:
            # The same without a look at the rows, so that it takes a moment instead of a scan.
            query = f"SELECT {next(iter(self.channels))}, COUNT(*) FROM messages"
        with closing(self._connect()) as connection:
            rows = connection.execute(query)
            for number, count in rows:
                if number not in self.channels:
                    raise DamageError(f"has {count} messages of topic {number!r}, which it lacks")
                counts[self.channels[number].topic] += count
        return counts

    def segments(self, topics: Collection[str]) -> list[Segment]:
        """The whole file, or windows of its rows if it is salvaged."""
        wanted = self.wanted(topics)
        size, name = self._file.stat().st_size, self.path.name
        if not wanted or self.span_ns is None:
            return []
        if not self._salvage:
            return [Segment(self.span_ns[0], size, None, partial(self._read, wanted), name)]
        windows = self._readable.windows
        segments = [
            Segment(
                window.start_ns,
                size // len(windows),
                None,
                partial(self._read_window, window, wanted),
                name,
                end_ns=window.end_ns,
                place=window.after,
            )
            for window in windows
        ]
        if self._readable.damage:
            start_ns = self._readable.lost_ns[0]
            segments.append(Segment(start_ns, 0, None, self._raise_damage, name))
        return segments

    @cached_property
    def _readable(self) -> Readable:
        with closing(self._connect()) as connection:
            return readable(connection)

    def _raise_damage(self) -> Iterator[ChannelBlocks]:
        raise DamageError(self._readable.damage, self._readable.lost_ns)
        yield ChannelBlocks(())

    def _connect(self) -> sqlite3.Connection:
        """Open the file for reading, without locks and with an end to every query."""
        uri = f"{self._file.resolve().as_uri()}?mode=ro&immutable=1"
        # One thread at a time uses it; a reading that is given up may be closed by any thread, the
        # one in which garbage is collected.
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        left = _STEPS_AT_LEAST + _STEPS_PER_BYTE * self._file.stat().st_size

        def look() -> bool:
            nonlocal left
            left -= _STEPS_BETWEEN_LOOKS
            return left < 0

        connection.set_progress_handler(look, _STEPS_BETWEEN_LOOKS)
        # The remarks of a definition may be in any encoding.
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        if self._salvage:
            # Else sqlite refuses a file that is shorter than it says; it is opened for reading.
            connection.execute("PRAGMA writable_schema=ON")
        connection.execute("PRAGMA trusted_schema=OFF")  # the file calls no functions
        return connection

    def _read(self, wanted: Mapping[int, Channel]) -> Iterator[ChannelBlocks]:
        which = "" if len(wanted) == len(self.channels) else _is_in("topic_id", wanted)
        columns = "topic_id, timestamp, data, rowid"
        query = f"SELECT {columns} FROM messages {which} ORDER BY timestamp, rowid"
        with closing(self._connect()) as connection:
            for rows in row_batches(connection.execute(query)):
                numbers = np.fromiter(map(ROW_NUMBER, rows), np.int64, len(rows))
                yield ChannelBlocks(blocks_of(rows, wanted, numbers), until_ns=rows[-1][1])

    def _read_window(
        self, window: Window, wanted: Mapping[int, Channel]
    ) -> Iterator[ChannelBlocks]:
        with closing(self._connect()) as connection:
            rows, lost, lost_ns = readable_rows(connection, window)
        if rows:
            yield ChannelBlocks(blocks_of([row for row in rows if row[0] in wanted], wanted))
        if lost:
            reason = f"has {lost} rows that cannot be read after row {window.after}"
            raise DamageError(reason, lost_ns)


def open_file(path: Path, name: Path, folder: Callable[[], Path], salvage: bool) -> SqliteFile:
    """Open a file with what the recorder left beside it; see `FORMATS`."""
    if not _side_files(path):
        return SqliteFile(path, name, salvage=salvage)
    try:
        copy, unfinished = _merged_copy(path, folder())
    except sqlite3.Error as cause:
        if not salvage:
            raise
        reason = (
            f"cannot be worked into {path.name}, which is read without it ({reason_of(cause)})"
        )
        lost = [Loss(file.name, reason, None, file.stat().st_size) for file in _side_files(path)]
        return SqliteFile(path, name, salvage=salvage, losses=lost)
    losses = [
        Loss(file.name, f"{lost} bytes of it belong to no finished transaction", None, lost)
        for file, lost in unfinished.items()
        if lost
    ]
    if losses and not salvage:
        raise DamageError(
            f"was not closed by the recorder, and of {losses[0].file} {losses[0].reason}"
        )
    note = f"{name.name}: read with {', '.join(file.name for file in unfinished)}, which it needs"
    return SqliteFile(copy, name, salvage=salvage, losses=losses, notes=[note])


def _is_in(column: str, numbers: Collection[int]) -> str:
    return f"WHERE {column} IN ({', '.join(str(int(number)) for number in numbers)})"


def _channels(connection: sqlite3.Connection) -> dict[int, Channel]:
    tables = dict(
        connection.execute("SELECT name, sql FROM sqlite_master WHERE type='table'").fetchall()
    )
    if missing := {"topics", "messages"} - tables.keys():
        raise DamageError(f"has no table {' and no table '.join(sorted(missing))}")
    for name in tables.keys() & _TABLES:
        _require_plain(connection, name, str(tables[name]))
    definitions: dict[str, Definition] = {}
    if "message_definitions" in tables:
        query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
        definitions = {
            full_msgtype(str(name)): Definition(str(encoding), str(text))
            for name, encoding, text in connection.execute(query)
        }
    channels = {}
    for number, topic, msgtype, encoding in connection.execute(
        "SELECT id, name, type, serialization_format FROM topics"
    ):
        if not (isinstance(number, int) and isinstance(topic, str) and isinstance(msgtype, str)):
            raise DamageError(f"has a topic {topic!r} of type {msgtype!r}")
        name = full_msgtype(msgtype)
        # rosbag2 files the events of a service under the service's own name.
        filed = name if name in definitions else name.removesuffix("_Event")
        definition = definitions.get(filed, Definition())
        channels[number] = Channel(absolute_topic(topic), name, str(encoding), definition)
    return channels


def _require_plain(connection: sqlite3.Connection, name: str, sql: str) -> None:
    """Refuse a table whose rows are made by code or out of nothing instead of being stored."""
    hidden = [row[6] for row in connection.execute(f"PRAGMA table_xinfo({name})")]
    if not sql.upper().startswith("CREATE TABLE") or any(hidden):
        raise DamageError(f"has a table {name} that is virtual or has generated columns")


def _metadata(connection: sqlite3.Connection) -> tuple[str | None, str]:
    """The bag's metadata and the distribution, which files since Iron carry."""
    text: str | None = None
    distribution = ""
    try:
        for (value,) in connection.execute("SELECT metadata FROM metadata ORDER BY id"):
            text = str(value)
        for (value,) in connection.execute("SELECT ros_distro FROM schema"):
            distribution = str(value)
    except sqlite3.OperationalError:
        pass  # Older files have no such tables.
    return text, distribution


def _side_files(path: Path) -> list[Path]:
    """Return the side files of a sqlite file that hold something it needs.

    Raises:
        DamageError: If one is a link, or would lead sqlite to another file.
    """
    log = path.with_name(path.name + "-wal")
    journal = path.with_name(path.name + "-journal")
    for file in (log, journal):
        if file.is_symlink():
            raise DamageError(f"has a {file.name} that is a link; only files beside it are read")
    found = [log] if log.is_file() and log.stat().st_size > 0 else []
    if journal.is_file():
        with journal.open("rb") as stream:
            if stream.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC:
                _require_no_super_journal(journal, stream)
                found.append(journal)
    return found


def _require_no_super_journal(journal: Path, stream: IO[bytes]) -> None:
    """Refuse a journal that belongs to a transaction over several files.

    It ends with the name of a further journal, any file, which sqlite would read and then delete.
    """
    if stream.seek(0, os.SEEK_END) > len(_JOURNAL_MAGIC):
        stream.seek(-len(_JOURNAL_MAGIC), os.SEEK_END)
        if stream.read() == _JOURNAL_MAGIC:
            raise DamageError(f"has a journal ({journal.name}) that names another file to delete")


def _merged_copy(path: Path, folder: Path) -> tuple[Path, dict[Path, int]]:
    """Copy a file and let sqlite work what lies beside it into the copy.

    Returns:
        The copy, which needs nothing beside it; and of each file beside the original how many
        bytes belong to no finished transaction.

    Raises:
        sqlite3.Error: If sqlite finds the files damaged.
    """
    copy, beside = folder / path.name, _side_files(path)
    for file in (path, *beside):
        shutil.copyfile(file, folder / file.name)
    with closing(sqlite3.connect(copy)) as connection:
        ((_, frames, _),) = connection.execute("PRAGMA wal_checkpoint").fetchall()
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    return copy, {
        file: _unfinished_bytes(file, frames)
        if file.name.endswith("-wal")
        else file.stat().st_size
        for file in beside
    }


def _unfinished_bytes(log: Path, frames: int) -> int:
    """Bytes of a write-ahead log behind its finished frames, at which sqlite stops without a word.

    Frames of an earlier round, which have other salts, are what the log was overwriting: they
    are not lost.
    """
    with BoundedFile(log) as file:
        header = file.read(0, min(file.size, _LOG_HEADER.size))
        if len(header) < _LOG_HEADER.size or header[:3] != _LOG_MAGIC:
            return file.size
        _, _, page_size, _, *salts, _, _ = _LOG_HEADER.unpack(header)
        frame_bytes = int(_FRAME_HEADER.size + page_size)
        begin = end = _LOG_HEADER.size + max(frames, 0) * frame_bytes
        while end + _FRAME_HEADER.size <= file.size:
            _, _, *its_salts, _, _ = _FRAME_HEADER.unpack(file.read(end, _FRAME_HEADER.size))
            if its_salts != salts:
                break
            end += frame_bytes
        return max(min(end, file.size) - begin, 0)
