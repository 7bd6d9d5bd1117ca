"""Writes rosbag2 folders (metadata version 9, MCAP storage) as a Jazzy recorder does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.atomic import write_text
from dql_core.errors import BagError
from dql_ros.contract import QualityOfService

# The key of metadata.yaml's custom_data under which a recording carries its contract.
CONTRACT_KEY = "dql_contract"

# RMW_DURATION_INFINITE, as rosbag2 writes it.
INFINITE = {"sec": 9223372036, "nsec": 854775807}


@dataclass
class _Topic:
    metadata: dict[str, Any]
    channel: int
    count: int = 0


class BagWriter:
    """One recording: a folder with ``<folder>_0.mcap`` and, once closed, ``metadata.yaml``.

    As a context manager it closes the recording; after an exception it leaves the messages
    without ``metadata.yaml``, which readers take for an unfinished recording.

    Args:
        directory: The folder to make; it must not exist, or be empty.
        contract_text: The robot contract's yaml, carried in ``custom_data``.
        custom_data: Further texts to carry.
        ros_distro: Distribution named in the metadata.
        typestore: Where message definitions come from; Jazzy's standard types by default.

    Raises:
        BagError: If the folder already holds something.
    """

    def __init__(
        self,
        directory: Path,
        *,
        contract_text: str = "",
        custom_data: Mapping[str, str] | None = None,
        ros_distro: str = "jazzy",
        typestore: Typestore | None = None,
    ) -> None:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise BagError(f"{directory}: already exists; name another folder for the recording")
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._custom_data = dict(custom_data or {})
        if contract_text:
            self._custom_data[CONTRACT_KEY] = contract_text
        self._ros_distro = ros_distro
        self._typestore = typestore or get_typestore(Stores.ROS2_JAZZY)
        self._topics: dict[str, _Topic] = {}
        self._schemas: dict[str, int] = {}
        self._first_ns: int | None = None
        self._last_ns = 0
        self._path = directory / f"{directory.name}_0.mcap"
        self._file = self._path.open("wb")
        self._writer = Writer(self._file, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="dql_ros")

    def add_topic(
        self,
        name: str,
        msgtype: str,
        qos: Sequence[QualityOfService] = (),
        definition: str | None = None,
    ) -> None:
        """Announce a topic; a topic without messages is recorded too.

        Args:
            name: Absolute topic name.
            msgtype: Message type, ``package/msg/Name``.
            qos: What the topic's publishers offer.
            definition: The type's definition with its dependencies, in ``ros2msg`` form; by
                default that of the type store.

        Raises:
            BagError: If the type is unknown and no definition was given.
        """
        typestore = self._typestore
        if definition is not None:
            typestore = get_typestore(Stores.EMPTY)
            typestore.register(get_types_from_msg(definition, msgtype))
        elif msgtype not in typestore.fielddefs:
            raise BagError(
                f"{self._directory}: type {msgtype} of {name} is not one of ROS 2's standard "
                f"types; pass its definition"
            )
        else:
            definition = typestore.generate_msgdef(msgtype, ros_version=2)[0]
        type_hash = typestore.hash_rihs01(msgtype)
        if msgtype not in self._schemas:
            self._schemas[msgtype] = self._writer.register_schema(
                name=msgtype, encoding="ros2msg", data=definition.encode()
            )
        profiles = [_offered(profile) for profile in qos]
        channel = self._writer.register_channel(
            topic=name,
            message_encoding="cdr",
            schema_id=self._schemas[msgtype],
            metadata={
                "offered_qos_profiles": _dump(profiles) if profiles else "",
                "topic_type_hash": type_hash,
            },
        )
        metadata = {
            "name": name,
            "type": msgtype,
            "serialization_format": "cdr",
            "offered_qos_profiles": profiles,
            "type_description_hash": type_hash,
        }
        self._topics[name] = _Topic(metadata, channel)

    def write(
        self,
        topic: str,
        cdr: bytes | bytearray | memoryview,
        log_time_ns: int,
        publish_time_ns: int | None = None,
    ) -> None:
        """Append one message.

        Args:
            topic: An announced topic.
            cdr: The serialised message, with its encapsulation header.
            log_time_ns: When it was received, on the recording's clock.
            publish_time_ns: When it was sent; the log time by default.
        """
        entry = self._topics[topic]
        self._writer.add_message(
            channel_id=entry.channel,
            log_time=log_time_ns,
            data=bytes(cdr),
            publish_time=log_time_ns if publish_time_ns is None else publish_time_ns,
            sequence=entry.count,
        )
        entry.count += 1
        self._last_ns = max(self._last_ns, log_time_ns)
        self._first_ns = (
            log_time_ns if self._first_ns is None else min(self._first_ns, log_time_ns)
        )

    def close(self) -> None:
        """Finish the MCAP file, then write ``metadata.yaml``: last, and whole."""
        if self._file.closed:
            return
        information = self._information()
        self._writer.add_metadata("rosbag2", {"serialized_metadata": _dump(information)})
        self._finish_file()
        write_text(
            self._directory / "metadata.yaml", _dump({"rosbag2_bagfile_information": information})
        )

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._finish_file()

    def _finish_file(self) -> None:
        if not self._file.closed:
            self._writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
            self._file.close()

    def _information(self) -> dict[str, Any]:
        """The content of metadata.yaml; keys and order are those of rosbag2_storage/yaml.hpp."""
        first = self._first_ns or 0
        span = {
            "duration": {"nanoseconds": max(self._last_ns - first, 0)},
            "starting_time": {"nanoseconds_since_epoch": first},
            "message_count": sum(topic.count for topic in self._topics.values()),
        }
        return {
            "version": 9,
            "storage_identifier": "mcap",
            **span,
            "topics_with_message_count": [
                {"topic_metadata": topic.metadata, "message_count": topic.count}
                for topic in self._topics.values()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._path.name],
            "files": [{"path": self._path.name, **span}],
            "custom_data": self._custom_data or None,
            "ros_distro": self._ros_distro,
        }


def _offered(qos: QualityOfService) -> dict[str, Any]:
    return {
        "history": "keep_last",
        "depth": qos.depth,
        "reliability": qos.reliability,
        "durability": qos.durability,
        "deadline": dict(INFINITE),
        "lifespan": dict(INFINITE),
        "liveliness": "automatic",
        "liveliness_lease_duration": dict(INFINITE),
        "avoid_ros_namespace_conventions": False,
    }


class _Dumper(yaml.SafeDumper):
    """Writes no anchors for values that occur twice: yaml-cpp and people read the file."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
