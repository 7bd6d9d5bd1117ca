"""How much memory the arrays of a file may take: so much as the file's own size explains."""

from __future__ import annotations

from pathlib import Path

from dql_core.errors import DatasetError

# Arrays may be so many times larger than what is stored of them, or so many bytes if that is more:
# compressed numbers are rarely a tenth, and a bomb is a thousandth or nothing at all.
MAX_GROWTH = 100
ALWAYS_BYTES = 1 << 30
_BLOCK_BYTES = 512


class Allowance:
    """What may still be taken; shared by all arrays of a file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        status = path.stat()
        # A sparse file of a terabyte takes no room on the disk.
        stored = min(status.st_size, status.st_blocks * _BLOCK_BYTES)
        self._left = max(ALWAYS_BYTES, MAX_GROWTH * stored)
        self._where = f"{path}, of which {stored:,} bytes are stored"

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
