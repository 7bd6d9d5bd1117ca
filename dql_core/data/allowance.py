"""How much memory the arrays of files may take: so much as the files' own sizes explain."""

from __future__ import annotations

from pathlib import Path

from dql_core.errors import DatasetError

# Arrays may be so many times larger than what is stored of them, and so many bytes beside that:
# compressed numbers are rarely a tenth, and a bomb is a thousandth or nothing at all.
MAX_GROWTH = 100
ALWAYS_BYTES = 1 << 30
_BLOCK_BYTES = 512


class Allowance:
    """What may still be taken; shared by all arrays of a dataset."""

    def __init__(self) -> None:
        self._left = ALWAYS_BYTES
        self._where = ""

    def add(self, path: Path) -> None:
        """Count in what a file explains, before its arrays are taken.

        Raises:
            DatasetError: If nearly all of the file is nowhere.
        """
        status = path.stat()
        # A sparse file of a terabyte takes no room on the disk.
        stored = min(status.st_size, status.st_blocks * _BLOCK_BYTES)
        self._left += MAX_GROWTH * stored
        self._where = f"{path}, of which {stored:,} bytes are stored"
        if status.st_size > self._left:
            raise DatasetError(f"{self._where}: calls itself {status.st_size:,} bytes long")

    def take(self, size_bytes: int, what: str) -> None:
        """Count an array in, before it is read.

        Raises:
            DatasetError: If there is no room left for it.
        """
        if not 0 <= size_bytes <= self._left:
            raise DatasetError(
                f"{self._where}: {what} is {size_bytes:,} bytes in memory: the file is damaged or "
                f"made to fill it"
            )
        self._left -= size_bytes
