"""From a message's numbers to the vector's and back: units, offsets, rotations and constants.

The bulk decoder of bags and the live decoder share these functions. Each row's result is the same
to the bit whatever rows it is computed with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from dql_ros.codecs.rotation import (
    angles_of_cosines_and_sines,
    columns_of_quaternions,
    cosines_and_sines,
    quaternion_of_columns,
    quaternion_of_yaw,
    yaws_of_quaternions,
)
from dql_ros.codecs.wide_integers import exact_offsets, unit_conversion
from dql_ros.contract import FieldSelection
from dql_ros.contract.units import Conversion


class FieldTransform:
    """What one selection makes of its numbers.

    Attributes:
        is_identity: Whether it leaves them as they are.

    Args:
        selection: The contract's description of the numbers.
        are_offset: Whether `exact_offsets` are subtracted from what is decoded already.
    """

    def __init__(self, selection: FieldSelection, *, are_offset: bool = False) -> None:
        self._selection = selection
        self._convert = unit_conversion(selection)
        self._offsets, self._scales = np.array(selection.offsets), np.array(selection.scales)
        self._is_shifted = bool(self._offsets.any() or (self._scales != 1.0).any())
        # What is left to subtract of decoded numbers.
        self._left = self._offsets
        exact = exact_offsets(selection) if are_offset else []
        if any(exact):
            self._left = np.where(exact, 0.0, self._offsets)
        self.is_identity = (
            selection.constant is None
            and selection.rotation is None
            and self._convert == Conversion()
            and not self._is_shifted
        )

    def decode(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vector's numbers, shape (n, width), from the message's, (n, elements)."""
        selection = self._selection
        if selection.constant is not None:
            vectors = np.empty((len(numbers), selection.width))
            vectors[:] = selection.constant if selection.width else 0.0
            return vectors
        if selection.rotation == "6d":
            return columns_of_quaternions(numbers)
        if selection.rotation == "yaw":
            numbers = yaws_of_quaternions(numbers)
        numbers = self._convert(numbers)
        if selection.rotation == "cos_sin":
            return cosines_and_sines(numbers)
        if not self._is_shifted:
            return numbers
        with np.errstate(over="ignore"):
            shifted: NDArray[np.float64] = (numbers - self._left) * self._scales
        return shifted

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the message's numbers, shape (elements,), from the vector's, (width,)."""
        selection = self._selection
        if isinstance(selection.constant, str):
            return np.empty(0)
        if selection.constant is not None:
            values = np.full(len(selection.elements), selection.constant)
        if selection.rotation == "6d":
            return quaternion_of_columns(values)
        if selection.rotation == "cos_sin":
            values = angles_of_cosines_and_sines(values)
        if self._is_shifted:
            values = values / self._scales + self._offsets
        values = self._convert.inverse(values)
        return quaternion_of_yaw(float(values[0])) if selection.rotation == "yaw" else values


class StreamTransform:
    """What a stream's selections together make of their numbers.

    Attributes:
        num_read: How many numbers of a message are decoded.
        num_sent: How many are encoded: the same, and the constants.
        width: How many numbers the vector has.

    Args:
        selections: The stream's selections.
        are_offset: Whether `exact_offsets` are subtracted from what is decoded already.
    """

    def __init__(self, selections: Sequence[FieldSelection], *, are_offset: bool = False) -> None:
        self._transforms = [FieldTransform(each, are_offset=are_offset) for each in selections]
        self._read = _slices(len(selection.read_elements) for selection in selections)
        self._sent = _slices(len(selection.elements) for selection in selections)
        self._fields = _slices(selection.width for selection in selections)
        self.num_read = sum(len(selection.read_elements) for selection in selections)
        self.num_sent = sum(len(selection.elements) for selection in selections)
        self.width = sum(selection.width for selection in selections)
        self._is_identity = all(transform.is_identity for transform in self._transforms)

    def decode(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the vectors, shape (n, width), of the messages' numbers, (n, num_read)."""
        if self._is_identity:
            return numbers
        vectors = np.empty((len(numbers), self.width))
        for transform, read, fields in zip(
            self._transforms, self._read, self._fields, strict=True
        ):
            vectors[:, fields] = transform.decode(numbers[:, read])
        return vectors

    def encode(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the message's numbers, shape (num_sent,), of a vector, (width,)."""
        if self._is_identity:
            return vector
        numbers = np.empty(self.num_sent)
        for transform, sent, fields in zip(
            self._transforms, self._sent, self._fields, strict=True
        ):
            numbers[sent] = transform.encode(vector[fields])
        return numbers


def _slices(widths: Iterable[int]) -> list[slice]:
    """Places of parts of these widths, one after the other."""
    ends = list(accumulate(widths))
    return [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
