"""The metadata.yaml of a recording, version 9, as Jazzy's recorder writes it.

Source: rosbag2_storage/yaml.hpp; keys and their order are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dql_ros.bag.tally import Tally
from dql_ros.bag.topic_metadata import TopicMetadata

METADATA_NAME = "metadata.yaml"


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
            {"topic_metadata": topic.in_yaml, "message_count": total.counts[topic.label]}
            for topic in topics
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": list(files),
        "files": [{"path": name, **_extent(tally)} for name, tally in files.items()],
        "custom_data": dict(custom_data) or None,
        "ros_distro": ros_distro,
    }


def _extent(tally: Tally) -> dict[str, Any]:
    start_ns, duration_ns = tally.span_ns
    return {
        "duration": {"nanoseconds": duration_ns},
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "message_count": tally.counts.total(),
    }
