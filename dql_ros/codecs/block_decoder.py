"""Decodes blocks of serialised messages: all messages of one layout at once.

The layout of a message follows from its type and a few of its bytes: the lengths of its strings
and sequences, and the joint names. Messages in which all those bytes are equal have their numbers
at the same places, and these are taken out by numpy. The first message of each layout is decoded
in the ordinary way as well and must give the same bits; whatever cannot be laid out is decoded in
the ordinary way, one by one.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.serde import SerdeError
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError, one_line
from dql_ros.codecs import StreamDecoder, StreamTransform, stamp_ns
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.cdr_layout import LayoutError, RowPlan, lay_out
from dql_ros.codecs.message_path import AbsentError, JointOrder, MessagePath, with_remedy
from dql_ros.codecs.stream import CommandEndedError
from dql_ros.contract import Stream

# What rosbags raises on messages that are not of their type.
DAMAGE = (
    SerdeError,
    struct.error,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    RecursionError,
)
_COULD_NOT = re.compile(r"^Could not deserialize '[^']*': ")
# Layouts that are kept from block to block; the one not used for longest goes first.
MAX_PLANS = 16
# When layouts are new for so few messages each, the rest of the block is decoded one by one.
FEW_MESSAGES = 8
# So much is gathered at a time, to be still in the processor's cache when it is looked at.
CACHED_BYTES = 400_000
# What a message may lack: nothing, what is selected, or the points of a trajectory.
COMPLETE, ABSENT, ENDED = range(3)


class MessageError(ContractError):
    """A message of a block does not fit the contract, or cannot be decoded.

    Attributes:
        index: Which message of the block.
        arrived_ns: When it was received, if it may be of an earlier block; else ``None``.
    """

    def __init__(self, text: str, index: int, arrived_ns: int | None = None) -> None:
        super().__init__(text)
        self.index, self.arrived_ns = index, arrived_ns


class DamagedMessageError(MessageError):
    """A message of a block is none of its type: damage, whatever the contract says."""


@dataclass(frozen=True)
class Decoded:
    """What a block of n messages holds.

    Attributes:
        stamps_ns: Header stamps, shape (n,); ``None`` where they are not asked for.
        values: The selected numbers, shape (n, width); zeros where a message lacks them.
        lacks: For each message `COMPLETE`, `ABSENT` or `ENDED`, shape (n,); ``None`` if all are
            complete.
    """

    stamps_ns: NDArray[np.int64] | None
    values: NDArray[np.float64]
    lacks: NDArray[np.int8] | None = None

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which messages say something: all but those that lack what is selected, shape (n,)."""
        return np.ones(len(self.values), bool) if self.lacks is None else self.lacks != ABSENT


