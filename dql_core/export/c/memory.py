"""Where the values of a decision lie while they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Arena:
    """Arrays in one piece of memory; those that are not needed at the same time share it.

    Attributes:
        size: How many numbers it must hold.
        offsets: Where the array of each name begins.
    """

    size: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    _lengths: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, length: int, in_place_of: Iterable[str] = ()) -> None:
        """Find room for an array: in place of one that is not needed any more, or the first gap.

        Args:
            name: Its name.
            length: Of how many numbers.
            in_place_of: Arrays that it may overwrite if they are as long.
        """
        for other in in_place_of:
            if self._lengths.get(other) == length:
                self._lengths.pop(other)
                self.offsets[name] = self.offsets[other]
                break
        else:
            self.offsets[name] = self._first_gap(length)
        self._lengths[name] = length
        self.size = max(self.size, self.offsets[name] + length)

    def free(self, name: str) -> None:
        """Give up an array, if it was not overwritten already."""
        self._lengths.pop(name, None)

    def _first_gap(self, length: int) -> int:
        offset = 0
        for begin, taken in sorted((self.offsets[name], n) for name, n in self._lengths.items()):
            if offset + length <= begin:
                break
            offset = max(offset, begin + taken)
        return offset
