"""What sqlite left beside a file that was not closed: its write-ahead log or its journal.

Source: https://www.sqlite.org/fileformat2.html, section 4, "The Write-Ahead Log".
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.storage.bounded_file import BoundedFile
from dql_ros.bag.storage.damage import DamageError

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
# The last bit says whether the checksums take the words as big-endian.
_MAGIC = 0x377F0682
# How a journal begins whose transaction was not finished.
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


@dataclass(frozen=True)
class LogState:
    """How far a write-ahead log is good.

    Attributes:
        committed_bytes: Up to the end of its last whole transaction.
        lost_bytes: What belongs to a transaction that was not finished, or is damaged.
    """

    committed_bytes: int
    lost_bytes: int


def side_files(path: Path) -> list[Path]:
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


def merged_copy(path: Path, folder: Path) -> Path:
    """Copy a file and let sqlite work what lies beside it into the copy.

    Returns:
        The copy, which needs nothing beside it.

    Raises:
        sqlite3.Error: If sqlite finds the files damaged.
    """
    copy = folder / path.name
    for file in (path, *side_files(path)):
        shutil.copyfile(file, folder / file.name)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    return copy


def look_at_log(path: Path) -> LogState:
    """Follow a write-ahead log's checksums, which sqlite stops at without a word.

    Frames of an earlier round, which have other salts, are what the log was overwriting: they
    are neither good nor lost.

    Raises:
        DamageError: If the log has no valid header.
    """
    with BoundedFile(path) as file:
        raw = file.read(0, min(file.size, _HEADER.size))
        if len(raw) < _HEADER.size:
            return LogState(0, file.size)
        magic, _, page_size, _, *salts, first, second = _HEADER.unpack(raw)
        if magic & ~1 != _MAGIC or page_size not in {1 << shift for shift in range(9, 17)}:
            raise DamageError(f"has a write-ahead log ({path.name}) without a valid header")
        words = np.dtype(">u4" if magic & 1 else "<u4")
        sums = _Checksum(page_size, words)
        if sums.after(np.zeros(2, np.uint32), raw[:24]) != (first, second):
            raise DamageError(f"has a write-ahead log ({path.name}) with a wrong checksum")
        return _follow(file, page_size, (salts[0], salts[1]), sums, (first, second))


def _follow(
    file: BoundedFile,
    page_size: int,
    salts: tuple[int, int],
    sums: _Checksum,
    state: tuple[int, int],
) -> LogState:
    offset = committed = _HEADER.size
    frame_bytes = _FRAME.size + page_size
    while offset + frame_bytes <= file.size:
        frame = file.read(offset, frame_bytes)
        _, pages, salt1, salt2, first, second = _FRAME.unpack_from(frame)
        if (salt1, salt2) != salts:
            return LogState(committed, offset - committed)
        state = sums.after(np.array(state, np.uint32), frame[:8] + frame[_FRAME.size :])
        if state != (first, second):
            break
        offset += frame_bytes
        committed = offset if pages else committed
    return LogState(committed, file.size - committed)


class _Checksum:
    """The log's checksum: s0 += x[i] + s1; s1 += x[i+1] + s0, modulo 2^32.

    Being linear, it is a sum of all words with fixed weights.
    """

    def __init__(self, page_size: int, words: np.dtype[np.uint32]) -> None:
        self._words = words
        steps = (page_size + 8) // 8
        # powers[k]: what k steps make of the state, as a matrix of shape (2, 2).
        powers = [np.eye(2, dtype=np.uint32)]
        step = np.array([[1, 1], [1, 2]], np.uint32)
        for _ in range(steps):
            powers.append(step @ powers[-1])
        self._powers: NDArray[np.uint32] = np.array(powers)

    def after(self, state: NDArray[np.uint32], content: bytes) -> tuple[int, int]:
        """Return the state after eight bytes times so many steps."""
        pairs = np.frombuffer(content, self._words).astype(np.uint32).reshape(-1, 2)
        steps = len(pairs)
        # One step maps (s0, s1) to (s0 + s1 + x, s0 + 2 s1 + x + y).
        inputs = np.stack([pairs[:, 0], pairs[:, 0] + pairs[:, 1]], axis=1)
        weights = self._powers[:steps][::-1]
        total = (weights * inputs[:, None, :]).sum(axis=(0, 2), dtype=np.uint32)
        total = total + self._powers[steps] @ state
        return int(total[0]), int(total[1])
