"""Outputs that appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dql_core.errors import ConfigError, DqlError, OutputError, system_error_text
from dql_core.leftovers import remove_leftovers, unfinished_file, unfinished_folder

# What only writing can end in; the rest may as well concern what is read.
_WRITING = {errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS}
# Every finished demo has it; a folder without it is somebody's own.
MARKER = "summary.json"


def is_free(target: Path) -> bool:
    """Whether a folder can appear at ``target``: nothing is there but an empty folder.

    What a killed process left unfinished in it is removed.
    """
    if target.is_dir() and not target.is_symlink():
        remove_leftovers(target)
        return not any(target.iterdir())
    return not os.path.lexists(target)


def require_free(target: Path, error: type[DqlError], else_: str = " or remove it") -> None:
    """Refuse a place for a folder that already holds something.

    Args:
        target: The place.
        error: The kind of error to raise.
        else_: What the user may do instead of naming another place.

    Raises:
        DqlError: Of the kind ``error``.
    """
    if not is_free(target):
        raise error(f"{target}: already exists; name another --out folder{else_}")


@contextmanager
def atomic_directory(
    target: Path, *, replace: bool = False, error: type[DqlError] = OutputError
) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block ends without an exception.

    Args:
        target: Where the folder is to appear; it must not exist yet, or be an empty folder.
        replace: It may hold something, which is removed once it is replaced.
        error: The kind of error to raise if it holds something, at the start or at the end.

    Yields:
        A temporary folder beside ``target``; it is removed if the block raises, together with
        those folders above it that were made for it.

    Raises:
        DqlError: Of the kind ``error``, if ``target`` already holds something.
        OutputError: If it cannot be written.
    """
    with writing(target):
        place = target.absolute()
        if replace:
            _end_replacement(place)
        else:
            require_free(target, error)
        with _parents_of(place):
            remove_leftovers(place.parent)
            unfinished = unfinished_folder(place.parent, f".{place.name}.partial")
            try:
                yield unfinished.path
                if replace and not is_free(place):
                    _replace(place, unfinished.path)
                else:
                    require_free(target, error)  # something may have come meanwhile
                    # POSIX renames a folder onto an empty one in a single step.
                    unfinished.path.rename(place)
            finally:
                unfinished.remove()


@contextmanager
def replacing_directory(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of a demo's results when the block ends well.

    Raises:
        ConfigError: If ``target`` is a file, or holds something other than the result of a demo.
    """
    if not (target / MARKER).is_file() and not is_free(target):
        raise ConfigError(
            f"{target}: exists and is not a result of 'dql demo' (it has no {MARKER}); name "
            f"another --out folder"
        )
    with atomic_directory(target, replace=True) as folder:
        yield folder


def write_text(target: Path, text: str) -> None:
    """Replace the file ``target`` by ``text`` in one step.

    Raises:
        OutputError: If it cannot be written.
    """
    with writing(target):
        if target.exists() and not target.is_file():
            raise OutputError(f"{target}: is not a regular file; name another file to write")
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
    """Report in one line why ``target`` cannot be written, and how to fix it.

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
        if cause.errno in _WRITING or _concerns(cause, target):
            above = f"{cause.filename}: " if _is_above(cause.filename, target) else ""
            reason = f"{above}{system_error_text(cause)}"
            raise OutputError(f"{target}: cannot be written: {reason}") from cause
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
    """Whether an error names ``target``, a folder above it, or what it is made from."""
    path = os.path.abspath(target)
    unfinished = os.path.join(os.path.dirname(path), f".{target.name}.")
    names = [each for each in (cause.filename, cause.filename2) if isinstance(each, str)]
    return any(
        _is_above(name, target)
        or f"{os.path.abspath(name)}{os.sep}".startswith((unfinished, f"{path}{os.sep}"))
        for name in names
    )


def _is_above(name: object, target: Path) -> bool:
    """Whether ``name`` is a folder that ``target`` is in."""
    return isinstance(name, str) and Path(name).absolute() in target.absolute().parents
