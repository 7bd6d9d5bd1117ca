"""Observed transforms of a recording: judged as they are read, and held as columns.

`TransformJudge` sees that a recording's transforms can be what they say. `HeldTransforms` answers
what was known of a pose at given ticks: each transform in the chain is held by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError
from dql_core.streams import BEGINNING_NS, HeldColumn
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.codecs.broadcasters import BroadcasterWatch
from dql_ros.codecs.frame_tree import Edge, FrameTree
from dql_ros.codecs.stamps import shifted
from dql_ros.codecs.transforms import (
    WIDTH,
    PoseReader,
    TransformBlockDecoder,
    Transforms,
    by_edge,
)
from dql_ros.contract import TransformStream
from dql_ros.convert.clock import ClockFault, StreamClock
from dql_ros.convert.columns import Times, are_numbers

Rows = NDArray[np.float64]
Columns = tuple[Times, NDArray[np.object_], Rows]


class TransformJudge:
    """Judges the transforms in the chain between a stream's frames, whose two topics share it.

    As long as the chain is not known, what is wrong with a transform is kept: it matters if the
    transform turns out to be in the chain.

    Attributes:
        tree: The frames that are broadcast.

    Args:
        topic: Absolute name of the topic of transforms that move.
        stream: The contract's description.
        period_ns: The control period.
        refuses: Whether times that cannot be right are an error.
    """

    def __init__(
        self, topic: str, stream: TransformStream, period_ns: int, *, refuses: bool
    ) -> None:
        self.tree = FrameTree(stream)
        self._topic, self._stream, self._period_ns = topic, stream, period_ns
        self._refuses = refuses
        self._clocks: dict[Edge, StreamClock] = {}
        self._watches: dict[Edge, BroadcasterWatch] = {}
        self._failures: dict[Edge, MessageError] = {}
        self._first_ns: int | None = None

    @property
    def faults(self) -> list[ClockFault]:
        """Where times of transforms in the chain cannot be right."""
        return [fault for edge in self._in_chain for fault in self._clock(edge).faults]

    @property
    def absence(self) -> tuple[str, int] | None:
        """Why the frames are not connected, and when the first transform came; if that is so."""
        explanation = self.tree.explanation()
        return (explanation, self._first_ns or 0) if explanation else None

    def finish(self) -> None:
        """Judge what there is, now that no message will follow.

        Raises:
            ClockError: As `StreamClock.judge`.
        """
        for edge in self._in_chain:
            self._clock(edge).finish()

    def judge(
        self, arrived_ns: Times, times_ns: Times, found: Transforms, *, finite: bool
    ) -> NDArray[np.bool_]:
        """Look at the transforms of the next messages of one of the two topics.

        Args:
            arrived_ns: When each arrived, shape (n,).
            times_ns: Their times, shape (n,).
            found: The transforms.
            finite: Whether a NaN or an infinity is an error.

        Returns:
            Which of them can be used and may matter, shape (n,).

        Raises:
            MessageError: At the first that does not fit.
        """
        kept = np.zeros(len(times_ns), bool)
        if self._first_ns is None and len(arrived_ns):
            self._first_ns = int(arrived_ns[0])
        for edge, rows in by_edge(found.edges):
            try:
                is_wanted = self.tree.add(edge)
            except ContractError as cause:
                index = int(found.messages[rows[0]])
                raise MessageError(str(cause), index) from cause
            if not is_wanted or edge in self._failures:
                continue
            try:
                kept[rows] = self._judged(edge, rows, arrived_ns, times_ns, found, finite)
            except MessageError as cause:
                self._failures[edge] = cause
        for edge in self._in_chain:
            if edge in self._failures:
                raise self._failures[edge]
        return kept

    @property
    def _in_chain(self) -> list[Edge]:
        return [] if self.tree.chain is None else [step.edge for step in self.tree.chain]

    def _judged(
        self,
        edge: Edge,
        rows: NDArray[np.intp],
        arrived_ns: Times,
        times_ns: Times,
        found: Transforms,
        finite: bool,
    ) -> NDArray[np.bool_]:
        """Judge the rows of one edge; return which can be used."""
        numbers, index = found.numbers[rows], int(found.messages[rows[0]])
        if finite:
            self._require_numbers(edge, rows, numbers, arrived_ns, index)
        good = np.ones(len(rows), bool)
        if self._stream.stamp == "header" and not edge.is_static:
            good = self._clock(edge).judge(arrived_ns[rows], times_ns[rows], good)
        watch = self._watches.setdefault(edge, BroadcasterWatch(edge))
        found_wrong = watch.note_block(times_ns[rows[good]], numbers[good])
        if found_wrong is not None:
            problem, place = found_wrong
            row = rows[good][place]
            raise MessageError(f"{self._topic}: {problem}", index, int(arrived_ns[row]))
        return good

    def _require_numbers(
        self,
        edge: Edge,
        rows: NDArray[np.intp],
        numbers: Rows,
        arrived_ns: Times,
        index: int,
    ) -> None:
        bad = ~are_numbers(numbers).all(axis=1) | (numbers[:, 3:] == 0.0).all(axis=1)
        if bad.any():
            row = int(bad.argmax())
            shown = ", ".join(f"{number:g}" for number in numbers[row].tolist())
            raise MessageError(
                f"{self._topic}: the transform of {edge} is no pose: {shown}; set 'nonfinite: "
                f"split' or 'drop' in the contract, or cut this part out of the recording",
                index,
                int(arrived_ns[rows[row]]),
            )

    def _clock(self, edge: Edge) -> StreamClock:
        if edge not in self._clocks:
            self._clocks[edge] = StreamClock(
                f"{self._topic}: {edge}", self._stream, self._period_ns, refuses=self._refuses
            )
        return self._clocks[edge]


class TransformTopicDecoder:
    """Decodes the messages of one topic of tf's into a row for each transform that may matter.

    The columns are their times (n,), of what they are (n,), `Edge` objects, and numbers (n, 7).

    Args:
        topic: Absolute topic name.
        stream: The contract's description of it.
        typestore: Knows the type.
        judge: Shared by the two topics of the stream.
        refuse_nonfinite: Whether a NaN or an infinity is an error.
    """

    absent = ended = by_index = 0
    unmatched = None

    def __init__(
        self,
        topic: str,
        stream: TransformStream,
        typestore: Typestore,
        judge: TransformJudge,
        refuse_nonfinite: bool,
    ) -> None:
        self._stream, self._judge, self._refuse = stream, judge, refuse_nonfinite
        self._decoder = TransformBlockDecoder(topic, stream.type, stream.latched, typestore)

    @property
    def absence(self) -> tuple[str, int] | None:
        """See `TransformJudge.absence`."""
        return self._judge.absence

    def __call__(self, block: MessageBlock) -> tuple[Times, Columns]:
        """Return the times of arrival, and the columns."""
        found = self._decoder.decode(block)
        arrived_ns = block.log_times_ns[found.messages]
        times_ns = arrived_ns
        if self._stream.stamp == "header":
            times_ns = shifted(found.stamps_ns, block.shift_ns)
        kept = self._judge.judge(arrived_ns, times_ns, found, finite=self._refuse)
        return arrived_ns[kept], (times_ns[kept], found.edges[kept], found.numbers[kept])


class HeldTransforms:
    """What was known of a pose at given ticks; asked as a `HeldColumn`.

    Args:
        stream: The contract's description.
    """

    def __init__(self, stream: TransformStream) -> None:
        self._tree, self._read, self._width = FrameTree(stream), PoseReader(stream), stream.width
        self._columns: dict[Edge, HeldColumn] = {}
        self._ended_ns = self._resumed_ns = BEGINNING_NS

    def extend(
        self, arrived_ns: Times, times_ns: Times, edges: NDArray[np.object_], numbers: Rows
    ) -> None:
        """Add transforms that arrived at ascending times, after all earlier ones of their topic.

        Args:
            arrived_ns: When they were known, shape (n,).
            times_ns: What they are of, shape (n,).
            edges: Of which frame each is, in which; shape (n,).
            numbers: Shape (n, 7).
        """
        for edge, rows in by_edge(edges):
            if self._tree.add(edge):
                self._column(edge).extend(arrived_ns[rows], times_ns[rows], numbers[rows])
        if self._tree.chain is not None:
            in_chain = {step.edge for step in self._tree.chain}
            self._columns = {e: each for e, each in self._columns.items() if e in in_chain}

    def at(self, ticks_ns: Times) -> tuple[NDArray[np.intp], Times]:
        """Find what is held at each tick.

        Returns:
            Positions for `values`, a column for each transform in the chain, -1 where nothing is
            known; shape (m, n). And the age of the oldest of those that move, shape (m,).
        """
        ages_ns = np.zeros(len(ticks_ns), np.int64)
        chain = self._tree.chain
        if chain is None:
            return np.full((len(ticks_ns), 1), -1), ages_ns
        positions = np.empty((len(ticks_ns), len(chain)), np.intp)
        for index, step in enumerate(chain):
            positions[:, index], ages = self._column(step.edge).at(ticks_ns)
            if not step.edge.is_static:
                ages_ns = np.maximum(ages_ns, ages)
        return positions, ages_ns

    def values(self, held: NDArray[np.intp]) -> Rows:
        """Return the stream's part of the vector at positions that `at` found, all known."""
        chain = self._tree.chain
        if chain is None or not len(held):
            return np.empty((len(held), self._width))
        transforms = [
            self._column(step.edge).values(held[:, index]) for index, step in enumerate(chain)
        ]
        return self._read(chain, transforms)

    def forget_before(self, now_ns: int) -> None:
        """Drop the values that no tick at or after ``now_ns`` can hold."""
        for column in self._columns.values():
            column.forget_before(now_ns)

    def forget_until(self, ended_ns: int) -> None:
        """As `HeldColumn.forget_until`; what is static stays known."""
        self._ended_ns = ended_ns
        for column in self._moving():
            column.forget_until(ended_ns)

    def forget_arrivals_before(self, resumed_ns: int) -> None:
        """As `HeldColumn.forget_arrivals_before`; what is static stays known."""
        self._resumed_ns = resumed_ns
        for column in self._moving():
            column.forget_arrivals_before(resumed_ns)

    def forget_static_before(self, resumed_ns: int) -> None:
        """Drop, now and later, what is static and arrived before ``resumed_ns``."""
        for edge, column in self._columns.items():
            if edge.is_static:
                column.forget_arrivals_before(resumed_ns)

    def _moving(self) -> Iterator[HeldColumn]:
        return (column for edge, column in self._columns.items() if not edge.is_static)

    def _column(self, edge: Edge) -> HeldColumn:
        if edge not in self._columns:
            column = self._columns[edge] = HeldColumn(WIDTH)
            if not edge.is_static:
                column.forget_until(self._ended_ns)
                column.forget_arrivals_before(self._resumed_ns)
        return self._columns[edge]
