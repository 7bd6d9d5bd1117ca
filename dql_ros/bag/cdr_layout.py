"""Where each number of a serialised message lies: found from one message and its type.

XCDR version 1, little-endian, as ROS 2 writes it: a 4-byte encapsulation header, then the fields
one after the other, each number aligned to its own size counted from behind that header; a
string or sequence is preceded by its length (OMG Common Data Representation; DDS-XTypes 7.4.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

HEADER_BYTES = 4
LITTLE_ENDIAN = b"\x00\x01"
# A message of more parts is not laid out: it would take longer than to decode it.
MAX_PARTS = 20_000
# Readers accept so many bytes behind the last field.
MAX_PADDING = 3

# numpy's names of the sizes and kinds of ROS's numbers; a byte is signed in rosbags, a char not.
DTYPES = {
    "bool": "|b1",
    "byte": "|i1",
    "char": "|u1",
    "int8": "|i1",
    "uint8": "|u1",
    "int16": "<i2",
    "uint16": "<u2",
    "int32": "<i4",
    "uint32": "<u4",
    "int64": "<i8",
    "uint64": "<u8",
    "float32": "<f4",
    "float64": "<f8",
}


class LayoutError(Exception):
    """The message cannot be laid out; it may still be decoded in the ordinary way."""


@dataclass(frozen=True)
class Place:
    """Where a number or an array of numbers lies.

    Attributes:
        dtype: numpy's name of the number's type.
        offset: Of the first byte, counted from the message's.
        count: Length of the array; ``None`` for a single number.
    """

    dtype: str
    offset: int
    count: int | None

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return int(self.dtype[2])


@dataclass
class CdrLayout:
    """The layout of one message, and of every message with the same structural bytes.

    Attributes:
        template: The message, shape (length,).
        mask: Which bits of a message must be the template's for it to have this layout: lengths
            and ends of strings and sequences, and that strings are ASCII; shape (length,).
        places: The numbers and arrays by dotted path.
        string_lists: Lists of strings by dotted path, each string with where it lies.
    """

    template: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    places: dict[str, Place] = field(default_factory=dict)
    string_lists: dict[str, list[tuple[str, slice]]] = field(default_factory=dict)

    def fix(self, span: slice) -> None:
        """Ask for equality of the whole span."""
        self.mask[span] = 0xFF


def lay_out(message: bytes, msgtype: str, typestore: Typestore) -> CdrLayout:
    """Find where everything lies in a message.

    Args:
        message: The message, with its encapsulation header.
        msgtype: Its type.
        typestore: Where the type's definition comes from.

    Raises:
        LayoutError: If it is big-endian, of a type with unusual parts, or damaged.
    """
    if message[:2] != LITTLE_ENDIAN or len(message) < HEADER_BYTES:
        raise LayoutError("not little-endian CDR")
    walk = _Walk(message, typestore)
    try:
        walk.message(msgtype, "")
    except (KeyError, UnicodeDecodeError, struct.error, RecursionError) as cause:
        raise LayoutError(f"{type(cause).__name__}: {cause}") from cause
    if not 0 <= len(message) - walk.position <= MAX_PADDING:
        raise LayoutError("length differs from the definition's")
    return walk.layout


class _Walk:
    """One pass over a message along its definition."""

    def __init__(self, message: bytes, typestore: Typestore) -> None:
        template = np.frombuffer(message, np.uint8)
        self.layout = CdrLayout(template, np.zeros_like(template))
        self.layout.fix(slice(0, len(LITTLE_ENDIAN)))
        self.position = HEADER_BYTES
        self._message = message
        self._typestore = typestore
        self._parts = 0

    def message(self, msgtype: str, prefix: str) -> None:
        for name, description in self._typestore.get_msgdef(msgtype).fields:
            self._field(description, prefix + name)

    def _field(self, description: Any, path: str) -> None:
        node, detail = description
        if node == Nodetype.BASE:
            self._base(detail[0], path)
        elif node == Nodetype.NAME:
            self.message(detail, f"{path}.")
        elif node == Nodetype.ARRAY:
            self._elements(detail[0], detail[1], path)
        else:
            self._elements(detail[0], self._length(), path)

    def _base(self, kind: str, path: str) -> None:
        if kind == "string":
            self._string()
        else:
            self.layout.places[path] = self._numbers(kind, None)

    def _elements(self, description: Any, count: int, path: str) -> None:
        node, detail = description
        if node == Nodetype.BASE and detail[0] != "string":
            self.layout.places[path] = self._numbers(detail[0], count)
            return
        if count > self._left:
            raise LayoutError(f"'{path}' cannot have {count} elements")
        if node == Nodetype.BASE:
            self.layout.string_lists[path] = [self._string() for _ in range(count)]
            return
        for index in range(count):
            self.message(detail, f"{path}.{index}.")

    @property
    def _left(self) -> int:
        return len(self._message) - self.position

    def _numbers(self, kind: str, count: int | None) -> Place:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise LayoutError(f"more than {MAX_PARTS} parts")
        place = Place(DTYPES[kind], self.position, count)
        if count != 0:
            self._align(place.itemsize)
            place = Place(place.dtype, self.position, count)
        size = place.itemsize * (1 if count is None else count)
        if size > self._left:
            raise LayoutError("shorter than its definition says")
        self.position += size
        return place

    def _length(self) -> int:
        self._align(4)
        (length,) = struct.unpack_from("<I", self._message, self.position)
        self.layout.fix(slice(self.position, self.position + 4))
        self.position += 4
        return int(length)

    def _string(self) -> tuple[str, slice]:
        self._parts += 1
        size = self._length()
        span = slice(self.position, self.position + size)
        if not 0 < size <= self._left or self._parts > MAX_PARTS:
            raise LayoutError(f"a string cannot have {size} bytes")
        content = self._message[span][:-1]
        # A row whose string is no ASCII may be no text at all, so it is decoded by itself.
        self.layout.mask[span] = 0x80 if content.isascii() else 0xFF
        self.layout.fix(slice(span.stop - 1, span.stop))
        self.position += size
        return content.decode(), span

    def _align(self, size: int) -> None:
        self.position += -(self.position - HEADER_BYTES) % size
