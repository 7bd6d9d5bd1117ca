"""Where each number of a serialised message lies, and how to take it out of many at once.

The layout is found from one message and its type. XCDR version 1, little-endian, as ROS 2 writes
it, has a 4-byte encapsulation header, then the fields one after the other, each number aligned to
its own size counted from behind that header; a string or sequence is preceded by its length (OMG
Common Data Representation; DDS-XTypes 7.4.1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_ros.codecs.message_path import (
    NAME_LISTS,
    AbsentError,
    JointOrder,
    name_list_paths,
    position_of,
)
from dql_ros.codecs.stamps import stamps_of
from dql_ros.codecs.wide_integers import less_offset
from dql_ros.contract import FieldSelection
from dql_ros.contract.field import Named, split_path

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
STAMP = ("header.stamp.sec", "header.stamp.nanosec")
# Bytes that nobody needs are copied along rather than copying around so few of them.
SMALLEST_GAP = 64


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
        strings: Single strings by dotted path, likewise.
        lengths: How many messages lists of messages have, by dotted path.
    """

    template: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    places: dict[str, Place] = field(default_factory=dict)
    string_lists: dict[str, list[tuple[str, slice]]] = field(default_factory=dict)
    strings: dict[str, tuple[str, slice]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    def fix(self, span: slice, name: object = None) -> object:
        """Ask for equality of the whole span; return the name that lies there."""
        self.mask[span] = 0xFF
        return name

    def fix_joint_names(self) -> None:
        """Make all names of joints a part of the layout."""
        for path, names in self.string_lists.items():
            if path.rpartition(".")[2] in NAME_LISTS:
                for _, span in names:
                    self.fix(span)

    def located(self, path: str) -> str:
        """Return a path in which elements go by their places; names become part of the layout.

        Raises:
            AbsentError: If a list is too short for it, or no element has the name.
            LayoutError: If it leads through what is no list.
        """
        found = ""
        for step in split_path(path):
            if isinstance(step, str):
                found = f"{found}.{step}" if found else step
                continue
            length = self._length(found)
            if isinstance(step, Named):
                place = position_of(step, self._names(found, step.key, length), length, path)
            elif step < length:
                place = step
            else:
                raise AbsentError(f"'{path}' asks for element {step} of {length}")
            found = f"{found}.{place}"
            if isinstance(step, Named) and (frame := f"{found}.header.frame_id") in self.strings:
                self.fix(self.strings[frame][1])
        return found

    def _length(self, path: str) -> int:
        if path in self.lengths:
            return self.lengths[path]
        if path in self.string_lists:
            return len(self.string_lists[path])
        place = self.places.get(path)
        if place is None or place.count is None:
            raise LayoutError(f"'{path}' is no list")
        return place.count

    def _names(self, path: str, key: str, length: int) -> list[object]:
        """What the elements of a list are called; these bytes become part of the layout."""
        above = path
        while above:
            above = above.rpartition(".")[0]
            listed = self.string_lists.get(f"{above}.{key}" if above else key)
            if listed is not None:
                return [self.fix(span, name) for name, span in listed]
        names: list[object] = []
        for index in range(length):
            element = f"{path}.{index}.{key}"
            if element in self.strings:
                name, span = self.strings[element]
                names.append(self.fix(span, name))
            elif element in self.places and self.places[element].count is None:
                place = self.places[element]
                span = slice(place.offset, place.offset + place.itemsize)
                (number,) = self.template[span].view(place.dtype).tolist()
                names.append(self.fix(span, number))
            else:
                raise LayoutError(f"no names at '{element}'")
        return names


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
        if node == Nodetype.BASE and detail[0] == "string":
            self.layout.strings[path] = self._string()
        elif node == Nodetype.BASE:
            self.layout.places[path] = self._numbers(detail[0], None)
        elif node == Nodetype.NAME:
            self.message(detail, f"{path}.")
        elif node == Nodetype.ARRAY:
            self._elements(detail[0], detail[1], path)
        else:
            self._elements(detail[0], self._length(), path)

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
        self.layout.lengths[path] = count
        for index in range(count):
            self.message(detail, f"{path}.{index}.")

    @property
    def _left(self) -> int:
        return len(self._message) - self.position

    def _numbers(self, kind: str, count: int | None) -> Place:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise LayoutError(f"more than {MAX_PARTS} parts")
        dtype = DTYPES[kind]
        if count != 0:
            self._align(int(dtype[2]))
        place = Place(dtype, self.position, count)
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
        if size > self._left or self._parts > MAX_PARTS:
            raise LayoutError(f"a string cannot have {size} bytes")
        if size == 0:
            return "", span  # as some send an empty one, without its terminating zero
        content = self._message[span][:-1]
        # A row whose string is no ASCII may be no text at all, so it is decoded by itself.
        self.layout.mask[span] = 0x80 if content.isascii() else 0xFF
        self.layout.fix(slice(span.stop - 1, span.stop))
        self.position += size
        return content.decode(errors="backslashreplace"), span

    def _align(self, size: int) -> None:
        self.position += -(self.position - HEADER_BYTES) % size


@dataclass(frozen=True)
class _Run:
    """Numbers of one type at equal distances, and the columns that they fill."""

    dtype: str
    offset: int
    stride: int
    columns: slice


class RowPlan:
    """Takes the selected numbers out of all messages that have one layout.

    Attributes:
        length: Bytes of each of the messages.
        gathered_bytes: Bytes that are gathered of each.
        is_unnamed: Whether the messages name no joints.
        is_absent: Whether they have not got what is selected, so that there are no numbers.

    Args:
        layout: Of one of the messages.
        selections: What is to be taken.
        order: Finds joints by name.
        stamped: Whether the header stamp is wanted, too.
        offsets: What is subtracted from the numbers of columns, see `IntegerOffsets`.

    Raises:
        LayoutError: If what is selected is no number of the message.
        ContractError: If the joints are not those that the contract names.
    """

    def __init__(
        self,
        layout: CdrLayout,
        selections: Sequence[FieldSelection],
        order: JointOrder,
        stamped: bool,
        offsets: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.length = len(layout.template)
        self.is_unnamed = False
        self._layout = layout
        self._order = order
        self._offsets = offsets
        self.is_absent = False
        try:
            places = [place for selection in selections for place in self._places(selection)]
        except AbsentError:
            places, self.is_absent = [], True
            layout.fix_joint_names()  # they say whose trajectory without points it is
        self._width = len(places)
        stamps = [self._number(path) for path in STAMP] if stamped else []
        self._spans = list(_spans(layout.mask, [*places, *stamps]))
        self.gathered_bytes = sum(span.stop - span.start for span in self._spans)
        self._runs = [self._located(run) for run in _runs(places)]
        self._stamps = [self._located(run) for place in stamps for run in _runs([place])]
        self._masked = [
            (span, layout.mask[span][needed], layout.template[span][needed], needed)
            for span in self._spans
            for needed in [_nonzero(layout.mask[span])]
        ]

    def take(
        self, data: NDArray[np.uint8], starts: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_] | None, list[NDArray[np.uint8]]]:
        """Gather the needed bytes of messages of the right length.

        Args:
            data: The bytes that hold them.
            starts: Where each begins, shape (n,).

        Returns:
            Which of them have the layout, shape (n,), or ``None`` if all have; and their bytes,
            an array of shape (n, size) for each span.
        """
        fits: NDArray[np.bool_] | None = None
        gathered = []
        for span, mask, template, needed in self._masked:
            rows = _windows(data, span.stop - span.start)[starts + span.start]
            matrix = rows.view(np.uint8).reshape(len(starts), span.stop - span.start)
            gathered.append(matrix)
            differences = (matrix[:, needed] ^ template) & mask
            if differences.any():
                same = ~differences.any(axis=1)
                fits = same if fits is None else fits & same
        return fits, gathered

    def numbers(self, gathered: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return the selected numbers, shape (n, elements), of gathered bytes."""
        numbers = np.empty((len(gathered[0]), self._width))
        for index, run in self._runs:
            numbers[:, run.columns] = _view(gathered[index], run)
        for column, offset in self._offsets.items():
            if not offset:
                continue
            index, run = next(each for each in self._runs if column < each[1].columns.stop)
            found = _view(gathered[index], run)[:, column - run.columns.start]
            numbers[:, column] = less_offset(found, offset)
        return numbers

    def stamps_ns(self, gathered: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
        """Return the header stamps, shape (n,), of gathered bytes."""
        seconds, nanoseconds = (
            _view(gathered[index], run)[:, 0].astype(np.int64) for index, run in self._stamps
        )
        return stamps_of(seconds, nanoseconds)

    def _places(self, selection: FieldSelection) -> list[Place]:
        if not selection.read_elements:
            return []
        if not selection.joints:
            return [self._element(path, key) for path, key in selection.read_elements]
        path = self._layout.located(selection.path)
        array, names = self._array(path), self._names(path)
        self.is_unnamed |= not names
        positions = self._order.positions(
            selection.joints, names, selection.path, array.count or 0
        )
        return [_within(array, int(position)) for position in positions]

    def _element(self, path: str, key: str | int | None) -> Place:
        if key is None:
            return self._number(path)
        return _within(self._array(self._layout.located(path)), int(key))

    def _number(self, path: str) -> Place:
        path = self._layout.located(path)
        place = self._layout.places.get(path)
        above, _, last = path.rpartition(".")
        if place is None and last.isdigit():
            return _within(self._array(above), int(last))
        if place is None or place.count is not None:
            raise LayoutError(f"'{path}' is no number")
        return place

    def _array(self, path: str) -> Place:
        place = self._layout.places.get(path)
        if place is None or place.count is None:
            raise LayoutError(f"'{path}' is no array")
        return place

    def _names(self, path: str) -> list[str]:
        """The joint names for an array, beside it or above; they become part of the layout."""
        for candidate in name_list_paths(path):
            if candidate in self._layout.string_lists:
                names = self._layout.string_lists[candidate]
                # Only the names themselves: the padding between them may be anything.
                for _, span in names:
                    self._layout.fix(span)
                return [name for name, _ in names]
        raise LayoutError(f"no names for '{path}'")

    def _located(self, run: _Run) -> tuple[int, _Run]:
        """The span that holds a run, and the run counted from that span's start."""
        index = next(i for i, span in enumerate(self._spans) if run.offset < span.stop)
        offset = run.offset - self._spans[index].start
        return index, _Run(run.dtype, offset, run.stride, run.columns)


def _within(array: Place, index: int) -> Place:
    if index >= (array.count or 0):
        raise AbsentError(f"no element {index}")
    return Place(array.dtype, array.offset + index * array.itemsize, None)


def _spans(mask: NDArray[np.uint8], places: Sequence[Place]) -> Iterator[slice]:
    """Spans of the needed bytes; small gaps are spanned."""
    needed = mask != 0
    for place in places:
        needed[place.offset : place.offset + place.itemsize] = True
    positions = np.flatnonzero(needed)
    breaks = np.flatnonzero(np.diff(positions) > SMALLEST_GAP)
    firsts = positions[np.concatenate([[0], breaks + 1])]
    lasts = positions[np.concatenate([breaks, [len(positions) - 1]])]
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        yield slice(first, last + 1)


def _runs(places: Sequence[Place]) -> Iterator[_Run]:
    """Group neighbouring columns whose numbers lie at equal distances, near each other."""
    start = 0
    while start < len(places):
        first, stop, stride = places[start], start + 1, 0
        while stop < len(places) and places[stop].dtype == first.dtype:
            step = places[stop].offset - places[stop - 1].offset
            if not 0 < step <= SMALLEST_GAP or (stop - start > 1 and step != stride):
                break
            stride, stop = step, stop + 1
        yield _Run(first.dtype, first.offset, stride, slice(start, stop))
        start = stop


def _nonzero(mask: NDArray[np.uint8]) -> slice:
    """The part of a mask from its first to its last byte that counts."""
    positions = np.flatnonzero(mask)
    return slice(int(positions[0]), int(positions[-1]) + 1) if len(positions) else slice(0, 0)


def _windows(data: NDArray[np.uint8], size: int) -> NDArray[np.void]:
    """Every stretch of ``size`` bytes, as one item each: indexing copies whole stretches."""
    count = max(len(data) - size + 1, 0)
    return np.ndarray((count,), dtype=f"V{size}", buffer=data, strides=(1,))


def _view(matrix: NDArray[np.uint8], run: _Run) -> NDArray[np.generic]:
    """The run's numbers in each row, shape (n, columns)."""
    shape = len(matrix), run.columns.stop - run.columns.start
    if len(matrix) == 0:
        return np.empty(shape, run.dtype)
    strides = matrix.strides[0], run.stride
    flat = matrix.reshape(-1)
    view: NDArray[np.generic] = np.ndarray(
        shape, dtype=run.dtype, buffer=flat, offset=run.offset, strides=strides
    )
    return view
