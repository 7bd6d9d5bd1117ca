"""Outputs that appear whole or not at all: written beside their place, then renamed into it.

The JSON files that a run writes of itself; read as what somebody else may have written.

A result folder that replaces the previous one whole, and only one that it may replace.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dql_core.documents import file_within, parse_json, read_bounded, read_json
from dql_core.errors import CheckpointError, ConfigError, OutputError, system_error_text
from dql_core.leftovers import remove_leftovers, unfinished_file, unfinished_folder

# What only writing can end in; the rest may as well concern what is read.
_WRITING = {errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS}
RUN_FILE = "run.json"
MAX_RECORDS_BYTES = 1 << 28
_APPENDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Every finished demo has it, so that a folder without it is somebody's own.
MARKER = "summary.json"


def is_free(target: Path) -> bool:
    """Whether a folder can appear at ``target``: nothing is there but an empty folder.

    What a killed process left unfinished in it is removed.
    """
    if target.is_dir() and not target.is_symlink():
        remove_leftovers(target)
        return not any(target.iterdir())
    return not os.path.lexists(target)


@contextmanager
def atomic_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block ends without an exception.

    Args:
        target: Where the folder is to appear; it must not exist yet, or be an empty folder.
        replace: It may hold something, which is removed once it is replaced.

    Yields:
        A temporary folder beside ``target``; it is removed if the block raises, together with
        those folders above it that were made for it.

    Raises:
        FileExistsError: If ``target`` already holds something.
        OutputError: If it cannot be written.
    """
    with writing(target):
        place = target.absolute()
        if replace:
            _end_replacement(place)
        elif not is_free(target):
            raise FileExistsError(errno.EEXIST, "already exists", str(target))
        with _parents_of(place):
            remove_leftovers(place.parent)
            unfinished = unfinished_folder(place.parent, f".{place.name}.partial")
            try:
                yield unfinished.path
                if replace and not is_free(place):
                    _replace(place, unfinished.path)
                else:
                    # POSIX renames a folder onto an empty one in a single step.
                    unfinished.path.rename(place)
            finally:
                unfinished.remove()


