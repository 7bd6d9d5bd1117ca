"""What the messages of a contract's stream show: their times, and each field's values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys.store import Typestore

from dql_core.errors import counted
from dql_core.spec import FieldSpec
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import ABSENT, COMPLETE, BlockDecoder, MessageError
from dql_ros.codecs.stamps import are_times
from dql_ros.contract import ActionStream, Contract, FieldSelection, ObservationStream, Stream
from dql_ros.convert.clock import ClockError, FaultKind, StreamClock, displacement
from dql_ros.convert.report.topic_statistics import TopicStatistics
from dql_ros.convert.topic_decoders import TopicRole
from dql_ros.tools.findings import Findings, of_fields
from dql_ros.tools.survey import begins_with_header, header_stamps

# Two turns: angles that go beyond are counted in something else than radians.
LARGEST_RAD = 4 * np.pi


@dataclass
class _Range:
    """What one field of the vector was."""

    low: float = np.inf
    high: float = -np.inf
    beyond: int = 0
    nonfinite: int = 0

    def add(self, finite: NDArray[np.floating], are_beyond: NDArray[np.bool_]) -> None:
        """Take the next finite values, and which of them are not what the contract says."""
        if len(finite):
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))
            self.beyond += int(are_beyond.sum())


class _SelectionProbe:
    """Decodes one selection by itself, so that what is wrong with each is reported."""

    def __init__(self, selection: FieldSelection, role: TopicRole, store: Typestore) -> None:
        rule = role.rule
        assert isinstance(rule, Stream)
        self.selection = selection
        self.specs = selection.fields(rule.topic)
        self.ranges = [_Range() for _ in self.specs]
        self._refusal: tuple[MessageError, MessageBlock] | None = None
        self._absent: tuple[int, MessageBlock] | None = None
        self._is_found = False
        alone = {
            "topic": role.topic,
            "fields": (selection,),
            "stamp": "receive",
            "when_absent": "skip" if rule.skips_absent else "refuse",
        }
        self._decoder = BlockDecoder(rule.model_copy(update=alone), store)

    @property
    def failure(self) -> tuple[MessageError, MessageBlock] | None:
        """The first message that does not fit; if none has what is selected, the first of all."""
        if self._refusal is not None or self._is_found or self._absent is None:
            return self._refusal
        index, block = self._absent
        why = self._decoder.absence
        return None if why is None else (MessageError(why[0], index), block)

    def add(self, block: MessageBlock) -> NDArray[np.bool_]:
        """Take the next messages; return which have what is selected, shape (n,)."""
        complete = np.ones(len(block), bool)
        if self._refusal is not None:
            return complete
        try:
            decoded = self._decoder.decode(block)
        except MessageError as cause:
            self._refusal = cause, block
            return complete
        if decoded.lacks is not None:
            complete = decoded.lacks == COMPLETE
            if self._absent is None and (decoded.lacks == ABSENT).any():
                self._absent = int(np.argmax(decoded.lacks == ABSENT)), block
        self._is_found |= bool(complete.any())
        self._note(decoded.values[complete])
        return complete

    def _note(self, values: NDArray[np.float64]) -> None:
        for column, spec, known in zip(values.T, self.specs, self.ranges, strict=True):
            with np.errstate(over="ignore"):
                stored = column.astype(np.float32)  # as the dataset has it
            finite = stored[np.isfinite(stored)]
            known.nonfinite += len(column) - len(finite)
            low, high = np.float32(spec.low), np.float32(spec.high)
            known.add(finite, (finite < low) | (finite > high))


class _ConstantProbe:
    """Looks whether the messages have what the contract sends as a constant."""

    def __init__(self, selection: FieldSelection, rule: Stream, store: Typestore) -> None:
        assert isinstance(selection.constant, float)
        self._path, self._constant = selection.path, selection.constant
        read = selection.model_copy(update={"constant": None})
        alone = {"fields": (read,), "stamp": "receive", "when_absent": "skip"}
        self._decoder: BlockDecoder | None = BlockDecoder(rule.model_copy(update=alone), store)
        self._seen = _Range()

    def add(self, block: MessageBlock) -> None:
        """Take the next messages; what cannot be read of them is not needed, either."""
        if self._decoder is None:
            return
        try:
            values = self._decoder.decode(block).values
        except MessageError:
            self._decoder = None
            return
        values = values[np.isfinite(values)]
        self._seen.add(values, ~np.isclose(values, self._constant, rtol=1e-6))

    def warnings(self) -> dict[str, str]:
        """What differs, by the field's path."""
        if not self._seen.beyond:
            return {}
        return {
            self._path: (
                f"is sent as the constant {self._constant:g}, but was "
                f"{self._seen.low:.4g} to {self._seen.high:.4g}; if it matters, make it a field "
                f"with bounds"
            )
        }


