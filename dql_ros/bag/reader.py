"""Reads rosbag2 folders and single .mcap or .db3 files, lazily and without a ROS installation."""

from __future__ import annotations

import hashlib
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import apsw
from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError, did_you_mean

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

STORAGE_SUFFIXES = (".mcap", ".db3")

# What rosbags, sqlite and the decompressors raise on damaged files.
DAMAGE = (
    ReaderError,
    apsw.Error,
    ZstdError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
)


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


class BagMessage(NamedTuple):
    """One message of a bag.

    Attributes:
        topic: Absolute topic name.
        log_time_ns: When it was received, on the recording's clock.
        message: An object of rosbags' message classes.
    """

    topic: str
    log_time_ns: int
    message: Any


class Bag:
    """An opened bag; a context manager.

    Args:
        path: A rosbag2 folder, or a single ``.mcap`` or ``.db3`` file.

    Raises:
        BagError: If there is no such bag, it is unfinished, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = _storage_files(path)
        self._standard_types = get_typestore(Stores.ROS2_JAZZY)
        try:
            self._reader = Reader(path)
            self._reader.open()
            self.start_ns, self.end_ns = self._reader.start_time, self._reader.end_time
            self.topics = {
                name: BagTopic(name, _types(info.connections), info.msgcount)
                for name, info in self._reader.topics.items()
            }
        except DAMAGE as cause:
            raise _damaged(path, cause) from cause
        self.message_count = sum(topic.count for topic in self.topics.values())
        self.size_bytes = sum(file.stat().st_size for file in self.files)

    @property
    def custom_data(self) -> dict[str, str]:
        """The texts that the recording carries, such as its contract; empty for a single file."""
        return dict(self._reader.storage.metadata.custom or {})

    def require_topic(self, name: str, msgtype: str, why: str, *, may_be_silent: bool) -> None:
        """Check that the bag has a topic of a type, with messages.

        Args:
            name: Absolute topic name.
            msgtype: The type that the contract states.
            why: What the contract needs the topic for, for the message.
            may_be_silent: Accept the topic without messages, as a flag that was never raised.

        Raises:
            BagError: Naming the bag, the topic, and the nearest that it has.
        """
        found = self.topics.get(name)
        if found is None:
            raise BagError(
                f"{self.path}: no topic {name}, which the contract needs as {why}"
                f"{did_you_mean(name, self.topics)}; correct the contract or --namespace, or "
                f"record it"
            )
        if found.msgtype != msgtype:
            raise BagError(
                f"{self.path}: {name} is of type {found.msgtype}, in the contract of type "
                f"{msgtype}; correct the contract"
            )
        if found.count == 0 and not may_be_silent:
            raise BagError(
                f"{self.path}: {name}, which the contract needs as {why}, has no message; "
                f"record it while its publisher runs"
            )

    def messages(self, topics: frozenset[str]) -> Iterator[BagMessage]:
        """Yield the messages of ``topics`` in the order of their log times.

        Raises:
            BagError: If a type is unknown, the bag is damaged, or it yields another number of
                messages than it says it has.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        if not connections:
            return
        typestores = {c.msgtype: self._typestore(c) for c in connections}
        read: Counter[str] = Counter()
        for topic, msgtype, log_time_ns, raw in self._raw(connections):
            read[topic] += 1
            try:
                message = typestores[msgtype].deserialize_cdr(raw, msgtype)
            except (SerdeError, *DAMAGE) as cause:
                raise BagError(
                    f"{self.path}: message {read[topic]} of {topic} is no valid {msgtype}: "
                    f"{_sentence(cause)}"
                ) from cause
            yield BagMessage(topic, log_time_ns, message)
        for topic in topics & self.topics.keys():
            if read[topic] != self.topics[topic].count:
                raise BagError(
                    f"{self.path}: {topic} has {self.topics[topic].count} messages by the bag's "
                    f"own count, but {read[topic]} could be read; the bag is damaged"
                )

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _raw(self, connections: list[Connection]) -> Iterator[tuple[str, str, int, bytes]]:
        messages = self._reader.messages(connections)
        while True:
            try:
                connection, log_time_ns, raw = next(messages)
            except StopIteration:
                return
            except DAMAGE as cause:
                raise _damaged(self.path, cause) from cause
            yield connection.topic, connection.msgtype, log_time_ns, raw

    def _typestore(self, connection: Connection) -> Typestore:
        """Types as the bag itself defines them, else ROS 2's standard ones."""
        definition, msgtype = connection.msgdef, connection.msgtype
        if definition.format == MessageDefinitionFormat.MSG and definition.data:
            typestore = get_typestore(Stores.EMPTY)
            try:
                typestore.register(get_types_from_msg(definition.data, msgtype))
                typestore.get_msgdef(msgtype)
            except (TypesysError, *DAMAGE) as cause:
                raise BagError(
                    f"{self.path}: the definition of {msgtype} ({connection.topic}) inside the "
                    f"bag is not valid: {_sentence(cause)}"
                ) from cause
            return typestore
        if msgtype not in self._standard_types.fielddefs:
            raise BagError(
                f"{self.path}: {connection.topic} is of type {msgtype}, which the bag does not "
                f"define and which is none of ROS 2's standard types; record it as MCAP"
            )
        return self._standard_types


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _storage_files(path: Path) -> tuple[Path, ...]:
    """The files that hold the bag's messages."""
    if not path.exists():
        siblings = [other.name for other in path.parent.glob("*")]
        raise BagError(f"{path}: no such bag{did_you_mean(path.name, siblings)}")
    if path.is_file():
        if path.suffix not in STORAGE_SUFFIXES:
            raise BagError(
                f"{path}: not a bag; name a rosbag2 folder or a {' or '.join(STORAGE_SUFFIXES)} "
                f"file"
            )
        files: tuple[Path, ...] = (path,)
    else:
        endings = (*STORAGE_SUFFIXES, *(f"{suffix}.zstd" for suffix in STORAGE_SUFFIXES))
        files = tuple(sorted(file for file in path.iterdir() if file.name.endswith(endings)))
        if not (path / "metadata.yaml").is_file():
            advice = (
                f"the recording was not finished; name {files[0].name} in it to read what is there"
                if files
                else "it is no rosbag2 folder"
            )
            raise BagError(f"{path}: has no metadata.yaml: {advice}")
    for file in files:
        if file.stat().st_size == 0:
            raise BagError(f"{file}: is empty; the recording failed")
    return files


def _types(connections: list[Connection]) -> str:
    return " and ".join(sorted({connection.msgtype for connection in connections}))


def _damaged(path: Path, cause: BaseException) -> BagError:
    return BagError(f"{path}: cannot be read: {_sentence(cause)}; the bag is damaged")


def _sentence(cause: BaseException) -> str:
    return " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
