"""Opens a file of a bag as what it is, in a temporary copy where it must be worked on first."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import zstandard

from dql_ros.bag.storage import mcap_records, ros1, sqlite
from dql_ros.bag.storage.io import STEP_BYTES, ZSTD_MAGIC
from dql_ros.bag.storage.mcap import McapFile
from dql_ros.bag.storage.ros1 import Ros1File
from dql_ros.bag.storage.storage import DamageError, StorageFile


class Format(NamedTuple):
    """A storage format.

    Attributes:
        magic: How its files begin.
        open: Opens one. Takes the file to read, the file of the bag that this is or is a copy of,
            and what `open_storage` takes.
        has_folders: Whether a bag is a folder, as rosbag2's, whose files may be compressed.
    """

    magic: bytes
    open: Callable[[Path, Path, Callable[[], Path], bool], StorageFile]
    has_folders: bool


# By what the names of their files end in.
FORMATS = {
    ".mcap": Format(
        mcap_records.MAGIC,
        lambda path, name, _, salvage: McapFile(path, name, salvage=salvage),
        has_folders=True,
    ),
    ".db3": Format(sqlite.MAGIC, sqlite.open_file, has_folders=True),
    ".bag": Format(
        ros1.MAGIC,
        lambda path, name, _, salvage: Ros1File(path, name, salvage=salvage),
        has_folders=False,
    ),
}
COMPRESSED = ".zstd"
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
        DamageError: If it is damaged; also the libraries' own, see `DAMAGE`.
    """
    begin = _beginning(path)
    if not begin:
        raise DamageError("is empty; the recording failed")
    inside = path
    if begin.startswith(ZSTD_MAGIC) or path.name.endswith(COMPRESSED):
        inside = _decompressed(path, folder(), salvage=salvage)
        begin = _beginning(inside)
    by_magic = (each for each in FORMATS.values() if begin.startswith(each.magic))
    by_name = (FORMATS[suffix] for suffix in FORMATS if inside.name.endswith(suffix))
    return next(chain(by_magic, by_name)).open(inside, path, folder, salvage)


def _beginning(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(16)


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
