"""Whether a recording's times can be right, and where it is divided if they cannot.

Two clocks stamp a message: the publisher's its header, the recorder's its receipt. What is looked
for: the recorder's clock was set back; a header stamp is no time, is later than its receipt or far
from it; one clock was moved against the other. In each case an observation and a command that
were apart may stand side by side, so that the recording is refused, or divided there.

A command counts from its stamp on. Where the clock of these moved, only one side of it can be
right, and nothing tells which: that is refused in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import SECOND_NS
from dql_ros.bag.reader import ClockStep
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.codecs.stamps import (
    OF_NANOSEC,
    RECEIVE,
    ahead_problem,
    are_times,
    invalid_nanosec,
    nanosec_problem,
)
from dql_ros.contract import ActionStream, ObservationStream
from dql_ros.convert.clock_offset import ClockOffset, Move
from dql_ros.convert.columns import Times
from dql_ros.convert.recorded_episode import Cause, Interruption, Reason

# Stamps that are off by so many control periods shift actions against observations.
DISPLACED = 0.5
SPLIT = "or set 'clock: split', which ends the episode there"


class FaultKind(Enum):
    """What is wrong with a recording's times; the value says it of messages of a topic."""

    SET_BACK = "received before the one before it: the recorder's clock was set back"
    NO_TIME = "whose header stamp is no time"
    AHEAD = "whose header stamp is ahead of its receipt"
    APART = "whose header stamp is far from its receipt"
    MOVED = "from which on header stamp and receipt are farther apart, or nearer"
    BACK = "whose header stamp is before that of an earlier one"


@dataclass(frozen=True)
class ClockFault:
    """What is wrong with the times of some messages of a topic that follow each other.

    Attributes:
        topic: Absolute topic name.
        kind: What is wrong.
        number: Which message of the topic is the first, from 1.
        count: How many there are.
        start_ns: When the first was received.
        end_ns: When the last was.
        problem: What is wrong with the first, as a clause.
        remedy: How to mend it, as a clause.
    """

    topic: str
    kind: FaultKind
    number: int
    count: int
    start_ns: int
    end_ns: int
    problem: str
    remedy: str

    def __str__(self) -> str:
        """The fault in words."""
        return f"{self.topic}: message {self.number:,}: {self.problem}; {self.remedy}"

    @property
    def is_usable(self) -> bool:
        """Whether its messages are used, behind an episode's end; others are left out."""
        return self.kind in {FaultKind.SET_BACK, FaultKind.MOVED, FaultKind.BACK}

    @property
    def interruption(self) -> Interruption:
        """Where the episode ends, and the next may begin."""
        end_ns = self.start_ns if self.is_usable else self.end_ns + 1
        return Interruption(self.start_ns, end_ns, Reason(Cause.CLOCK, (self.topic,)))


class ClockError(MessageError):
    """A message whose time cannot be right; it may be of an earlier block.

    Attributes:
        kind: What is wrong.
    """

    arrived_ns: int

    def __init__(self, text: str, kind: FaultKind, index: int, arrived_ns: int) -> None:
        super().__init__(text, index, arrived_ns)
        self.kind = kind


