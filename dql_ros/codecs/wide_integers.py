"""Integers beyond 2**53, of which float64 has not every one, less a whole number: exactly.

An encoder's count, a time in nanoseconds or an identifier may be so large. Where the contract
counts such a field from an offset, the offset is subtracted while it is an integer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dql_ros.contract import FieldSelection
from dql_ros.contract.units import Conversion, conversion

# Up to 2**53 float64 has every whole number; so much room is left for the field to move.
BLOCK_BITS = 52
# Differences beyond it may not fit 64 bits, and are taken of the rounded numbers.
LARGEST_EXACT = 2.0**62
WIDE_DTYPES = frozenset({"<i8", "<u8"})


def unit_conversion(selection: FieldSelection) -> Conversion:
    """From the unit of a selection's numbers in the message to theirs in the vector."""
    source, target = selection.converted_units
    return conversion(source, target) if source else Conversion()


def exact_offsets(selection: FieldSelection) -> list[int]:
    """What is subtracted from each number of a selection as a whole number; 0 for nothing."""
    is_plain = selection.constant is None and selection.rotation is None
    if not is_plain or selection.offset == "first" or unit_conversion(selection) != Conversion():
        return [0] * len(selection.read_elements)
    return [
        int(offset) if abs(offset) >= 2.0**BLOCK_BITS and offset.is_integer() else 0
        for offset in map(float, selection.offsets)
    ]


def block_of(number: int) -> int:
    """The start, towards 0, of the block of 2**52 numbers that has a number; 0 for small ones.

    Whoever begins to count near the number, offline or live, finds the same.
    """
    start = abs(number) >> BLOCK_BITS << BLOCK_BITS
    return start if number >= 0 else -start


class IntegerOffsets:
    """What is subtracted from the numbers that are read from a stream's messages.

    Attributes:
        offsets: By column; of a field with ``offset: first`` since its first message was seen.

    Args:
        selections: The stream's selections.
    """

    def __init__(self, selections: Sequence[FieldSelection]) -> None:
        fixed = [each for selection in selections for each in exact_offsets(selection)]
        self.offsets = {column: offset for column, offset in enumerate(fixed) if offset}
        self._from_first = {
            column
            for column, selection in enumerate(_owners(selections))
            if selection.offset == "first" and selection.rotation is None
        }

    @property
    def columns(self) -> set[int]:
        """The columns that are looked at as integers."""
        return self._from_first | self.offsets.keys()

    def subtracted(self, column: int, number: object) -> float | None:
        """Return a number less the column's offset; ``None`` if it is none or too wide for that.

        The first integer of a field with ``offset: first`` says what is subtracted from it.
        """
        if isinstance(number, float | np.floating):
            return float(number) - float(self.offsets.get(column, 0))
        if not isinstance(number, int | np.integer):
            return None
        integer = int(number)
        if column in self._from_first:
            self.offsets.setdefault(column, block_of(integer))
        offset = self.offsets[column]
        about = float(integer) - float(offset)
        return float(integer - offset) if abs(about) < LARGEST_EXACT else about


def _owners(selections: Sequence[FieldSelection]) -> Iterator[FieldSelection]:
    for selection in selections:
        for _ in selection.read_elements:
            yield selection


def less_offset(numbers: NDArray[np.generic], offset: int) -> NDArray[np.float64]:
    """Return numbers of a message's type less a whole number, shape (n,); see `IntegerOffsets`."""
    about: NDArray[np.float64] = numbers.astype(np.float64) - float(offset)
    if numbers.dtype.str not in WIDE_DTYPES:
        return about
    modular = numbers.astype(np.uint64) - np.uint64(offset % 2**64)
    return np.where(np.abs(about) < LARGEST_EXACT, modular.view(np.int64), about)
