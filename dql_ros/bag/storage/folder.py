"""Which files are a bag's, by its folder and its metadata.yaml of versions 1 to 9.

Of metadata.yaml only what a reader needs is read (source: rosbag2_storage/yaml.hpp); the files
themselves say the rest, and what they say is compared with it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from dql_core.documents import file_within, read_bounded
from dql_core.errors import BagError, did_you_mean_path, listed
from dql_core.strict_yaml import load_yaml
from dql_ros.bag.storage.opening import COMPRESSED, FORMATS
from dql_ros.bag.storage.storage import DAMAGE, DamageError, Loss, absolute_topic, reason_of

_OF_FOLDERS = [suffix for suffix, storage in FORMATS.items() if storage.has_folders]
FOLDER_SUFFIXES = (*_OF_FOLDERS, *(suffix + COMPRESSED for suffix in _OF_FOLDERS))
STORAGE_SUFFIXES = (*FOLDER_SUFFIXES, *(each for each in FORMATS if each not in _OF_FOLDERS))
_NUMBER = re.compile(r"(\d+)")
_SPLIT = re.compile(r"_\d+$")
METADATA_NAME = "metadata.yaml"
MAX_METADATA_BYTES = 1 << 24
# A bag of ten thousand files has about half of it.
MAX_VALUES = 300_000
NEWEST_VERSION = 9
# What macOS puts beside each file on a disk that is not its own.
SIDE_FILE = "._"


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says.

    Attributes:
        version: Its version; 0 if it does not say.
        files: Names of the bag's files, without their folder.
        file_counts: Messages of each file, where it says.
        counts: Messages of each topic.
        types: Type of each topic.
        publishers: How many publishers of each topic the recorder knew.
        custom_data: Texts that the recording carries.
        doubled: A sentence for each key that is there twice.
        distribution: The ROS distribution that recorded it; empty if it does not say.
    """

    version: int = 0
    files: tuple[str, ...] = ()
    file_counts: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    publishers: dict[str, int] = field(default_factory=dict)
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
        raise DamageError(f"{METADATA_NAME} is no valid yaml: {reason_of(cause)}") from cause
    content = _mapping(document, "its content")
    information = _mapping(content.get("rosbag2_bagfile_information", content), "its information")
    entries = _list(information, "topics_with_message_count")
    topics = [_topic(entry) for entry in entries]
    counts: Counter[str] = Counter()
    for name, _, count in topics:
        counts[name] += count
    distribution = information.get("ros_distro")
    file_counts = _file_counts(information)
    paths = _list(information, "relative_file_paths")
    return Metadata(
        version=_count(information, "version"),
        files=tuple(PurePosixPath(str(each)).name for each in paths or file_counts),
        file_counts=file_counts,
        counts=counts,
        types={name: msgtype for name, msgtype, _ in topics},
        publishers={
            name: _publishers(entry["topic_metadata"].get("offered_qos_profiles"))
            for (name, *_), entry in zip(topics, entries, strict=True)
        },
        custom_data={
            str(key): str(value)
            for key, value in _mapping(information.get("custom_data") or {}, "custom_data").items()
        },
        distribution=distribution if isinstance(distribution, str) else "",
        doubled=tuple(doubled),
    )


def _topic(entry: Any) -> tuple[str, str, int]:
    topic = _mapping(_mapping(entry, "a topic").get("topic_metadata"), "topic_metadata")
    name, msgtype = topic.get("name"), topic.get("type")
    if not isinstance(name, str) or not isinstance(msgtype, str):
        raise DamageError(f"{METADATA_NAME} has a topic {name!r} of type {msgtype!r}")
    return absolute_topic(name), msgtype, _count(entry, "message_count")


def _publishers(profiles: Any) -> int:
    """How many publishers offered these profiles, a list, or the text of one."""
    if isinstance(profiles, str):
        return sum(line.startswith("- ") for line in profiles.splitlines())
    return len(profiles) if isinstance(profiles, list) else 0


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


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


@dataclass
class Layout:
    """A bag's files.

    Attributes:
        files: The files in their order.
        metadata: What metadata.yaml says, if there is one.
        notes: What the user should know.
        losses: Files that are missing.
        unnamed: Files in the folder that metadata.yaml does not name.
    """

    files: tuple[Path, ...]
    metadata: Metadata | None = None
    notes: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    unnamed: tuple[str, ...] = ()


def is_storage(path: Path) -> bool:
    """Whether a file's name is that of a bag or of a part of one."""
    return path.name.endswith(STORAGE_SUFFIXES) and not path.name.startswith(SIDE_FILE)


def find_files(path: Path, *, salvage: bool) -> Layout:
    """Find a bag's files.

    Args:
        path: A rosbag2 folder or a single file.
        salvage: Do without what is missing or unreadable, and say so.

    Raises:
        BagError: If there is no such bag.
    """
    if not path.exists():
        raise BagError(f"{path}: no such bag{did_you_mean_path(path, path.parent.glob('*'))}")
    if not path.is_dir():
        if is_storage(path):
            return Layout((path,))
        if path.name.startswith(SIDE_FILE):
            raise BagError(f"{path}: not a bag, but what macOS keeps beside one; leave it out")
        kinds = f"{', '.join(STORAGE_SUFFIXES[:-1])} or {STORAGE_SUFFIXES[-1]}"
        raise BagError(f"{path}: not a bag; name a rosbag2 folder or a {kinds} file")
    names = (
        file.name
        for file in path.iterdir()
        if file.name.endswith(FOLDER_SUFFIXES) and not file.name.startswith(SIDE_FILE)
    )
    present = sorted((file_within(path, name, BagError) for name in names), key=_natural)
    layout = Layout(tuple(present))
    if (path / METADATA_NAME).is_file():
        _read_metadata(path, layout, salvage=salvage)
    if layout.metadata is None:
        _accept_without_metadata(path, layout)
    else:
        _apply_metadata(path, layout, layout.metadata, salvage=salvage)
    return layout


