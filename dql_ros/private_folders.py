"""Folders that nobody but this user can look into or prepare.

Names among the temporary files can be taken by anybody on the machine, as a folder of theirs or as
a link to a file that is to be lost. So they are either random and new, or looked at before use.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dql_core.errors import SimulationError
from dql_core.leftovers import Unfinished, remove_leftovers, unfinished_folder

_NAME = "dql_ros"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def temporary_folder() -> Unfinished:
    """Make a folder for the life of this process; those of processes that were killed go."""
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    return unfinished_folder(parent, _NAME, mode=0o700)


@contextmanager
def runtime_folder() -> Iterator[int]:
    """Open the folder in which processes of this user find each other's locks.

    It is ``dql_ros`` in XDG_RUNTIME_DIR, or, where that is not set or no folder of this user
    alone, ``dql_ros-UID`` among the temporary files.

    Yields:
        The folder as a file descriptor, by which files in it are to be opened.

    Raises:
        SimulationError: If it is a link, another user's, or open to others.
    """
    folder = _place()
    with suppress(FileExistsError):
        folder.mkdir(0o700)
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError as cause:
        raise SimulationError(_refusal(folder)) from cause
    try:
        if not _is_private(os.fstat(descriptor)):
            raise SimulationError(_refusal(folder))
        yield descriptor
    finally:
        os.close(descriptor)


def open_lock(folder: int, name: str) -> int:
    """Open a file of `runtime_folder` to lock it; its content stays as it is.

    Raises:
        SimulationError: If it is anything but a file of this user alone.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError as cause:
        raise SimulationError(_strange(name)) from cause
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 1:
        os.close(descriptor)
        raise SimulationError(_strange(name))
    return descriptor


def _place() -> Path:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given and os.path.isabs(given):
        with suppress(OSError):
            status = os.lstat(given)
            if _is_private(status) and os.access(given, os.W_OK | os.X_OK):
                return Path(given) / _NAME
    return Path(tempfile.gettempdir()) / f"{_NAME}-{os.geteuid()}"


def _is_private(status: os.stat_result) -> bool:
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    )


def _refusal(folder: Path) -> str:
    return (
        f"{folder}: is no folder of this user alone (mode 0700), so that others may tamper with "
        f"the locks in it; remove it, or set XDG_RUNTIME_DIR to such a folder"
    )


def _strange(name: str) -> str:
    folder = _place()
    return f"{folder / name}: is no plain file of this user; remove {folder}"
