"""Reads rosbag2 folders, single .mcap and .db3 files and ROS 1 bags, as streams, without ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rosbags.typesys.store import Typestore

from dql_core.errors import BagError, counted, did_you_mean, listed
from dql_core.leftovers import Unfinished, temporary_folder
from dql_ros.bag.recorder import recorders_notes
from dql_ros.bag.storage.definitions import (
    BagTypes,
    Definitions,
    UndefinedTypeError,
    check_encoding,
    known_type,
)
from dql_ros.bag.storage.folder import (
    METADATA_NAME,
    STORAGE_SUFFIXES,
    Metadata,
    bags_within,
    find_files,
    is_storage,
    parse_metadata,
)
from dql_ros.bag.storage.message_folders import message_folders
from dql_ros.bag.storage.opening import open_storage
from dql_ros.bag.storage.reading import Reading
from dql_ros.bag.storage.storage import (
    DAMAGE,
    UNKNOWN_TYPE,
    Channel,
    DamageError,
    Definition,
    Loss,
    LostSpan,
    StorageFile,
    lost_words,
    reason_of,
)
from dql_ros.bag.storage.written_order import ClockStep
from dql_ros.codecs.block import Batch

__all__ = [
    "STORAGE_SUFFIXES",
    "Bag",
    "BagTopic",
    "ClockStep",
    "Loss",
    "LostSpan",
    "bags_within",
    "is_storage",
    "unreadable_remarks",
]


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag.

    Attributes:
        name: Absolute topic name.
        msgtype: Message type, ``package/msg/Name``; several, joined by `` and ``, if the topic
            was recorded with more than one.
        count: Number of messages that the bag says it has.
    """

    name: str
    msgtype: str
    count: int


