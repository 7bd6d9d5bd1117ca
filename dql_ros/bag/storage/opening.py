"""Opens a file of a bag as what it is, in a temporary copy where it must be worked on first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import zstandard

from dql_ros.bag.storage import mcap_records, ros1
from dql_ros.bag.storage.folder import COMPRESSED
from dql_ros.bag.storage.io import STEP_BYTES, ZSTD_MAGIC
from dql_ros.bag.storage.mcap import McapFile
from dql_ros.bag.storage.ros1 import Ros1File
from dql_ros.bag.storage.sqlite import SqliteFile, merged_copy, side_files
from dql_ros.bag.storage.storage import DamageError, Loss, StorageFile

KINDS = {mcap_records.MAGIC: ".mcap", b"SQLite format 3\0": ".db3", ros1.MAGIC: ".bag"}
# A file may grow so many times, or to so many bytes if that is more; a bomb grows more.
MAX_GROWTH = 1000
MAX_GROWN_BYTES = 1 << 30


def open_storage(path: Path, folder: Callable[[], Path], *, salvage: bool) -> StorageFile:
    """Open a file of a bag: by how it begins, by its name where the beginning is damaged.

    Args:
        path: The file.
        folder: Makes a folder for temporary copies.
        salvage: Read what can be read of a damaged file.

    Raises:
        BagError: If it is a ROS 1 bag without a sound index.
        DamageError: If it is damaged; also the libraries' own, see `DAMAGE`.
    """
    begin = _beginning(path)
    if not begin:
        raise DamageError("is empty; the recording failed")
    inside = path
    if begin.startswith(ZSTD_MAGIC) or path.name.endswith(COMPRESSED):
        inside = _decompressed(path, folder(), salvage=salvage)
        begin = _beginning(inside)
    suffix = next((KINDS[magic] for magic in KINDS if begin.startswith(magic)), inside.suffix)
    if suffix == ".db3":
        return _open_sqlite(inside, path, folder, salvage=salvage)
    if suffix == ".bag":
        return Ros1File(inside, path)
    return McapFile(inside, path, salvage=salvage)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(16)


def _open_sqlite(
    path: Path, name: Path, folder: Callable[[], Path], *, salvage: bool
) -> StorageFile:
    """With what the recorder left beside it, which sqlite works into a copy."""
    if not side_files(path):
        return SqliteFile(path, name, salvage=salvage)
    copy, unfinished = merged_copy(path, folder())
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
