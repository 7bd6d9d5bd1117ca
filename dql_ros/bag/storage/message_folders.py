"""Message definitions that a user has: folders of ``.msg`` and ``.idl`` files, or a ``share``."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from rosbags.interfaces.typing import Typesdict

from dql_core.errors import ConfigError
from dql_ros.bag.storage.definition_text import (
    MAX_DEFINITION_BYTES,
    types_from_idl,
    types_from_msg,
)
from dql_ros.bag.storage.storage import DAMAGE, DamageError, reason_of

# An installation of all of ROS has some thousand.
MAX_FILES = 100_000
_KINDS = {"msg", "srv", "action"}
_PACKAGE_NAME = re.compile(rb"<name>\s*(\w+)\s*</name>")


class MessageFolders:
    """Finds the definitions in folders; of a type that is in several, the first one's counts.

    Args:
        folders: Each a package, a folder of packages, or an installed ``share``.

    Raises:
        ConfigError: If one is no folder, or has no definition.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._files: dict[str, Path] = {}
        for folder in folders:
            found = list(_definitions(folder))
            if not found:
                raise ConfigError(f"{folder}: has no .msg or .idl file; name a folder with some")
            for name, path in found:
                self._files.setdefault(name, path)

    @property
    def identity(self) -> str:
        """What the definitions are, as far as the files' sizes and times say; a hash."""
        stats = ((name, path.stat()) for name, path in sorted(self._files.items()))
        lines = (f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def types(self, name: str) -> Typesdict:
        """Return the types that the file of a type defines; empty if there is none.

        Raises:
            DamageError: If the file is no definition.
        """
        path = self._files.get(name)
        if path is None:
            return {}
        try:
            if path.stat().st_size > MAX_DEFINITION_BYTES:
                raise DamageError("it is over a megabyte long")
            text = path.read_bytes().decode("utf-8", "replace")
            parse = types_from_idl if path.suffix == ".idl" else types_from_msg
            return parse(text, name)
        except DAMAGE as cause:
            raise DamageError(f"{path} is no definition ({reason_of(cause)})") from cause


@cache
def message_folders(folders: tuple[Path, ...]) -> MessageFolders:
    """Return the definitions in folders, which are looked for once in a process."""
    return MessageFolders(folders)


def _definitions(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names of a folder's types with their files; message files first."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder of message definitions; check --msgs")
    packages: dict[Path, str] = {}
    in_idl = []
    count = 0
    for place, _, names in os.walk(folder.absolute()):
        for path in (Path(place) / name for name in sorted(names)):
            if path.suffix not in {".msg", ".idl"} or path.name.startswith("."):
                continue
            if (count := count + 1) > MAX_FILES:
                raise ConfigError(f"{folder}: has over {MAX_FILES:,} definitions; name less")
            kind = path.parent.name if path.parent.name in _KINDS else "msg"
            root = path.parent.parent if path.parent.name in _KINDS else path.parent
            if root not in packages:
                packages[root] = _package(root)
            found = f"{packages[root]}/{kind}/{path.stem}", path
            if path.suffix == ".idl":
                in_idl.append(found)
            else:
                yield found
    yield from in_idl


def _package(root: Path) -> str:
    """The name of a package: as it says itself, else that of its folder."""
    try:
        with (root / "package.xml").open("rb") as file:
            named = _PACKAGE_NAME.search(file.read(1 << 16))
    except OSError:
        named = None
    return root.name if named is None else named[1].decode()