class BlockDecoder:
    """Decodes the blocks of one topic.

    Attributes:
        bulk: How many messages were decoded at once with others.
        single: How many were decoded by themselves.
        by_index: How many named no joints and were read in the contract's order.
        absent_ns: Log time of the first message that lacks what is selected and was skipped;
            ``None`` if there was none.

    Args:
        stream: What is to be decoded; its header stamps are, too, if it is stamped by them.
        typestore: Knows the type.
    """

    def __init__(self, stream: Stream, typestore: Typestore) -> None:
        self.bulk = self.single = self.by_index = 0
        self.absent_ns: int | None = None
        self._skips_absent = stream.skips_absent
        self._topic, self._msgtype = stream.topic, stream.type
        self._selections = stream.fields
        self._typestore = typestore
        self._stamped = stream.stamp == "header"
        self._decoder = StreamDecoder(stream)
        self._transform = StreamTransform(stream.fields, are_offset=True)
        self._order = JointOrder(stream.topic, stream.joints, stream.unnamed == "by_index")
        self._plans: list[RowPlan] = []
        self._lacks: dict[RowPlan, int] = {}
        self._lays_out = True

    @property
    def absence(self) -> tuple[str, int] | None:
        """Why no message has what is selected, if none has, and the log time of the first."""
        if self.absent_ns is None:
            return None
        return self._decoder.names_seen.explanation(), self.absent_ns

    def decode(self, block: MessageBlock) -> Decoded:
        """Decode all messages of a block.

        Raises:
            MessageError: At the first message that does not fit, with the rule that it breaks; one
                that lacks what is selected fits if the stream skips those.
        """
        work = _Work(block, self._transform.num_read, self._transform.width)
        fresh = few = 0
        while len(work.waiting):
            plan = self._known_plan(block, int(work.waiting[0]))
            if plan is None and self._lays_out and few < FEW_MESSAGES:
                fresh += 1
                plan = self._new_plan(block, int(work.waiting[0]))
            if plan is None:
                count = 1 if self._lays_out and few < FEW_MESSAGES else None
                self._decode_singly(block, work, count)
                few += 1
                continue
            done = self._decode_at_once(block, work, plan)
            few += fresh > 0 and done < FEW_MESSAGES
        values = self._transform.decode(work.numbers)
        if work.singles:
            values = np.array(values)
            for index, vector in work.singles.items():
                values[index] = vector
        lacks = work.lacks if work.lacks.any() else None
        if lacks is not None:
            values = np.where((lacks == COMPLETE)[:, None], values, 0.0)
        return Decoded(work.stamps_ns if self._stamped else None, values, lacks)

    def decode_objects(
        self, block: MessageBlock, path: str, *, may_lack_elements: bool = False
    ) -> list[Any]:
        """Return what each message has at a dotted path: a number, flag, string or array.

        Args:
            block: The messages.
            path: The path.
            may_lack_elements: Give ``None`` for a message whose list is too short for the path, or
                has no element of the name.

        Raises:
            MessageError: At the first message that does not have it.
        """
        reader = MessagePath(path, self._topic)
        found = []
        for index in range(len(block)):
            message = self._deserialised(block, index)
            try:
                self._decoder.check(message)
                found.append(reader.get(message))
            except ContractError as cause:
                if may_lack_elements and isinstance(cause, AbsentError):
                    found.append(None)
                    continue
                raise MessageError(with_remedy(cause), index) from cause
        return found

    def _known_plan(self, block: MessageBlock, index: int) -> RowPlan | None:
        start, length = block.starts[index : index + 1], int(block.lengths[index])
        for plan in reversed(self._plans):
            if plan.length == length and plan.take(block.data, start)[0] is None:
                return plan
        return None

    def _new_plan(self, block: MessageBlock, index: int) -> RowPlan | None:
        """Lay out a message; ``None`` where that is not possible or not right."""
        stamp, vector, lack = self._decode_one(block, index)
        try:
            layout = lay_out(block.payload(index), self._msgtype, self._typestore)
            offsets = self._decoder.integers.offsets
            plan = RowPlan(layout, self._selections, self._order, self._stamped, offsets)
        except LayoutError:
            return None
        _, gathered = plan.take(block.data, block.starts[index : index + 1])
        is_same = plan.is_absent == (lack != COMPLETE)
        if is_same and not plan.is_absent:
            values = self._transform.decode(plan.numbers(gathered))
            is_same = values.tobytes() == vector.tobytes()
        if not is_same or (self._stamped and int(plan.stamps_ns(gathered)[0]) != stamp):
            self._lays_out = False
            return None
        self._lacks[plan] = lack
        self._plans.append(plan)
        for dropped in self._plans[:-MAX_PLANS]:
            del self._lacks[dropped]
        del self._plans[:-MAX_PLANS]
        return plan

    def _decode_at_once(self, block: MessageBlock, work: _Work, plan: RowPlan) -> int:
        """Decode what has the plan's layout; return how many messages that was."""
        rows = work.waiting[block.lengths[work.waiting] == plan.length]
        step = max(1, CACHED_BYTES // plan.gathered_bytes)
        done = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            fits, gathered = plan.take(block.data, block.starts[part])
            if fits is not None:
                part = part[fits]
                gathered = [matrix[fits] for matrix in gathered]
            if plan.is_absent:
                work.lacks[part] = self._lacks[plan]
            else:
                work.numbers[part] = plan.numbers(gathered)
            if self._stamped:
                work.stamps_ns[part] = plan.stamps_ns(gathered)
            done.append(part)
        decoded = np.concatenate(done)
        work.finish(decoded)
        self.bulk += len(decoded)
        self.by_index += len(decoded) if plan.is_unnamed else 0
        return len(decoded)

    def _decode_singly(self, block: MessageBlock, work: _Work, count: int | None) -> None:
        """Decode the first ``count`` of the waiting messages, or all."""
        rows = work.waiting[:count]
        for row in rows.tolist():
            before = self._decoder.by_index
            work.stamps_ns[row], work.singles[row], work.lacks[row] = self._decode_one(block, row)
            self.by_index += self._decoder.by_index - before
        work.waiting = work.waiting[len(rows) :]
        self.single += len(rows)

    def _decode_one(self, block: MessageBlock, index: int) -> tuple[int, NDArray[np.float64], int]:
        """Return a message's stamp, its numbers, and what it lacks."""
        message = self._deserialised(block, index)
        stamp, nothing = 0, np.zeros(self._transform.width)
        try:
            stamp = stamp_ns(message, self._topic) if self._stamped else 0
            return stamp, self._decoder(message), COMPLETE
        except CommandEndedError:
            return stamp, nothing, ENDED
        except ContractError as cause:
            if not (self._skips_absent and isinstance(cause, AbsentError)):
                raise MessageError(with_remedy(cause), index) from cause
            if self.absent_ns is None:
                self.absent_ns = int(block.log_times_ns[index])
            return stamp, nothing, ABSENT

    def _deserialised(self, block: MessageBlock, index: int) -> Any:
        try:
            return self._typestore.deserialize_cdr(block.payload(index), self._msgtype)
        except DAMAGE as cause:
            raise damaged(self._topic, self._msgtype, cause, index) from cause


class DamageFinder(BlockDecoder):
    """Finds the messages of one topic that are none of their type.

    Args:
        topic: The topic.
        msgtype: Its type.
        typestore: Knows the type.
    """

    def __init__(self, topic: str, msgtype: str, typestore: Typestore) -> None:
        whole = Stream.model_construct(
            topic=topic, type=msgtype, fields=(), stamp="receive", when_absent="refuse"
        )
        super().__init__(whole, typestore)
        self._damaged: dict[int, str] = {}

    def damaged(self, block: MessageBlock) -> dict[int, str]:
        """Return why messages of a block cannot be decoded, by their places."""
        self._damaged = {}
        self.decode(block)
        return self._damaged

    def _new_plan(self, block: MessageBlock, index: int) -> RowPlan | None:
        return super()._new_plan(block, index) if self._is_intact(block, index) else None

    def _decode_one(self, block: MessageBlock, index: int) -> tuple[int, NDArray[np.float64], int]:
        self._is_intact(block, index)
        return 0, np.zeros(0), COMPLETE

    def _is_intact(self, block: MessageBlock, index: int) -> bool:
        try:
            self._deserialised(block, index)
        except DamagedMessageError as cause:
            self._damaged[index] = _reason(cause.__cause__)
            return False
        return True


def damaged(topic: str, msgtype: str, cause: object, index: int) -> DamagedMessageError:
    """Say that a message, by its place in the block, is none of its type."""
    return DamagedMessageError(
        f"{topic}: a message is no {msgtype}: {_reason(cause)}; the recording is damaged, or has "
        f"another type than it says; --salvage leaves the message out",
        index,
    )


def _reason(cause: object) -> str:
    """What is wrong with a message, without rosbags' words around it."""
    return _COULD_NOT.sub("", one_line(cause)).rstrip(".")


class _Work:
    """The state of decoding one block: what is done, and which rows wait."""

    def __init__(self, block: MessageBlock, num_read: int, width: int) -> None:
        self.waiting = np.arange(len(block))
        self.numbers = np.zeros((len(block), num_read))
        self.stamps_ns = np.zeros(len(block), np.int64)
        self.lacks = np.zeros(len(block), np.int8)
        self.singles: dict[int, NDArray[np.float64]] = {}

    def finish(self, rows: NDArray[np.int64]) -> None:
        if len(rows) == len(self.waiting):
            self.waiting = self.waiting[:0]
        else:
            self.waiting = np.setdiff1d(self.waiting, rows, assume_unique=True)
