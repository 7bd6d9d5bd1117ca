"""Unfinished files and folders, and how the next process knows which of them nobody works at.

Each is locked by the process that it belongs to. A killed process leaves its own behind without
the lock, and whoever works in the same folder next removes it: by its name, its owner and the lock
that it can take. A process id would not do, since ids are given again. The name holds the
machine, because locks need not reach over a disk that several machines share.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

# So often another process may take a new folder for a leftover before it is locked.
_ATTEMPTS = 100
_NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Unfinished:
    """A new file or folder of this process alone, which holds its lock.

    Attributes:
        path: Where it is, until it is removed or renamed.
        descriptor: It, opened; a child process that is given it holds the lock, too.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Keep the lock until `remove` is called, nobody refers to it, or the process ends."""
        self.path = path
        self.descriptor = descriptor
        self._finalizer = weakref.finalize(self, _remove, path, descriptor)

    def remove(self) -> None:
        """Remove it if it is still there, and give the lock back."""
        self._finalizer()

    def leave(self) -> None:
        """Give the lock back and let it stay."""
        if self._finalizer.detach():
            os.close(self.descriptor)


def temporary_folder() -> Unfinished:
    """Make a folder of this user alone for the life of this process.

    It is among the temporary files; those of processes that were killed go.
    """
    parent = Path(tempfile.gettempdir())
    remove_leftovers(parent)
    return unfinished_folder(parent, "dql_ros", mode=0o700)


def unfinished_folder(parent: Path, stem: str, mode: int = 0o777) -> Unfinished:
    """Make the folder ``parent/STEM-MACHINE-RANDOM``.

    Raises:
        OSError: If ``parent`` cannot be written.
    """

    def make(path: Path) -> int:
        path.mkdir(mode)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)

    return _claimed(parent, stem, make)


def unfinished_file(parent: Path, stem: str) -> Unfinished:
    """Make the file ``parent/STEM-MACHINE-RANDOM``, open for writing; as `unfinished_folder`."""

    def make(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o666)

    return _claimed(parent, stem, make)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this user on this machine left in ``folder`` and no longer lock."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if re.fullmatch(rf"(\..+\.partial|dql_ros)-{_machine()}-[0-9a-f]{{8}}", name, re.DOTALL):
            with suppress(OSError):  # it is in use, or the file system has no locks
                _remove_unlocked(folder / name)


def remove_partial(folder: Path, name: str = "*") -> None:
    """Remove what is unfinished of ``name`` in ``folder``, which this process has for itself.

    Also what earlier versions left there, which did not lock it.
    """
    for left in folder.glob(f".{name}.partial-*"):
        with suppress(OSError):
            _remove_unlocked(left)


def _claimed(parent: Path, stem: str, make: Callable[[Path], int]) -> Unfinished:
    refused: OSError = FileExistsError(f"{parent}: no name for an unfinished file is free")
    for _ in range(_ATTEMPTS):
        path = parent / f"{stem}-{_machine()}-{secrets.token_hex(4)}"
        try:
            descriptor = make(path)
        except FileExistsError:
            continue
        except FileNotFoundError as cause:
            if not parent.exists():
                raise
            refused = cause
            continue  # it was taken for a leftover, or nothing can be made there, as in /proc
        with suppress(OSError):  # a file system without locks: there it is no leftover, either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(path, descriptor):
            return Unfinished(path, descriptor)
        os.close(descriptor)
    raise refused


def _remove_unlocked(path: Path) -> None:
    """Remove a leftover.

    Raises:
        OSError: If a process holds its lock, or none can be had.
    """
    if not _is_ours(path.lstat()):
        return
    descriptor = os.open(path, os.O_RDONLY | _NO_LINK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_ours(os.fstat(descriptor)) and _is_at(path, descriptor):
            _delete(path)
    finally:
        os.close(descriptor)


def _remove(path: Path, descriptor: int) -> None:
    try:
        if _is_at(path, descriptor):
            _delete(path)
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and stat.S_IFMT(status.st_mode) in (
        stat.S_IFDIR,
        stat.S_IFREG,
    )


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether what is open still has its name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False


@cache
def _machine() -> str:
    """Eight letters by which machines that share a disk differ."""
    identity = platform.node()
    with suppress(OSError):
        identity += Path("/etc/machine-id").read_text()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
