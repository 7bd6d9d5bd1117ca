"""Outputs that appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_directory(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block ends without an exception.

    Args:
        target: Where the folder is to appear; it must not exist yet, or be an empty folder.

    Yields:
        A temporary folder beside ``target``; it is removed if the block raises.

    Raises:
        FileExistsError: If ``target`` already holds something.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} already exists")
    temporary = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # POSIX renames a folder onto an empty one in a single step.
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Replace the file ``target`` by ``text`` in one step."""
    temporary = target.with_name(f".{target.name}.partial-{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(target)


def remove_partial(folder: Path) -> None:
    """Remove what a killed process left unfinished in ``folder``."""
    for left in folder.glob(".*.partial-*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
