"""Opens a file of a bag as what it is, in a temporary copy where it must be worked on first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import zstandard

from dql_ros.bag.storage import mcap_records, ros1_records
from dql_ros.bag.storage.damage import DamageError, Loss
from dql_ros.bag.storage.decompress import STEP_BYTES, ZSTD_MAGIC
from dql_ros.bag.storage.layout import COMPRESSED
from dql_ros.bag.storage.mcap_storage import McapStorage
from dql_ros.bag.storage.part import Storage
from dql_ros.bag.storage.ros1_storage import Ros1Storage
from dql_ros.bag.storage.sqlite_side_files import (
    look_at_log,
    merged_copy,
    side_files,
)
from dql_ros.bag.storage.sqlite_storage import SqliteStorage

SQLITE_MAGIC = b"SQLite format 3\0"
# A file may grow so many times, or to so many bytes if that is more; a bomb grows more.
MAX_GROWTH = 1000
MAX_GROWN_BYTES = 1 << 30


def open_storage(path: Path, folder: Callable[[], Path], *, salvage: bool) -> Storage:
    """Open a file of a bag.

    Args:
        path: The file.
        folder: Makes a folder for temporary copies.
        salvage: Read what can be read of a damaged file.

    Raises:
        DamageError: If it is damaged.
    """
    if path.stat().st_size == 0:
        raise DamageError("is empty; the recording failed")
    with path.open("rb") as stream:
        begin = stream.read(16)
    if begin.startswith(ZSTD_MAGIC) or path.name.endswith(COMPRESSED):
        inside = _decompressed(path, folder(), salvage=salvage)
        return _open(inside, path, folder, salvage=salvage)
    return _open(path, path, folder, salvage=salvage)


def _open(path: Path, name: Path, folder: Callable[[], Path], *, salvage: bool) -> Storage:
    """By how it begins; by its name where the beginning is damaged."""
    with path.open("rb") as stream:
        begin = stream.read(16)
    kinds = {
        mcap_records.MAGIC: ".mcap",
        SQLITE_MAGIC: ".db3",
        ros1_records.MAGIC: ".bag",
    }
    suffix = next((kinds[magic] for magic in kinds if begin.startswith(magic)), path.suffix)
    if suffix == ".db3":
        return _open_sqlite(path, name, folder, salvage=salvage)
    if suffix == ".bag":
        return Ros1Storage(path, salvage=salvage)
    return McapStorage(path, name, salvage=salvage)


def _open_sqlite(path: Path, name: Path, folder: Callable[[], Path], *, salvage: bool) -> Storage:
    """With what the recorder left beside it, which sqlite works into a copy."""
    beside = side_files(path)
    if not beside:
        return SqliteStorage(path, name, salvage=salvage)
    losses = []
    for file in beside:
        is_log = file.name.endswith("-wal")
        lost = look_at_log(file).lost_bytes if is_log else file.stat().st_size
        if lost:
            reason = f"{lost} bytes of it belong to no finished transaction"
            losses.append(Loss(file.name, reason, None, lost))
    if losses and not salvage:
        raise DamageError(
            f"was not closed by the recorder, and of {losses[0].file} {losses[0].reason}"
        )
    copy = merged_copy(path, folder())
    note = f"{name.name}: read with {', '.join(file.name for file in beside)}, which it needs"
    return SqliteStorage(copy, name, salvage=salvage, losses=losses, notes=[note])


def _decompressed(path: Path, folder: Path, *, salvage: bool) -> Path:
    """The file without its compression, in the temporary folder."""
    limit = max(MAX_GROWTH * path.stat().st_size, MAX_GROWN_BYTES)
    inside = folder / path.name.removesuffix(COMPRESSED)
    written = 0
    with path.open("rb") as source, inside.open("wb") as target:
        try:
            with zstandard.ZstdDecompressor().stream_reader(
                source, read_across_frames=True
            ) as stream:
                while block := stream.read(STEP_BYTES):
                    written += len(block)
                    if written > limit:
                        raise DamageError(f"is over {limit} bytes when decompressed")
                    target.write(block)
        except zstandard.ZstdError as cause:
            if not salvage:
                raise DamageError(f"is no valid zstd ({cause})") from cause
    return inside
