"""All files of a bag, opened."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from dql_core.errors import BagError
from dql_core.leftovers import Unfinished
from dql_ros.bag.storage.damage import DAMAGE, DamageError, Loss, sentence
from dql_ros.bag.storage.definitions import Definitions
from dql_ros.bag.storage.layout import find_files
from dql_ros.bag.storage.metadata import Metadata, parse_metadata
from dql_ros.bag.storage.opening import open_storage
from dql_ros.bag.storage.part import Channel, Storage
from dql_ros.private_folders import temporary_folder


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
        self.storages: list[Storage] = []
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
        """Close the files and remove temporary copies."""
        for storage in self.storages:
            storage.close()
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
