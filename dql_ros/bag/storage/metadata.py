"""The metadata.yaml of a rosbag2 folder, versions 1 to 9.

Source: rosbag2_storage/yaml.hpp. Only what a reader needs is read; the files themselves say the
rest, and what they say is compared with this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from dql_core.plain_yaml import load_yaml
from dql_ros.bag.storage.damage import DamageError, sentence

METADATA_NAME = "metadata.yaml"
MAX_METADATA_BYTES = 1 << 24
# A bag of ten thousand files has about half of it.
MAX_VALUES = 300_000
NEWEST_VERSION = 9


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says.

    Attributes:
        version: Its version; 0 if it does not say.
        files: Names of the bag's files, without their folder.
        file_counts: Messages of each file, where it says.
        counts: Messages of each topic.
        types: Type of each topic.
        compression_mode: ``file``, ``message`` or empty.
        custom_data: Texts that the recording carries.
        doubled: A sentence for each key that is there twice.
        distribution: The ROS distribution that recorded it; empty if it does not say.
    """

    version: int = 0
    files: tuple[str, ...] = ()
    file_counts: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    compression_mode: str = ""
    custom_data: dict[str, str] = field(default_factory=dict)
    distribution: str = ""
    doubled: tuple[str, ...] = ()


def parse_metadata(text: str) -> Metadata:
    """Read metadata.yaml, or the text of the same content that a bag's file carries.

    Raises:
        DamageError: If it is none.
    """
    if len(text) > MAX_METADATA_BYTES:
        raise DamageError(f"{METADATA_NAME} is over {MAX_METADATA_BYTES} bytes long")
    doubled: list[str] = []
    try:
        document = load_yaml(text, max_values=MAX_VALUES, doubled=doubled)
    except yaml.YAMLError as cause:
        raise DamageError(f"{METADATA_NAME} is no valid yaml: {sentence(cause)}") from cause
    content = _mapping(document, "its content")
    information = _mapping(content.get("rosbag2_bagfile_information", content), "its information")
    topics = [_topic(entry) for entry in _list(information, "topics_with_message_count")]
    counts: dict[str, int] = {}
    for name, _, count in topics:
        counts[name] = counts.get(name, 0) + count
    return Metadata(
        version=_count(information, "version"),
        files=tuple(
            PurePosixPath(str(path)).name for path in _list(information, "relative_file_paths")
        ),
        file_counts=_file_counts(information),
        counts=counts,
        types={name: msgtype for name, msgtype, _ in topics},
        compression_mode=_text(information, "compression_mode").lower().replace("none", ""),
        custom_data={
            str(key): str(value)
            for key, value in _mapping(information.get("custom_data") or {}, "custom_data").items()
        },
        distribution=_text(information, "ros_distro"),
        doubled=tuple(doubled),
    )


def _topic(entry: Any) -> tuple[str, str, int]:
    topic = _mapping(_mapping(entry, "a topic").get("topic_metadata"), "topic_metadata")
    name, msgtype = topic.get("name"), topic.get("type")
    if not isinstance(name, str) or not isinstance(msgtype, str):
        raise DamageError(f"{METADATA_NAME} has a topic {name!r} of type {msgtype!r}")
    return name, msgtype, _count(entry, "message_count")


def _file_counts(information: dict[Any, Any]) -> dict[str, int]:
    files = [_mapping(entry, "a file") for entry in _list(information, "files")]
    return {
        PurePosixPath(str(entry.get("path"))).name: _count(entry, "message_count")
        for entry in files
    }


def _mapping(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise DamageError(f"{METADATA_NAME}: {what} is {_kind(value)}, not a mapping")
    return value


def _list(mapping: dict[Any, Any], key: str) -> list[Any]:
    value = mapping.get(key) or []
    if not isinstance(value, list):
        raise DamageError(f"{METADATA_NAME}: {key} is {_kind(value)}, not a list")
    return value


def _count(mapping: dict[Any, Any], key: str) -> int:
    value = mapping.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DamageError(f"{METADATA_NAME}: {key} is {value!r}, not a count")
    return value


def _text(mapping: dict[Any, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"
