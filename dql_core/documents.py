"""Files that may come from anybody: regular ones only, of a bounded size, and JSON of a kind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from dql_core.errors import DqlError, one_line

MAX_JSON_BYTES = 1 << 24
# By which the folders of runs and of checkpoints are told from others.
RUN_FILE = "run.json"
CHECKPOINT_FILE = "checkpoint.json"
# What /proc and the like have in files of no size.
LEAST_READ = 1 << 16
# Nothing of ours is nested as deeply; Python's own limit ends in a RecursionError.
MAX_DEPTH = 64

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def read_bounded(path: Path, limit: int, error: type[DqlError]) -> bytes:
    """Return the content of a regular file; pipes and devices are never waited for.

    Args:
        path: The file, or a link to it.
        limit: Most bytes that it may have.
        error: The kind of error to raise.

    Raises:
        DqlError: Of the kind ``error``, if it is missing, of another kind, or larger.
    """
    try:
        _require_regular(path, os.stat(path), error)  # to open a device may do something
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _require_regular(path, status, error)
            # The size may be a lie, of files in /proc as well: what is read decides.
            is_larger = status.st_size > limit
            content = b"" if is_larger else file.read(max(status.st_size, LEAST_READ) + 1)
    except (OSError, ValueError) as cause:
        raise error(f"{path}: {_reason(cause)}") from cause
    if is_larger or len(content) > limit:
        raise error(f"{path}: is larger than {limit:,} bytes, which is too large for its kind")
    return content


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def file_within(folder: Path, name: str, error: type[DqlError]) -> Path:
    """Return a file of a folder that somebody else may have packed.

    Args:
        folder: The folder; it may itself be reached by a link.
        name: The file's name in it, which may have parts: ``0/part-0.arrow``.
        error: The kind of error to raise.

    Raises:
        DqlError: Of the kind ``error``, if it is missing, not a regular file, or a link, which
            could lead anywhere.
    """
    path, relative = folder, Path(name)
    if relative.is_absolute() or os.pardir in relative.parts or not relative.parts:
        raise error(f"{folder}: names the file '{name}', which is outside of the folder")
    for part in relative.parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError) as cause:
            raise error(f"{path}: {_reason(cause)}") from cause
        needed = stat.S_ISREG if path == folder / relative else stat.S_ISDIR
        if not needed(mode):
            raise error(
                f"{path}: is {_kind(mode)}; only regular files in folders of their own are read "
                f"here: put a copy of what is meant in its place"
            )
    return path


def read_json(path: Path, error: type[DqlError], limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON mapping from a file.

    Args:
        path: The file.
        error: The kind of error to raise.
        limit: Most bytes that it may have.

    Raises:
        DqlError: Of the kind ``error``, if the file is missing, too large or damaged.
    """
    return parse_json(read_bounded(path, limit, error), str(path), error)


def parse_json(text: str | bytes, where: str, error: type[DqlError]) -> dict[str, Any]:
    """Read a JSON mapping.

    Args:
        text: The text.
        where: What it is, for messages.
        error: The kind of error to raise.

    Raises:
        DqlError: Of the kind ``error``, if it is no JSON, no mapping, has a key twice or is
            nested too deeply.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode()
        _require_flat(decoded)
        document = json.loads(decoded, object_pairs_hook=_mapping)
    except (ValueError, RecursionError) as cause:
        raise error(f"{where}: damaged: {_reason(cause)}") from cause
    if not isinstance(document, dict):
        raise error(f"{where}: damaged: must hold a mapping, not {type(document).__name__}")
    return document


def _require_flat(text: str) -> None:
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth > MAX_DEPTH:
            raise ValueError(f"is nested more than {MAX_DEPTH} deep")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key '{key}' appears twice")
            seen.add(key)
    return mapping


def _require_regular(path: Path, status: os.stat_result, error: type[DqlError]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path}: is {_kind(status.st_mode)}, not a regular file")


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")


def _reason(cause: Exception) -> str:
    if isinstance(cause, OSError):
        missing = cause.errno in (errno.ENOENT, errno.ENOTDIR)
        return "no such file" if missing else (cause.strerror or str(cause))
    return one_line(cause)