class StreamClock:
    """Judges the header stamps of a stream's messages, in the order of their receipt.

    Attributes:
        faults: What was found.

    Args:
        topic: Absolute topic name.
        stream: The contract's description.
        period_ns: The control period.
        refuses: Whether a fault is an error.
    """

    def __init__(
        self,
        topic: str,
        stream: ObservationStream | ActionStream,
        period_ns: int,
        *,
        refuses: bool,
    ) -> None:
        self.faults: list[ClockFault] = []
        self._topic, self._stream, self._refuses = topic, stream, refuses
        self._count = 0
        self._is_first = True  # no message was used so far
        self._begins_ahead = False  # the first that was used is
        self._max_ahead_ns = stream.max_ahead_ns(period_ns)
        is_latched = isinstance(stream, ObservationStream) and stream.latched
        limit_ns = max(period_ns, self._max_ahead_ns)
        self._offset = None if is_latched else ClockOffset(limit_ns)

    def judge(
        self, arrived_ns: Times, stamps_ns: Times, used: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Look at the next messages.

        Args:
            arrived_ns: Their receipt, ascending, shape (n,).
            stamps_ns: Their header stamps, as `stamps_of` returns them; shape (n,).
            used: Which have what the contract selects, shape (n,); others may be of another
                publisher, whose clock does not matter.

        Returns:
            Which of those can be used, shape (n,).

        Raises:
            ClockError: At the first that cannot, if faults are errors; if no stamp of the stream
                is near its receipt; and if the clock that stamps commands was moved.
        """
        ahead_ns = stamps_ns - arrived_ns
        first_number = self._count + 1
        self._count += len(ahead_ns)
        if self._is_first and used.any():
            self._begins_ahead = bool(ahead_ns[used.argmax()] > self._max_ahead_ns)
        good = used
        if not self._are_near(ahead_ns, stamps_ns):
            good = self._good(ahead_ns, arrived_ns, stamps_ns, used, first_number)
        self._is_first &= not used.any()
        if self._offset is not None:
            numbers = np.arange(first_number, self._count + 1)
            kept = slice(None) if good.all() else good
            self._note_moves(self._offset.add(numbers[kept], arrived_ns[kept], stamps_ns[kept]))
        return good

    def _are_near(self, ahead_ns: Times, stamps_ns: Times) -> bool:
        """Whether all stamps are times and near enough to their receipt, as mostly they are."""
        if not len(ahead_ns):
            return True
        limit_ns = self._stream.max_skew_ns
        least, most = int(ahead_ns.min()), int(ahead_ns.max())
        is_near = limit_ns is None or (-limit_ns <= least and most <= limit_ns)
        return is_near and most <= self._max_ahead_ns and bool(are_times(stamps_ns).all())

    def _good(
        self,
        ahead_ns: Times,
        arrived_ns: Times,
        stamps_ns: Times,
        used: NDArray[np.bool_],
        first_number: int,
    ) -> NDArray[np.bool_]:
        """Note what is wrong with the messages that are used, and return which are right."""
        limit_ns = self._stream.max_skew_ns
        no_time, ahead = used & ~are_times(stamps_ns), used & (ahead_ns > self._max_ahead_ns)
        apart = np.zeros(len(ahead), bool)
        if limit_ns is not None:
            apart = used & (np.abs(ahead_ns) > limit_ns) & ~no_time
        first_row = int(used.argmax())
        if self._is_first and apart[first_row]:
            self._raise(FaultKind.APART, first_row, first_number, arrived_ns, stamps_ns)
        for kind, flags in (
            (FaultKind.NO_TIME, no_time),
            (FaultKind.APART, apart),
            (FaultKind.AHEAD, ahead & ~apart & ~no_time),
        ):
            self._note(kind, flags, first_number, arrived_ns, stamps_ns)
        good: NDArray[np.bool_] = used & ~(no_time | ahead | apart)
        return good

    def finish(self) -> None:
        """Judge what there is, now that no message will follow.

        Raises:
            ClockError: As `judge`.
        """
        if self._offset is not None:
            self._note_moves(self._offset.finish())

    def _note(
        self,
        kind: FaultKind,
        flags: NDArray[np.bool_],
        first_number: int,
        arrived_ns: Times,
        stamps_ns: Times,
    ) -> None:
        rows = np.flatnonzero(flags)
        if not len(rows):
            return
        if self._refuses:
            self._raise(kind, int(rows[0]), first_number, arrived_ns, stamps_ns)
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            begin, end = int(run[0]), int(run[-1])
            problem, remedy = self._problem(kind, int(arrived_ns[begin]), int(stamps_ns[begin]))
            self._add(
                ClockFault(
                    self._topic,
                    kind,
                    first_number + begin,
                    len(run),
                    int(arrived_ns[begin]),
                    int(arrived_ns[end]),
                    problem,
                    remedy,
                )
            )

    def _raise(
        self, kind: FaultKind, row: int, first_number: int, arrived_ns: Times, stamps_ns: Times
    ) -> NoReturn:
        problem, remedy = self._problem(kind, int(arrived_ns[row]), int(stamps_ns[row]))
        # That a stream is of another clock is not a matter of one message.
        where = "" if kind is FaultKind.APART else f"message {first_number + row:,}: "
        text = f"{self._topic}: {where}{problem}; {remedy}"
        raise ClockError(text, kind, row, int(arrived_ns[row]))

    def _add(self, fault: ClockFault) -> None:
        """Add a fault, to the one before it if it goes on with that."""
        last = self.faults[-1] if self.faults else None
        if (
            last is not None
            and last.kind is fault.kind
            and not fault.is_usable
            and last.number + last.count == fault.number
        ):
            count = last.count + fault.count
            self.faults[-1] = replace(last, count=count, end_ns=fault.end_ns)
        else:
            self.faults.append(fault)

    def _note_moves(self, moves: Iterable[Move]) -> None:
        is_command = isinstance(self._stream, ActionStream)
        for move in moves:
            fault = ClockFault(
                self._topic,
                FaultKind.BACK if move.back_ns else FaultKind.MOVED,
                move.number,
                1,
                move.arrived_ns,
                move.arrived_ns,
                _went_back(move) if move.back_ns else _moved(move),
                RECEIVE if is_command else f"{RECEIVE}, {SPLIT}",
            )
            if self._refuses or is_command:
                raise ClockError(str(fault), fault.kind, 0, fault.start_ns)
            self._add(fault)

    def _problem(self, kind: FaultKind, arrived_ns: int, stamp_ns: int) -> tuple[str, str]:
        """What is wrong with a message, and how to mend it."""
        nanosec = invalid_nanosec(stamp_ns)
        if nanosec is not None:
            return nanosec_problem(nanosec), f"{OF_NANOSEC}, {SPLIT}"
        if kind is FaultKind.AHEAD:
            # Where all are, nothing would be left of a divided recording.
            remedy = RECEIVE if self._begins_ahead else f"{RECEIVE}, {SPLIT}"
            ahead_ns = stamp_ns - arrived_ns
            return ahead_problem(ahead_ns, self._max_ahead_ns, "its receipt"), remedy
        if stamp_ns == 0:
            return "the header stamp is zero, so the publisher did not set it", RECEIVE
        apart_s = (arrived_ns - stamp_ns) / 1e9
        return (
            f"header stamp and log time are {apart_s:.1f} s apart (limit "
            f"{self._stream.max_skew_s:g} s), so they are of different clocks",
            f"{RECEIVE}, record with use_sim_time, or raise 'max_skew_s'",
        )


def _moved(move: Move) -> str:
    return (
        f"from here on the receipt is {move.after_ns / 1e9:.3f} s after the header stamp, before "
        f"it was {move.before_ns / 1e9:.3f} s: one of the two clocks was set, or messages take "
        f"another time to arrive"
    )


def _went_back(move: Move) -> str:
    return (
        f"the header stamp is {move.back_ns / 1e9:.3f} s before that of an earlier message: the "
        f"publisher's clock was set back, or several publish there whose clocks differ"
    )


def displacement(figures: Mapping[str, Any], period_s: float) -> str | None:
    """Say if a stream's stamps are off by ticks, which shifts actions against observations.

    Args:
        figures: Of the stream's topic, as `TopicStatistics.to_json` returns them.
        period_s: The control period.

    Returns:
        A clause, or ``None`` if it is less than half a tick, or an observation that is late: that
        adds to its age.
    """
    delay, is_command = figures["receive_minus_header_ms"], figures["role"] == "action"
    if delay is None:
        return None
    delay_s = delay["p50"] / 1000
    off_s = abs(delay_s) if is_command else -delay_s
    if off_s < DISPLACED * period_s:
        return None
    what = "commands count" if is_command else "values are known"
    side = "before" if delay_s > 0 else "after"
    ticks = f"{off_s / period_s:.2g} ticks"
    return (
        f"{what} from their header stamps on, usually {off_s:.3g} s ({ticks}) "
        f"{side} they were received; if two clocks differ by that, {RECEIVE}"
    )


def set_back_limit_ns(period_ns: int) -> int:
    """By how much log times may go back: threads of a recorder may overtake each other."""
    return max(period_ns // 10, SECOND_NS // 1000)


def set_back(step: ClockStep) -> ClockFault:
    """The fault that a step of the recorder's clock is."""
    back_s = (step.before_ns - step.after_ns) / 1e9
    problem = f"it was received {back_s:.3f} s before the one before it"
    if step.is_of_one_clock:
        problem += ", so the recorder's clock was set back"
        remedy = f"cut the recording in two there, {SPLIT}"
    else:
        problem += (
            f", but {step.unmoved} did not go back with it: their log times are of different "
            f"clocks, and nothing tells what belongs together"
        )
        remedy = "record both with one recorder"
    return ClockFault(
        step.topic,
        FaultKind.SET_BACK,
        step.number,
        1,
        step.resumed_ns,
        step.resumed_ns,
        problem,
        remedy,
    )
