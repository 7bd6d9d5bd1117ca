"""What a recording notes of a topic, in its files and in metadata.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.compact_yaml import dump
from dql_ros.bag.storage.service_definitions import is_service_event, service_event_types
from dql_ros.contract import QualityOfService

# RMW_DURATION_INFINITE, as rosbag2 writes it.
INFINITE = {"sec": 9223372036, "nsec": 854775807}


@dataclass(frozen=True)
class TopicMetadata:
    """What is noted of a topic.

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
        """What tells it from the others: its name, but for a topic's second type."""
        return self.alias or self.name

    @property
    def in_channel(self) -> dict[str, str]:
        """What an MCAP channel carries of it."""
        profiles = [_offered(profile) for profile in self.qos]
        return {
            "offered_qos_profiles": dump(profiles) if profiles else "",
            "topic_type_hash": self.type_hash,
        }

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
        return TopicMetadata(name, msgtype, definition, _hash(msgtype, definition), tuple(qos))
    if msgtype not in typestore.fielddefs:
        raise BagError(
            f"type {msgtype} of {name} is not one of ROS 2's standard types; pass its definition"
        )
    definition = typestore.generate_msgdef(msgtype, ros_version=2)[0]
    return TopicMetadata(name, msgtype, definition, typestore.hash_rihs01(msgtype), tuple(qos))


def _hash(msgtype: str, definition: str) -> str:
    """The type's hash; empty where rosbags cannot tell it, as of a type with a ``wstring``."""
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
