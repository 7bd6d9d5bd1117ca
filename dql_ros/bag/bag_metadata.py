"""The metadata.yaml of a recording, version 9, as Jazzy's recorder writes it.

Source: rosbag2_storage/yaml.hpp; keys and their order are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dql_ros.bag.mcap_output import Tally
from dql_ros.contract import QualityOfService

METADATA_NAME = "metadata.yaml"

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
    """

    name: str
    msgtype: str
    definition: str
    type_hash: str
    qos: tuple[QualityOfService, ...] = ()

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


def information(
    topics: Sequence[TopicMetadata],
    files: Mapping[str, Tally],
    custom_data: Mapping[str, str],
    ros_distro: str,
) -> dict[str, Any]:
    """Return the content of metadata.yaml below ``rosbag2_bagfile_information``.

    Args:
        topics: The recording's topics.
        files: What is in each of its files, by name.
        custom_data: Texts that it carries.
        ros_distro: The distribution that recorded it.
    """
    total = Tally()
    for tally in files.values():
        total.add(tally)
    return {
        "version": 9,
        "storage_identifier": "mcap",
        **_extent(total),
        "topics_with_message_count": [
            {"topic_metadata": topic.in_yaml, "message_count": total.counts[topic.name]}
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": list(files),
        "files": [{"path": name, **_extent(tally)} for name, tally in files.items()],
        "custom_data": dict(custom_data) or None,
        "ros_distro": ros_distro,
    }


def dump(document: Any) -> str:
    """Return ``document`` as yaml."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _extent(tally: Tally) -> dict[str, Any]:
    start_ns, duration_ns = tally.span_ns
    return {
        "duration": {"nanoseconds": duration_ns},
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "message_count": tally.counts.total(),
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