def _natural(file: Path) -> list[tuple[int, str]]:
    """A key for sorting by which the tenth file comes after the ninth."""
    parts = _NUMBER.split(file.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _read_metadata(path: Path, layout: Layout, *, salvage: bool) -> None:
    try:
        file = file_within(path, METADATA_NAME, BagError)
        content = read_bounded(file, MAX_METADATA_BYTES, BagError)
        layout.metadata = parse_metadata(content.decode())
    except (BagError, *DAMAGE) as cause:
        if not salvage:
            raise BagError(
                f"{path}: cannot be read: {reason_of(cause)}; the bag is damaged; remove "
                f"{METADATA_NAME} to read the files without it"
            ) from cause
        layout.notes.append(f"{METADATA_NAME} was passed over: {reason_of(cause)}")


def _accept_without_metadata(path: Path, layout: Layout) -> None:
    if not layout.files:
        raise BagError(
            f"{path}: has no {METADATA_NAME}: it is no rosbag2 folder, nor has it files of one "
            f"({', '.join(FOLDER_SUFFIXES)}){bags_within(path)}"
        )
    _require_one_recording(path, layout, f"has no {METADATA_NAME} and")
    if not (path / METADATA_NAME).is_file():
        names = ", ".join(file.name for file in layout.files)
        layout.notes.append(f"has no {METADATA_NAME}; read are the files that are there: {names}")


def bags_within(path: Path) -> str:
    """Say which bags a folder holds that is none itself; empty if it holds none."""
    bags = sorted(str(file.parent) for file in path.glob(f"*/{METADATA_NAME}"))
    return f"; it holds bags, name them: {listed(bags)}" if bags else ""


def _require_one_recording(path: Path, layout: Layout, why: str) -> None:
    """Check that files that nobody names are of one recording."""
    stems = {_SPLIT.sub("", file.name.split(".")[0]) for file in layout.files}
    if len(stems) > 1:
        names = listed([file.name for file in layout.files])
        raise BagError(
            f"{path}: {why} files of {len(stems)} recordings ({names}); name one of them"
        )


def _apply_metadata(path: Path, layout: Layout, metadata: Metadata, *, salvage: bool) -> None:
    """Take the files that metadata.yaml names, if they are there."""
    if metadata.doubled:
        more = f", and {len(metadata.doubled) - 1} more" if len(metadata.doubled) > 1 else ""
        layout.notes.append(f"{METADATA_NAME}: {metadata.doubled[0]}{more}: the last one counts")
    if metadata.version > NEWEST_VERSION:
        layout.notes.append(
            f"{METADATA_NAME} is of version {metadata.version}, the newest known is "
            f"{NEWEST_VERSION}"
        )
    present = {file.name: file for file in layout.files}
    found = {name: _present(name, present) for name in dict.fromkeys(metadata.files)}
    missing = [name for name, file in found.items() if file is None]
    named = tuple(file for file in found.values() if file is not None)
    if not named:
        _take_what_is_there(path, layout, missing)
        return
    layout.unnamed = tuple(file.name for file in layout.files if file not in named)
    unnamed = f"{listed(layout.unnamed)} not read, which {METADATA_NAME} does not name"
    if missing and not salvage:
        raise BagError(
            f"{path}: cannot be read: {listed(missing)}, which {METADATA_NAME} names, is missing"
            f"{f' ({unnamed})' if layout.unnamed else ''}; the bag is damaged: --salvage reads "
            f"the files that are there"
        )
    for name in missing:
        layout.losses.append(Loss(name, "is missing", metadata.file_counts.get(name), None))
    if layout.unnamed:
        layout.notes.append(unnamed)
    layout.files = named


def _take_what_is_there(path: Path, layout: Layout, missing: Sequence[str]) -> None:
    """Take the files in the folder, none of which metadata.yaml names."""
    if not layout.files:
        what = f"{listed(missing)}, which {METADATA_NAME} names, is missing"
        if not missing:
            what = f"there is no file of a recording beside its {METADATA_NAME}"
        raise BagError(
            f"{path}: cannot be read: {what}; put it into the folder "
            f"({', '.join(FOLDER_SUFFIXES)})"
        )
    why = f"{METADATA_NAME} names " + (
        f"other files ({listed(missing)})" if missing else "no file"
    )
    _require_one_recording(path, layout, f"{why}, and there are")
    names = ", ".join(file.name for file in layout.files)
    layout.notes.append(f"{why}; read are those that are there: {names}")


def _present(name: str, present: dict[str, Path]) -> Path | None:
    """The file of a name, also if it was compressed or decompressed since."""
    for candidate in (name, name + COMPRESSED, name.removesuffix(COMPRESSED)):
        if candidate in present:
            return present[candidate]
    return None
