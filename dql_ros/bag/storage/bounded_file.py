"""A file of which no more is ever asked than it has, whatever its length fields say."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from dql_ros.bag.storage.damage import DamageError


class BoundedFile:
    """A file opened for reading at given places; a context manager.

    Attributes:
        size: Its length in bytes.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        self.size = path.stat().st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset`` on.

        Raises:
            DamageError: If the file has fewer; nothing is allocated then.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DamageError(
                f"is cut off: {length} bytes are expected at byte {offset}, it has {self.size}"
            )
        self._stream.seek(offset)
        content = self._stream.read(length)
        if len(content) != length:
            raise DamageError(f"became shorter while it was read, at byte {offset + len(content)}")
        return content

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
