"""Which files are a bag's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from dql_core.documents import file_within, read_bounded
from dql_core.errors import BagError, did_you_mean
from dql_ros.bag.storage.damage import DAMAGE, Loss, sentence
from dql_ros.bag.storage.metadata import (
    MAX_METADATA_BYTES,
    METADATA_NAME,
    NEWEST_VERSION,
    Metadata,
    parse_metadata,
)

COMPRESSED = ".zstd"
# What a folder's files end in; ROS 1 has no folders.
FOLDER_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
STORAGE_SUFFIXES = (*FOLDER_SUFFIXES, ".bag")

_NUMBER = re.compile(r"(\d+)")
_SPLIT = re.compile(r"_\d+$")


@dataclass
class Layout:
    """A bag's files.

    Attributes:
        files: The files in their order.
        metadata: What metadata.yaml says, if there is one.
        notes: What the user should know.
        losses: Files that are missing.
    """

    files: tuple[Path, ...]
    metadata: Metadata | None = None
    notes: list[str] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)


def is_storage(path: Path) -> bool:
    """Whether a file's name is that of a bag or of a part of one."""
    return path.name.endswith(STORAGE_SUFFIXES)


def find_files(path: Path, *, salvage: bool) -> Layout:
    """Find a bag's files.

    Args:
        path: A rosbag2 folder or a single file.
        salvage: Do without what is missing or unreadable, and say so.

    Raises:
        BagError: If there is no such bag.
    """
    if not path.exists():
        siblings = [other.name for other in path.parent.glob("*")]
        raise BagError(f"{path}: no such bag{did_you_mean(path.name, siblings)}")
    if not path.is_dir():
        if not is_storage(path):
            raise BagError(
                f"{path}: not a bag; name a rosbag2 folder or a {', '.join(STORAGE_SUFFIXES[:-1])}"
                f" or {STORAGE_SUFFIXES[-1]} file"
            )
        return Layout((path,))
    names = (file.name for file in path.iterdir() if file.name.endswith(FOLDER_SUFFIXES))
    present = natural_order([file_within(path, name, BagError) for name in names])
    layout = Layout(tuple(present))
    if (path / METADATA_NAME).is_file():
        _read_metadata(path, layout, salvage=salvage)
    if layout.metadata is None:
        _accept_without_metadata(path, layout)
    else:
        _apply_metadata(path, layout, layout.metadata, salvage=salvage)
    return layout


def natural_order(files: list[Path]) -> list[Path]:
    """Sort so that the tenth part comes after the ninth."""
    return sorted(
        files,
        key=lambda file: [
            (int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(file.name)
        ],
    )


def _read_metadata(path: Path, layout: Layout, *, salvage: bool) -> None:
    try:
        file = file_within(path, METADATA_NAME, BagError)
        content = read_bounded(file, MAX_METADATA_BYTES, BagError)
        layout.metadata = parse_metadata(content.decode())
    except (BagError, *DAMAGE) as cause:
        if not salvage:
            raise BagError(
                f"{path}: cannot be read: {sentence(cause)}; the bag is damaged; remove "
                f"{METADATA_NAME} to read the files without it"
            ) from cause
        layout.notes.append(f"{METADATA_NAME} was passed over: {sentence(cause)}")


def _accept_without_metadata(path: Path, layout: Layout) -> None:
    if not layout.files:
        raise BagError(
            f"{path}: has no {METADATA_NAME}: it is no rosbag2 folder, nor has it files of one "
            f"({', '.join(FOLDER_SUFFIXES)})"
        )
    stems = {_SPLIT.sub("", file.name.split(".")[0]) for file in layout.files}
    if len(stems) > 1:
        names = ", ".join(file.name for file in layout.files[:4])
        raise BagError(
            f"{path}: has no {METADATA_NAME} and files of {len(stems)} recordings ({names}); name "
            f"one of them"
        )
    if not (path / METADATA_NAME).is_file():
        names = ", ".join(file.name for file in layout.files)
        layout.notes.append(f"has no {METADATA_NAME}; read are the files that are there: {names}")


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
    if missing and not named and layout.files:
        layout.notes.append(
            f"{METADATA_NAME} names other files ({', '.join(missing[:4])}); read are those that "
            f"are there: {', '.join(present)}"
        )
        return
    if missing and not (salvage and named):
        raise BagError(
            f"{path}: cannot be read: {missing[0]}, which {METADATA_NAME} names, is missing; the "
            f"bag is damaged"
        )
    for name in missing:
        layout.losses.append(Loss(name, "is missing", metadata.file_counts.get(name), None))
    if others := [file.name for file in layout.files if file not in named]:
        layout.notes.append(f"{', '.join(others)} not read, which {METADATA_NAME} does not name")
    layout.files = named


def _present(name: str, present: dict[str, Path]) -> Path | None:
    """The file of a name, also if it was compressed or decompressed since."""
    for candidate in (name, name + COMPRESSED, name.removesuffix(COMPRESSED)):
        if candidate in present:
            return present[candidate]
    return None
