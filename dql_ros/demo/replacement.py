"""A result folder that replaces the previous one whole, and only one that it may replace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dql_core.atomic import is_free, whole_directory
from dql_core.errors import ConfigError

# Every finished demo has it, so that a folder without it is somebody's own.
MARKER = "summary.json"


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
    with whole_directory(target, replace=True) as folder:
        yield folder
