"""What a recording says of itself: its topics, counts and times, in its files and metadata.yaml.

It is of version 9, as Jazzy's recorder writes it (source: rosbag2_storage/yaml.hpp); keys and
their order are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.storage.definitions import is_service_event, service_event_types
from dql_ros.contract import QualityOfService

# RMW_DURATION_INFINITE, as rosbag2 writes it.
INFINITE = {"sec": 9223372036, "nsec": 854775807}


@dataclass(frozen=True)
class TopicMetadata:
    """What a recording says of a topic.

    Attributes:
        name: Its absolute name.
        msgtype: Its message type.
        definition: The type's definition with its dependencies, in ``ros2msg`` form.
        type_hash: The type's hash (REP 2011).
        qos: What its publishers offer.
        alias: What the recording's figures call it if another type has the topic's name.
    """

    name: str
    msgtype: str
    definition: str
    type_hash: str
    qos: tuple[QualityOfService, ...] = ()
    alias: str = ""

    @property
    def label(self) -> str:
        """What distinguishes it from the others: its name, but for a topic's second type."""
        return self.alias or self.name

    @property
    def in_channel(self) -> dict[str, str]:
        """What an MCAP channel carries of it."""
        profiles = dump(self.in_yaml["offered_qos_profiles"]) if self.qos else ""
        return {"offered_qos_profiles": profiles, "topic_type_hash": self.type_hash}

    @property
    def in_yaml(self) -> dict[str, Any]:
        """What metadata.yaml has of it."""
        return {
            "name": self.name,
            "type": self.msgtype,
            "serialization_format": "cdr",
            "offered_qos_profiles": [_offered(profile) for profile in self.qos],
            "type_description_hash": self.type_hash,
        }


def describe(
    name: str,
    msgtype: str,
    qos: Sequence[QualityOfService],
    definition: str | None,
    typestore: Typestore,
) -> TopicMetadata:
    """Describe a topic.

    Args:
        name: Its absolute name.
        msgtype: Its message type, ``package/msg/Name``.
        qos: What its publishers offer.
        definition: The type's definition with its dependencies, in ``ros2msg`` form.
        typestore: Where the definition comes from if it was not given.

    Raises:
        BagError: If the type is unknown and no definition was given.
    """
    if definition is not None:
        type_hash = _hash(msgtype, definition)
    elif msgtype in typestore.fielddefs:
        definition, _ = typestore.generate_msgdef(msgtype, ros_version=2)
        type_hash = typestore.hash_rihs01(msgtype)
    else:
        raise BagError(
            f"type {msgtype} of {name} is not one of ROS 2's standard types; pass its definition"
        )
    return TopicMetadata(name, msgtype, definition, type_hash, tuple(qos))


def _hash(msgtype: str, definition: str) -> str:
    """The type's hash; empty where rosbags cannot, as of a type with a ``wstring``."""
    parse = service_event_types if is_service_event(msgtype) else get_types_from_msg
    typestore = get_typestore(Stores.EMPTY)
    try:
        typestore.register(parse(definition, msgtype))
        return typestore.hash_rihs01(msgtype)
    except (TypesysError, LookupError):
        return ""


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


def information(
    topics: Sequence[TopicMetadata],
    files: Mapping[str, MessageCounts],
    custom_data: Mapping[str, str],
) -> dict[str, Any]:
    """Return the content of metadata.yaml below ``rosbag2_bagfile_information``.

    Args:
        topics: The recording's topics.
        files: What is in each of its files, by name.
        custom_data: Texts that it carries.
    """
    total = MessageCounts()
    for counts in files.values():
        total.add(counts)
    return {
        "version": 9,
        "storage_identifier": "mcap",
        **_extent(total),
        "topics_with_message_count": [
            {"topic_metadata": topic.in_yaml, "message_count": total.counts[topic.label]}
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": list(files),
        "files": [{"path": name, **_extent(counts)} for name, counts in files.items()],
        "custom_data": dict(custom_data) or None,
        "ros_distro": "jazzy",
    }


def _extent(counts: MessageCounts) -> dict[str, Any]:
    start_ns, duration_ns = counts.span_ns
    return {
        "duration": {"nanoseconds": duration_ns},
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "message_count": counts.counts.total(),
    }


def dump(document: Any) -> str:
    """Return ``document`` as yaml."""
    return yaml.dump(document, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)


class PlainDumper(yaml.SafeDumper):
    """Writes no anchors for values that occur twice: yaml-cpp and people read the file."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whatever it is."""
        return True


@dataclass
class MessageCounts:
    """How many messages, and from when to when.

    Attributes:
        counts: Messages by topic.
        first_ns: Log time of the earliest; ``None`` without any.
        last_ns: Log time of the latest.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first_ns: int | None = None
    last_ns: int = 0

    def note(self, topic: str, log_time_ns: int) -> None:
        """Count one message."""
        self.counts[topic] += 1
        self._span(log_time_ns, log_time_ns)

    def add(self, other: MessageCounts) -> None:
        """Count the messages of ``other``, too."""
        self.counts.update(other.counts)
        if other.first_ns is not None:
            self._span(other.first_ns, other.last_ns)

    @property
    def span_ns(self) -> tuple[int, int]:
        """Log time of the earliest message, 0 without any, and nanoseconds to the latest."""
        first = self.first_ns or 0
        return first, max(self.last_ns - first, 0)

    def _span(self, first_ns: int, last_ns: int) -> None:
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = max(self.last_ns, last_ns)
