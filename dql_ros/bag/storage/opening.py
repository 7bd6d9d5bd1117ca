"""Opens a file of a bag as what it is, in a temporary copy where it must be worked on first.

All files of a bag, opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import zstandard

from dql_core.errors import BagError
from dql_core.leftovers import Unfinished, temporary_folder
from dql_ros.bag.storage import mcap_records, ros1
from dql_ros.bag.storage.definitions import Definitions
from dql_ros.bag.storage.folder import COMPRESSED, Metadata, find_files, parse_metadata
from dql_ros.bag.storage.io import STEP_BYTES, ZSTD_MAGIC
from dql_ros.bag.storage.mcap import McapFile
from dql_ros.bag.storage.ros1 import Ros1File
from dql_ros.bag.storage.sqlite import (
    SqliteFile,
    look_at_log,
    merged_copy,
    side_files,
)
from dql_ros.bag.storage.storage import DAMAGE, Channel, DamageError, Loss, StorageFile, sentence

SQLITE_MAGIC = b"SQLite format 3\0"
# A file may grow so many times, or to so many bytes if that is more; a bomb grows more.
MAX_GROWTH = 1000
MAX_GROWN_BYTES = 1 << 30


def open_storage(path: Path, folder: Callable[[], Path], *, salvage: bool) -> StorageFile:
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


def _open(path: Path, name: Path, folder: Callable[[], Path], *, salvage: bool) -> StorageFile:
    """By how it begins; by its name where the beginning is damaged."""
    with path.open("rb") as stream:
        begin = stream.read(16)
    kinds = {
        mcap_records.MAGIC: ".mcap",
        SQLITE_MAGIC: ".db3",
        ros1.MAGIC: ".bag",
    }
    suffix = next((kinds[magic] for magic in kinds if begin.startswith(magic)), path.suffix)
    if suffix == ".db3":
        return _open_sqlite(path, name, folder, salvage=salvage)
    if suffix == ".bag":
        return Ros1File(path, name)
    return McapFile(path, name, salvage=salvage)


def _open_sqlite(
    path: Path, name: Path, folder: Callable[[], Path], *, salvage: bool
) -> StorageFile:
    """With what the recorder left beside it, which sqlite works into a copy."""
    beside = side_files(path)
    if not beside:
        return SqliteFile(path, name, salvage=salvage)
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


class BagFiles:
    """The files of one bag.

    Args:
        path: A rosbag2 folder or a single file.
        salvage: Do without what cannot be opened, and note it as a loss.

    Attributes:
        files: The files that hold its messages.
        size_bytes: Their size.
        storages: Those that could be opened.
        losses: What could not be opened.

    Raises:
        BagError: If there is no such bag, or nothing of it can be opened.
        DamageError: If it is damaged and not salvaged; also the libraries' own, see `DAMAGE`.
    """

    def __init__(self, path: Path, *, salvage: bool) -> None:
        self._folder: Unfinished | None = None
        layout = find_files(path, salvage=salvage)
        self.files = layout.files
        self.size_bytes = sum(file.stat().st_size for file in layout.files)
        self.losses = list(layout.losses)
        self.storages: list[StorageFile] = []
        self._notes = layout.notes
        self._salvage = salvage
        self._yaml = layout.metadata
        try:
            for file in layout.files:
                self._open(file)
            if not self.storages:
                raise BagError(f"{path}: nothing of it can be read: {self.losses[0].reason}")
            self.spans = [span for storage in self.storages if (span := storage.span_ns)]
        except BaseException:
            self.close()
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the files although nothing is lost by it."""
        return (*self._notes, *(note for storage in self.storages for note in storage.notes))

    @cached_property
    def metadata(self) -> Metadata:
        """What metadata.yaml says, or else the last file that carries the same; may be empty."""
        if self._yaml is not None:
            return self._yaml
        for storage in reversed(self.storages):
            if storage.metadata_text:
                try:
                    return parse_metadata(storage.metadata_text)
                except DAMAGE:
                    continue
        return Metadata()

    @cached_property
    def definitions(self) -> Definitions:
        """Where the message types come from."""
        named = (storage.distribution for storage in self.storages if storage.distribution)
        distribution = self.metadata.distribution or next(named, "")
        return Definitions(distribution, self.metadata.version)

    @cached_property
    def channels(self) -> Mapping[str, list[Channel]]:
        """The channels of each topic; none for one that only metadata.yaml names."""
        channels: dict[str, list[Channel]] = {topic: [] for topic in self.stated_counts or {}}
        for storage in self.storages:
            for channel in storage.channels:
                known = channels.setdefault(channel.topic, [])
                if channel not in known:
                    known.append(channel)
        return channels

    def types(self, topic: str) -> list[str]:
        """Return the message types of a topic."""
        found = {channel.msgtype for channel in self.channels[topic]}
        if not found and self._yaml is not None:
            found = {self._yaml.types[topic]}
        return sorted(found)

    @property
    def stated_counts(self) -> Mapping[str, int] | None:
        """Messages of each topic by metadata.yaml; ``None`` without one."""
        return None if self._yaml is None else self._yaml.counts

    @cached_property
    def own_counts(self) -> Mapping[str, int] | None:
        """Messages of each topic by the files' own counts; ``None`` if a damaged one cannot."""
        counts: dict[str, int] = {}
        try:
            for storage in self.storages:
                for topic, count in storage.counts().items():
                    counts[topic] = counts.get(topic, 0) + count
        except DAMAGE:
            if not self._salvage:
                raise
            return None
        return counts

    def close(self) -> None:
        """Remove temporary copies; no file is held open."""
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def _open(self, file: Path) -> None:
        try:
            storage = open_storage(file, self._temporary, salvage=self._salvage)
        except DAMAGE as cause:
            if not self._salvage:
                raise DamageError(f"{file.name}: {sentence(cause)}") from cause
            self.losses.append(Loss(file.name, sentence(cause), None, file.stat().st_size))
            return
        self.storages.append(storage)
        self.losses += storage.losses

    def _temporary(self) -> Path:
        """A new folder for the temporary copies of a file."""
        if self._folder is None:
            self._folder = temporary_folder()
        folder = self._folder.path / str(len(self.storages) + len(self.losses))
        folder.mkdir(exist_ok=True)
        return folder
