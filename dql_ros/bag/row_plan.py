"""How the selected numbers are taken out of many messages of one layout at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.cdr_layout import CdrLayout, LayoutError, Place
from dql_ros.codecs.joints import NAME_LISTS, JointOrder
from dql_ros.contract import FieldSelection

STAMP = ("header.stamp.sec", "header.stamp.nanosec")
# Bytes that nobody needs are copied along rather than copying around so few of them.
SMALLEST_GAP = 64


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

    Args:
        layout: Of one of the messages.
        selections: What is to be taken.
        order: Finds joints by name.
        stamped: Whether the header stamp is wanted, too.

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
    ) -> None:
        self.length = len(layout.template)
        self.is_unnamed = False
        self._layout = layout
        self._order = order
        places = [place for selection in selections for place in self._places(selection)]
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
        return numbers

    def stamps_ns(self, gathered: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
        """Return the header stamps, shape (n,), of gathered bytes."""
        seconds, nanoseconds = (
            _view(gathered[index], run)[:, 0].astype(np.int64) for index, run in self._stamps
        )
        return np.asarray(seconds * 1_000_000_000 + nanoseconds)

    def _places(self, selection: FieldSelection) -> list[Place]:
        if not selection.read_elements:
            return []
        if not selection.joints:
            return [self._element(path, key) for path, key in selection.read_elements]
        array = self._array(selection.path)
        names = self._names(selection.path)
        self.is_unnamed |= not names
        positions = self._order.positions(
            selection.joints, names, selection.path, array.count or 0
        )
        return [_within(array, int(position)) for position in positions]

    def _element(self, path: str, key: str | int | None) -> Place:
        return self._number(path) if key is None else _within(self._array(path), int(key))

    def _number(self, path: str) -> Place:
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
        ancestors = path.split(".")[:-1]
        for depth in range(len(ancestors), -1, -1):
            for name in NAME_LISTS:
                candidate = ".".join([*ancestors[:depth], name])
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
        raise LayoutError(f"no element {index}")
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