class Bag:
    """An opened bag; a context manager.

    Args:
        path: A rosbag2 folder, or a single ``.mcap``, ``.db3`` or ROS 1 ``.bag`` file; the former
            two also compressed, as ``.zstd``.
        salvage: Read what can be read of a damaged bag, and report the rest in ``losses``.
        msgs: Folders with definitions of types that the bag does not define.

    Attributes:
        path: As given.
        files: The files that hold its messages.
        size_bytes: Their size.
        topics: Its topics by name.
        message_count: Number of messages that it says it has.
        start_ns: Log time of the first message; 0 without any.
        end_ns: Log time of the last message; 0 without any.
        custom_data: The texts that the recording carries, such as its contract.

    Raises:
        BagError: If there is no such bag, or it cannot be read.
        ConfigError: If one of ``msgs`` has no definition.
    """

    def __init__(self, path: Path, *, salvage: bool = False, msgs: Sequence[Path] = ()) -> None:
        self.path = path
        self._salvage = salvage
        self._folders = message_folders(tuple(msgs)) if msgs else None
        self._reading: Reading | None = None
        self.size_bytes = 0
        self._unnamed: tuple[str, ...] = ()
        self._folder: Unfinished | None = None
        self._storages: list[StorageFile] = []
        try:
            self._open()
        except BaseException as cause:
            self.close()
            if isinstance(cause, DAMAGE):
                raise self._damaged(cause) from cause
            raise

    def _open(self) -> None:
        layout = find_files(self.path, salvage=self._salvage)
        self._yaml, self._notes, self._losses = layout.metadata, layout.notes, layout.losses
        self.files, self._unnamed = layout.files, layout.unnamed
        self.size_bytes = sum(file.stat().st_size for file in layout.files)
        for file in layout.files:
            try:
                storage = open_storage(file, self._temporary, salvage=self._salvage)
            except DAMAGE as cause:
                if not self._salvage:
                    raise DamageError(f"{file.name}: {reason_of(cause)}") from cause
                size = file.stat().st_size
                self._losses.append(Loss(file.name, reason_of(cause), None, size))
            else:
                self._storages.append(storage)
                self._losses += storage.losses
        self._losses = [self._timed(loss) for loss in self._losses]
        if not self._storages:
            reason = self._losses[0].reason
            raise BagError(f"{self.path}: nothing of it can be read: {reason}")
        spans = [span for storage in self._storages if (span := storage.span_ns)]
        self.start_ns = min((start for start, _ in spans), default=0)
        self.end_ns = max((end for _, end in spans), default=0)
        self.custom_data = dict(self._metadata.custom_data)
        counts = self._counts()
        self.topics = {
            name: BagTopic(name, " and ".join(self._types(name)), counts.get(name, 0))
            for name in self._channels
        }
        self.message_count = sum(topic.count for topic in self.topics.values())

    def _timed(self, loss: Loss) -> Loss:
        """A file of which nothing can be read lies in time between its neighbours in the bag."""
        spans = {each.path.name: span for each in self._storages if (span := each.span_ns)}
        order = [file.name for file in self.files]
        if self._yaml is not None and set(order) & set(self._yaml.files):
            order = list(self._yaml.files)  # also of files that are missing
        if loss.start_ns is not None or loss.file in spans or loss.file not in order:
            return loss
        place = order.index(loss.file)
        ends = [spans[name][1] + 1 for name in order[:place] if name in spans]
        starts = [spans[name][0] - 1 for name in order[place:] if name in spans]
        return replace(loss, start_ns=max(ends, default=0), end_ns=min(starts, default=None))

    @cached_property
    def _metadata(self) -> Metadata:
        """What metadata.yaml says, or else the last file that carries the same; may be empty."""
        if self._yaml is not None:
            return self._yaml
        for storage in reversed(self._storages):
            if storage.metadata_text:
                with suppress(*DAMAGE):
                    return parse_metadata(storage.metadata_text)
        return Metadata()

    @cached_property
    def _definitions(self) -> Definitions:
        """Where the message types come from."""
        named = (storage.distribution for storage in self._storages if storage.distribution)
        distribution = self._metadata.distribution or next(named, "")
        return Definitions(distribution, self._metadata.version, self._folders)

    @cached_property
    def _channels(self) -> Mapping[str, list[Channel]]:
        """The channels of each topic; none for one that only metadata.yaml names."""
        named = {} if self._yaml is None else self._yaml.counts
        channels: dict[str, list[Channel]] = {topic: [] for topic in named}
        for storage in self._storages:
            for channel in storage.channels.values():
                known = channels.setdefault(channel.topic, [])
                if channel not in known:
                    known.append(channel)
        return channels

    @cached_property
    def _own_counts(self) -> Mapping[str, int] | None:
        """Messages of each topic by the files' own counts; ``None`` if a damaged one cannot."""
        counts: Counter[str] = Counter()
        try:
            for storage in self._storages:
                counts.update(storage.counts())
        except DAMAGE:
            if not self._salvage:
                raise
            return None
        return counts

    def _counts(self) -> Mapping[str, int]:
        """Messages of each topic: by metadata.yaml, or by the files where that has none."""
        stated = {} if self._yaml is None else self._yaml.counts
        if all(stated.get(topic) for topic in self._channels):
            return stated
        return {**(self._own_counts or {}), **{topic: n for topic, n in stated.items() if n}}

    def _types(self, topic: str) -> list[str]:
        """The message types of a topic."""
        found = {channel.msgtype for channel in self._channels[topic]}
        if not found and self._yaml is not None:
            found = {self._yaml.types[topic]}
        return sorted(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the bag, besides its losses."""
        several = (topic.name for topic in self.topics.values() if " and " in topic.msgtype)
        return (
            *self._notes,
            *(() if self._reading is None else self._reading.notes),
            *(note for storage in self._storages for note in storage.notes),
            *recorders_notes(self.custom_data),
            *(
                f"{name} was recorded as {self.topics[name].msgtype}: a contract reads those "
                f"messages only that are of the type that it names"
                for name in several
            ),
        )

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What could not be read; complete once the messages were read, empty unless salvaged."""
        return tuple(self._losses if self._reading is None else self._reading.losses)

    @property
    def lost_spans(self) -> tuple[LostSpan, ...]:
        """When it was recorded, as far as that is known; complete and empty like `losses`."""
        return () if self._reading is None else tuple(self._reading.lost_spans)

    @property
    def _lost(self) -> str:
        """What a salvaged bag may lack topics and definitions for; empty if nothing is lost."""
        unseen = [
            Loss(storage.path.name, storage.damage, None, None)
            for storage in self._storages
            if storage.damage and not storage.losses
        ]
        return lost_words([*self.losses, *unseen])

    @cached_property
    def unreadable(self) -> Mapping[str, str]:
        """Why nobody can read the messages of topics, such as of an unknown type, by topic."""
        found = {
            name: next(filter(None, map(self._definitions.flaw, channels)), "")
            for name, channels in self._channels.items()
        }
        return {name: reason for name, reason in found.items() if reason}

    @property
    def unknown_types(self) -> tuple[BagTopic, ...]:
        """Topics whose messages nobody can read."""
        return tuple(self.topics[name] for name in self.unreadable)

    def require_topic(self, name: str, msgtype: str, why: str, *, may_be_silent: bool) -> None:
        """Check that the bag has a topic of a type, with messages.

        Args:
            name: Topic name.
            msgtype: The type that the contract states.
            why: What the contract needs the topic for, for the message.
            may_be_silent: Accept the topic without messages, as a flag that was never raised.

        Raises:
            BagError: Naming the bag, the topic, and the nearest that it has.
        """
        found = self.topics.get(name)
        if found is None:
            if lost := self._lost:
                raise BagError(
                    f"{self.path}: what is left of it has no topic {name}, which the contract "
                    f"needs as {why}{did_you_mean(name, self.topics)}; lost: {lost}"
                )
            raise BagError(
                f"{self.path}: no topic {name}, which the contract needs as {why}"
                f"{did_you_mean(name, self.topics)}; correct the contract or --namespace, or "
                f"record it"
            )
        if self._lost and UNKNOWN_TYPE in self._types(name):
            raise BagError(f"{self.path}: the type of {name} is lost: {self._lost}")
        if msgtype not in self._types(name):
            raise BagError(
                f"{self.path}: {name} is of type {found.msgtype}, in the contract of type "
                f"{msgtype}; correct the contract"
            )
        if found.count == 0 and not may_be_silent and not self._salvage:
            raise BagError(
                f"{self.path}: {name}, which the contract needs as {why}, has no message; "
                f"record it while its publisher runs"
            )

    def require_fields(self, topic: str, msgtype: str) -> None:
        """Check that what defines a topic's type, which the bag has, says that it has fields.

        Raises:
            BagError: If it has none, as where a recorder left out the definition.
        """
        if self._typestore(topic, msgtype).is_fieldless:
            raise BagError(f"{self.path}: {topic} cannot be read: {UndefinedTypeError(msgtype)}")

    def typestore(self, topic: str, msgtype: str = "") -> BagTypes:
        """Return the type store that knows a topic's type: the bag's own definition, if any.

        Args:
            topic: Its name.
            msgtype: Which of its types, if it was recorded with several.

        Raises:
            BagError: If the bag has no such topic, or nobody defines its type.
        """
        if topic not in self.topics:
            raise BagError(f"{self.path}: no topic {topic}{did_you_mean(topic, self.topics)}")
        types = self._types(topic)
        if not msgtype and len(types) > 1:
            raise BagError(f"{self.path}: {topic} was recorded with {len(types)} types: {types}")
        return self._typestore(topic, msgtype or types[0])

    def known_type(self, msgtype: str) -> Typestore:
        """Return what knows a type that need not be in the bag; see `known_type`.

        Raises:
            BagError: If nobody defines it.
        """
        try:
            return known_type(msgtype, self._folders)
        except DamageError as cause:
            raise BagError(f"{self.path}: {cause}") from cause

    def publishers(self, topic: str) -> int:
        """By how many publishers a topic was recorded, as far as the bag says; 0 if it does not.

        Its connections in a file, or those that the recorder noted in metadata.yaml.
        """
        known = 0 if self._yaml is None else self._yaml.publishers.get(topic, 0)
        for storage in self._storages:
            connections = sum(each.topic == topic for each in storage.channels.values())
            known = max(known, connections if connections > 1 else 0)
        return known

    def clock_steps(self, tolerance_ns: int, repeated: Container[str] = ()) -> list[ClockStep]:
        """Find where the recording's clock had been set back, of the topics of `batches`.

        They are read once more, unless that has seen that all log times ascend as written.

        Args:
            tolerance_ns: By how much the log times of a channel may go back.
            repeated: Topics whose log times say nothing: a recorder repeats what is latched.

        Raises:
            BagError: If the bag is damaged, or its clock was set back at very many places.
        """
        if self._reading is None or self._reading.is_in_order:
            return []
        try:
            return self._reading.clock_steps(tolerance_ns, repeated)
        except DAMAGE as cause:
            raise BagError(f"{self.path}: {reason_of(cause)}") from cause

    def batches(
        self,
        topics: frozenset[str],
        unreadable: dict[str, str] | None = None,
        steps: Sequence[ClockStep] = (),
    ) -> Iterator[Batch]:
        """Yield the messages of topics, serialised in CDR, as they lie in the files.

        The last batch has no block; all bytes are done then, and `losses` are complete.

        Args:
            topics: The topics.
            unreadable: By topic, why its messages cannot be decoded: they come as recorded, and
                so do those of which that turns out; it is noted here. ``None`` to raise it.
            steps: Where the recording's clock had been set back: what was written after each comes
                after all from before it, with shifted times.

        Raises:
            BagError: If the bag is damaged, has another number of messages than it says, or a
                topic is serialised in a way that is not understood.
        """
        for topic in topics & self.topics.keys() if unreadable is None else ():
            for channel in self._channels[topic]:
                try:
                    check_encoding(channel)
                except DamageError as cause:
                    raise BagError(f"{self.path}: {topic} cannot be read: {cause}") from cause
        try:
            self._reading = Reading(
                self._storages,
                topics & self.topics.keys(),
                self._typestore,
                stated={
                    METADATA_NAME: None if self._yaml is None else self._yaml.counts,
                    "its files' own count": self._own_counts,
                },
                losses=self._losses,
                size_bytes=self.size_bytes,
                salvage=self._salvage,
                unreadable=unreadable,
                steps=steps,
            )
            yield from self._reading.batches()
        except DAMAGE as cause:
            raise self._damaged(cause) from cause

    def close(self) -> None:
        """Remove temporary copies; no file is held open."""
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _typestore(self, topic: str, msgtype: str) -> BagTypes:
        channels = [each for each in self._channels[topic] if each.msgtype == msgtype]
        try:
            undefined = [Channel(topic, msgtype, "cdr", Definition())]
            return self._definitions.typestore(channels or undefined)
        except DamageError as cause:
            lost = f"; lost: {self._lost}" if self._lost else ""
            raise BagError(f"{self.path}: {topic} cannot be read: {cause}{lost}") from cause

    def _temporary(self) -> Path:
        """A new folder for the temporary copies of a file."""
        if self._folder is None:
            self._folder = temporary_folder()
        folder = self._folder.path / str(len(self._storages) + len(self._losses))
        folder.mkdir(exist_ok=True)
        return folder

    def _damaged(self, cause: BaseException) -> BagError:
        reason = f"{self.path}: cannot be read: {reason_of(cause)}"
        if not self.size_bytes:
            return BagError(reason)
        if self._unnamed:
            reason += f" (not of {', '.join(self._unnamed)}, which {METADATA_NAME} does not name)"
        remedy = "" if self._salvage else ": --salvage reads what is left of it"
        if self._unnamed:
            remedy += f"; to read all files, remove {METADATA_NAME}"
        return BagError(f"{reason}; the bag is damaged{remedy}")


def unreadable_remarks(topics: Iterable[tuple[str, str, int, str]]) -> Iterator[str]:
    """Say of which topics the messages cannot be decoded: of types without definition, by package.

    Args:
        topics: Name, type, number of messages and reason of each.
    """
    packages: dict[str, list[tuple[str, str, int]]] = {}
    for name, msgtype, count, reason in topics:
        if reason == str(UndefinedTypeError(msgtype)):
            packages.setdefault(msgtype.partition("/")[0], []).append((name, msgtype, count))
        else:
            yield f"{name}: its {counted(count, 'message')} cannot be decoded: {reason}"
    for package, found in packages.items():
        types = listed(sorted({msgtype.rpartition("/")[2] for _, msgtype, _ in found}))
        count, names = sum(count for *_, count in found), listed([name for name, *_ in found])
        yield (
            f"{package}: nobody defines its {types}, so that {counted(count, 'message')} on "
            f"{names} cannot be decoded; name a folder that has the package's .msg files, with "
            f"--msgs"
        )