class _TextProbe:
    """Looks whether the messages have the text that the contract sends as a constant."""

    def __init__(self, selection: FieldSelection, rule: Stream, store: Typestore) -> None:
        self._path, self._constant = selection.path, selection.constant
        alone = {"fields": (), "stamp": "receive", "when_absent": "skip"}
        self._decoder: BlockDecoder | None = BlockDecoder(rule.model_copy(update=alone), store)
        self._others: Counter[str] = Counter()

    def add(self, block: MessageBlock) -> None:
        """Take the next messages; what cannot be read of them is not needed, either."""
        if self._decoder is None:
            return
        try:
            found = self._decoder.decode_objects(block, self._path, may_lack_elements=True)
        except MessageError:
            self._decoder = None
            return
        self._others.update(
            text for text in found if isinstance(text, str) and text != self._constant
        )

    def warnings(self) -> dict[str, str]:
        """What differs, by the field's path."""
        if not self._others:
            return {}
        (usual, _), *more = self._others.most_common()
        others = f" and {len(more)} others" if more else ""
        return {
            self._path: (
                f"is sent as the constant '{self._constant}', but was '{usual}'{others} in "
                f"{self._others.total():,} messages"
            )
        }


class StreamProbe:
    """Takes the blocks of a stream's topic.

    Args:
        role: The stream.
        store: Knows its type.
        period_ns: The control period.
    """

    def __init__(self, role: TopicRole, store: Typestore, period_ns: int) -> None:
        rule = role.rule
        assert isinstance(rule, ObservationStream | ActionStream)
        self._rule, self._topic = rule, role.topic
        self._stamped = rule.stamp == "header" and begins_with_header(store, rule.type)
        self.statistics = TopicStatistics(role.topic, rule.type, role.label, role.limit_ns)
        self._strange = 0
        self._farthest_ns = 0  # receipt less header stamp, of those whose stamp is set
        self._clock = StreamClock(role.topic, rule, period_ns, refuses=False)
        self._refusal: ClockError | None = None  # what a division would not mend
        self._selections = [_SelectionProbe(each, role, store) for each in rule.fields]
        self._constants = [
            (_TextProbe if isinstance(each.constant, str) else _ConstantProbe)(each, rule, store)
            for each in rule.fields
            if each.constant is not None and each.path
        ]

    def add(self, block: MessageBlock) -> None:
        """Take the next messages; those without what is selected do not count."""
        complete = np.ones(len(block), bool)
        for probe in self._selections:
            complete &= probe.add(block)
        for constant in self._constants:
            constant.add(block)
        times_ns = block.log_times_ns[complete]
        if not self._stamped:
            self.statistics.add(times_ns)
            return
        all_stamps_ns = header_stamps(block)
        stamps_ns, limit_ns = all_stamps_ns[complete], self._rule.max_skew_ns
        self.statistics.add(times_ns, stamps_ns)
        apart = np.where(are_times(stamps_ns), times_ns - stamps_ns, 0)
        is_far = np.abs(apart) > (np.inf if limit_ns is None else limit_ns)
        self._strange += int(is_far.sum())
        far = apart[is_far & (stamps_ns != 0)].tolist()
        self._farthest_ns = max((self._farthest_ns, *far), key=abs)
        if self._refusal is None:
            try:
                self._clock.judge(block.log_times_ns, all_stamps_ns, complete)
            except ClockError as cause:
                self._refusal = cause

    def failures(self) -> Iterator[tuple[FieldSelection, MessageError, MessageBlock]]:
        """Yield each selection that a message does not have, with the first such message."""
        for probe in self._selections:
            if probe.failure is not None:
                yield probe.selection, *probe.failure

    def findings(self, contract: Contract) -> Findings:
        """Say what of the messages' times and values does not fit, each with the topic."""
        found = Findings()
        is_refused = contract.clock == "refuse"
        figures = self.statistics.to_json()
        problems, warnings = self._clocks(is_refused)
        found.problems += problems
        found.warnings += warnings
        if not (problems or warnings) and (text := displacement(figures, 1 / contract.rate_hz)):
            found.warnings.append(f"{self._topic}: {text}")
        found.warnings += self._ages()
        nonfinite, beyond, turned = self._values()
        where = found.problems if contract.nonfinite == "refuse" else found.warnings
        where += of_fields(self._topic, nonfinite)
        is_refused = isinstance(self._rule, ActionStream) and contract.beyond_bounds == "refuse"
        (found.problems if is_refused else found.warnings).extend(of_fields(self._topic, beyond))
        found.warnings += of_fields(self._topic, turned)
        for constant in self._constants:
            found.warnings += of_fields(self._topic, constant.warnings())
        return found

    def _values(self) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """What is said of fields that are no numbers, beyond their bounds, or in degrees."""
        nonfinite, beyond, turned = {}, {}, {}
        messages = f"{self.statistics.count:,} messages"
        for spec, known in self._ranges():
            if known.nonfinite:
                nonfinite[spec.name] = (
                    f"is NaN or infinite in {known.nonfinite:,} of {messages}; 'nonfinite' says "
                    f"what becomes of them"
                )
            if known.beyond:
                beyond[spec.name] = (
                    f"is beyond its bounds {spec.low:g} to {spec.high:g} in {known.beyond:,} of "
                    f"{messages}: it was {known.low:.4g} to {known.high:.4g}"
                )
            largest = max(abs(known.low), abs(known.high))
            if spec.unit == "rad" and np.isfinite(largest) and largest > LARGEST_RAD:
                turned[spec.name] = (
                    f"is up to {largest:.4g} rad; if the messages have degrees, set "
                    f"'message_unit: deg'"
                )
        return nonfinite, beyond, turned

    def _ranges(self) -> Iterator[tuple[FieldSpec, _Range]]:
        for probe in self._selections:
            yield from zip(probe.specs, probe.ranges, strict=True)

    def _skew(self) -> str:
        zero = self.statistics.to_json()["stamps"]["zero"]
        apart = f", up to {self._farthest_ns / 1e9:.4g} s" if self._farthest_ns else ""
        return (
            f"{self._topic}: {self._strange:,} of {self.statistics.count:,} header stamps are "
            f"farther than max_skew_s ({self._rule.max_skew_s:g} s) from the time of receipt"
            f"{apart}{f'; {zero:,} are zero' if zero else ''}; set 'stamp: receive'"
        )

    def _clocks(self, is_refused: bool) -> tuple[list[str], list[str]]:
        """What is wrong with header stamps beside the time of receipt, each kind once."""
        try:
            if self._refusal is None:
                self._clock.finish()
        except ClockError as cause:
            self._refusal = cause
        is_foreign = self._refusal is not None and self._refusal.kind is FaultKind.APART
        if self._strange and (is_refused or is_foreign):
            return [self._skew()], []
        if self._refusal is not None:
            return [str(self._refusal)], []
        refused, split = [], []
        for kind in FaultKind:
            faults = [fault for fault in self._clock.faults if fault.kind is kind]
            if not faults:
                continue
            count = sum(fault.count for fault in faults)
            of = f"{count:,} of {self.statistics.count:,} messages"
            refused.append(f"{faults[0]}; so it is with {of}")
            split.append(f"{self._topic}: {of} {kind.value}; episodes end there")
        return (refused, []) if is_refused else ([], split)

    def _ages(self) -> Iterator[str]:
        figures = self.statistics.to_json()
        limit_s, median_ms = figures["limit_s"], figures["median_pause_ms"]
        if limit_s is None or median_ms is None:
            return
        delay = figures["receive_minus_header_ms"]
        late_s = max(0.0, delay["p50"] / 1000) if delay is not None else 0.0
        if late_s > (self._rule.max_skew_s or np.inf):
            late_s = 0.0  # another clock's stamps: they are left out
        usual_s = median_ms / 1000 + late_s
        if usual_s > limit_s:
            yield (
                f"{self._topic}: max_age_s is {limit_s:g}, but a value is usually {usual_s:.3g} s "
                f"old when the next comes; almost nothing can be used"
            )
        elif figures["gaps"]:
            yield (
                f"{self._topic}: {counted(figures['gaps'], 'pause')} longer than max_age_s "
                f"({limit_s:g} s), the longest {figures['longest_pause_s']:.3g} s; episodes end "
                f"there"
            )