def write_text(target: Path, text: str) -> None:
    """Replace the file ``target`` by ``text`` in one step.

    Raises:
        OutputError: If it cannot be written.
    """
    with writing(target):
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: is no regular file; name another file to write")
        remove_leftovers(target.parent)
        unfinished = unfinished_file(target.parent, f".{target.name}.partial")
        try:
            with open(unfinished.descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            unfinished.path.replace(target)
        finally:
            unfinished.remove()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Tell in one line, with the way to mend it, why ``target`` cannot be written.

    Raises:
        OutputError: In place of the operating system's errors that concern ``target``.
    """
    try:
        yield
    except OSError as cause:
        if isinstance(cause, FileExistsError):
            if not _is_above(cause.filename, target):
                raise
            cause.errno = errno.ENOTDIR  # a file is where a folder must be
        elif cause.errno == errno.ENOTEMPTY and cause.filename2:
            # It came meanwhile.
            raise FileExistsError(errno.EEXIST, "already exists", str(target)) from cause
        if cause.errno in _WRITING or _concerns(cause, target):
            above = f"{cause.filename}: " if _is_above(cause.filename, target) else ""
            raise OutputError(
                f"{target}: cannot be written: {above}{system_error_text(cause)}"
            ) from cause
        raise


def require_room(folder: Path, size_bytes: int, written_bytes: int = 0) -> None:
    """Find out whether there is room, for a library that does not survive that there is none.

    Args:
        folder: Where it is to write.
        size_bytes: How much.
        written_bytes: How much the file has already that it adds to.

    Raises:
        OSError: If there is no room, or a quota or a limit is in the way.
    """
    unfinished = unfinished_file(folder, ".room.partial")
    try:
        os.posix_fallocate(unfinished.descriptor, written_bytes, size_bytes)
    finally:
        unfinished.remove()


def _replace(place: Path, new: Path) -> None:
    old = _replaced(place)
    place.rename(old)
    try:
        new.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _end_replacement(place: Path) -> None:
    """Bring back what a process was about to replace when it was killed, or remove the rest."""
    old = _replaced(place)
    if not old.is_dir() or old.is_symlink() or old.stat().st_uid != os.geteuid():
        return
    if is_free(place):
        old.rename(place)
    else:
        shutil.rmtree(old, ignore_errors=True)


def _replaced(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")


@contextmanager
def _parents_of(target: Path) -> Iterator[None]:
    """Make the folders above ``target``; if the block raises, those made are removed again."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):  # somebody else put something into it
                parent.rmdir()
        raise


def _concerns(cause: OSError, target: Path) -> bool:
    """Whether the operating system complains of ``target``, a folder above it, or its making."""
    path = os.path.abspath(target)
    unfinished = os.path.join(os.path.dirname(path), f".{target.name}.")
    return any(
        _is_above(name, target)
        or os.path.abspath(name).startswith((unfinished, f"{path}{os.sep}"))
        or os.path.abspath(name) == path
        for name in (cause.filename, cause.filename2)
        if isinstance(name, str)
    )


def _is_above(name: object, target: Path) -> bool:
    """Whether ``name`` is a folder that ``target`` is in."""
    return isinstance(name, str) and Path(name).absolute() in target.absolute().parents


def read_run_info(run: Path) -> dict[str, Any]:
    """Return what ``run.json`` says.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    path = file_within(run, RUN_FILE, CheckpointError)
    facts = read_json(path, CheckpointError)
    kinds = {"dataset": dict, "versions": dict, "q_alarms": list, "config_hash": str}
    for key, kind in kinds.items():
        if not isinstance(facts.get(key), kind):
            raise CheckpointError(f"{path}: damaged: '{key}' is {facts.get(key)!r:.80}")
    if not all(_is_record(alarm) for alarm in facts["q_alarms"]):
        raise CheckpointError(f"{path}: damaged: 'q_alarms' has something without a step")
    return facts


def write_run_info(run: Path, facts: dict[str, Any]) -> None:
    """Write ``run.json``."""
    write_text(run / RUN_FILE, json.dumps(facts, indent=2) + "\n")


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines, each of which belongs to a step of a run.

    A line that a killed process left unfinished is left out.

    Raises:
        CheckpointError: If the file is damaged, naming the line.
    """
    if not os.path.lexists(path):
        return []
    content = read_bounded(
        file_within(path.parent, path.name, CheckpointError), MAX_RECORDS_BYTES, CheckpointError
    )
    records = []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if line.endswith(b"\n"):
            record = parse_json(line, f"{path}: line {number}", CheckpointError)
            if not _is_record(record):
                raise CheckpointError(f"{path}: line {number}: damaged: has no step")
            records.append(record)
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with os.fdopen(open_to_append(path), "a") as file:
            file.write(json.dumps(record) + "\n")
    except OSError as cause:
        raise OutputError(f"{path}: cannot be written: {system_error_text(cause)}") from cause


def open_to_append(path: Path) -> int:
    """Open a run's file to add to it; a link, by which it would lie elsewhere, is not followed.

    Raises:
        OSError: If it cannot be written, or is a link.
    """
    return os.open(path, _APPENDING, 0o666)


def drop_after(path: Path, step: int) -> None:
    """Drop the records of later steps than ``step``, and an unfinished line, in one step."""
    if os.path.lexists(path):
        kept = (record for record in read_records(path) if record["step"] <= step)
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _is_record(record: object) -> bool:
    return isinstance(record, dict) and type(record.get("step")) is int


def require_replaceable(target: Path) -> None:
    """Refuse a folder that holds something other than the result of a demo.

    Raises:
        ConfigError: If it does, or ``target`` is a file.
    """
    if not (target / MARKER).is_file() and not is_free(target):
        raise ConfigError(
            f"{target}: exists and is no result of 'dql demo' (it has no {MARKER}); name another "
            f"--out folder"
        )


@contextmanager
def replacing_directory(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` when the block ends well.

    Yields:
        A folder beside ``target``; if the block raises, it is removed and ``target`` stays.

    Raises:
        ConfigError: If ``target`` is nothing that may be replaced.
    """
    require_replaceable(target)
    with atomic_directory(target, replace=True) as folder:
        yield folder
