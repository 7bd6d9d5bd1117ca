"""The commands and states of a bag as numbers over time, and how long messages took to arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import BagError, listed
from dql_core.spec import FieldSpec
from dql_ros.bag.reader import Bag
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.stamps import are_times
from dql_ros.contract import ActionStream, Contract, ObservationStream, TransformStream
from dql_ros.contract.stream import encoded_specs
from dql_ros.convert.bag_episodes import read_bag_episodes
from dql_ros.convert.clock import FaultKind
from dql_ros.convert.columns import Times
from dql_ros.convert.recorded_episode import RecordedEpisode
from dql_ros.convert.topic_decoders import present_roles
from dql_ros.tools.delay.estimate import Track
from dql_ros.tools.survey import SurveyedTopic, begins_with_header, header_stamps, survey

# Quantiles of fewer messages say nothing.
_LEAST_MESSAGES = 10


@dataclass(frozen=True)
class NamedTrack:
    """One field of the contract as a bag has it.

    Attributes:
        field: The contract's.
        stream: Its stream.
        track: Its values; those of an action within its bounds, as the robot gets them.
    """

    field: FieldSpec
    stream: ActionStream | ObservationStream
    track: Track


@dataclass(frozen=True)
class RecordedTracks:
    """What a bag has of commands and states.

    Attributes:
        commands: The action's fields, in order.
        states: The observation's fields that may change at any time, in order.
        remarks: What a reader must know, a sentence each.
    """

    commands: tuple[NamedTrack, ...]
    states: tuple[NamedTrack, ...]
    remarks: tuple[str, ...]


def read_tracks(
    bag: Bag, contract: Contract, namespace: str, progress: Callable[[int], None]
) -> RecordedTracks:
    """Read a bag's commands and states under a contract.

    States count where an episode runs, by the contract's rules: at a reset they jump. A NaN is
    left out, and where a clock was set the time before is not compared with that after it.

    Raises:
        BagError: If a topic is missing, the bag is damaged or has no episode.
    """
    rules = contract.model_copy(
        update={
            "reward": None,
            "takeover": None,
            "outcomes": None,
            "nonfinite": "drop",
            "clock": "split",
        }
    )
    came: dict[tuple[str, str], list[tuple[Times, NDArray[Any]]]] = {}
    spans: list[tuple[int, int]] = []

    def take(episode: RecordedEpisode) -> None:
        spans.append((episode.start_ns, episode.end_ns))

    def note(kind: str, name: str, _arrived_ns: Times, columns: tuple[NDArray[Any], ...]) -> None:
        if kind in {"action", "observation"} and len(columns) <= 3:
            came.setdefault((kind, name), []).append((columns[0], columns[1]))

    found = read_bag_episodes(bag, rules, namespace, take, progress, note)
    if not spans:
        reasons = listed(list(dict.fromkeys(span.reason for span in found.skipped)), 3)
        raise BagError(f"{bag.path}: has no episode, so no delay: {reasons}")
    remarks = [
        f"{bag.path}: {fault}; its two sides are not compared" for fault in found.clock_faults
    ]
    left_out = [s.key for s in contract.observation if isinstance(s, TransformStream)]
    if left_out:
        remarks.append(f"poses out of transforms are not looked at: {listed(left_out, 3)}")
    spans_s = (np.array(spans) - bag.start_ns) / 1e9

    def tracks(kind: str, stream: ActionStream | ObservationStream) -> Sequence[NamedTrack]:
        parts = came.get((kind, stream.key), [])
        if not parts:
            return ()
        times_s = (np.concatenate([each[0] for each in parts]) - bag.start_ns) / 1e9
        values = np.concatenate([each[1] for each in parts]).astype(np.float64)
        named = []
        for spec, column in zip(encoded_specs(stream), values.T, strict=True):
            track = Track(times_s, _continuous(spec, column), spans_s)
            if isinstance(stream, ActionStream):
                track = Track(times_s, np.clip(column, spec.low, spec.high))
            named.append(NamedTrack(spec, stream, track))
        return named

    commands = (each for stream in contract.action for each in tracks("action", stream))
    states = (
        each
        for stream in contract.observation
        if not (stream.latched or isinstance(stream, TransformStream))
        for each in tracks("observation", stream)
    )
    return RecordedTracks(tuple(commands), tuple(states), tuple(remarks))


def _continuous(spec: FieldSpec, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """An angle that does not jump by a turn; all else as it is."""
    finite = np.isfinite(values)
    if spec.unit != "rad" or not finite.any():
        return values
    turned = values.copy()
    turned[finite] = np.unwrap(values[finite])
    return turned


class ReceiptDelays:
    """How long the messages of the contract's streams took from their stamps to their receipt.

    Args:
        bag: An opened bag.
        contract: Names the streams.
        namespace: Of its relative topics in the bag.
    """

    def __init__(self, bag: Bag, contract: Contract, namespace: str) -> None:
        self._bag = bag
        self._streams = {
            role.topic: (role.rule, role.label)
            for role in present_roles(bag, contract, namespace)
            if isinstance(role.rule, ActionStream | ObservationStream) and role.topic in bag.topics
        }
        self._delays: dict[str, list[NDArray[np.float64]]] = {}

    def read(self, progress: Callable[[int], None]) -> list[dict[str, Any]]:
        """Return a row for each stream, ready for JSON; the delays are in milliseconds."""
        found = survey(self._bag, progress, self._visit, judge_clocks=True)
        surveyed = {each.topic.name: each for each in found}
        return [self._row(surveyed[topic]) for topic in self._streams]

    def _visit(self, block: MessageBlock) -> None:
        rule = self._streams.get(block.topic)
        if rule is None or rule[0].type != block.msgtype:
            return
        if begins_with_header(self._bag.typestore(block.topic, block.msgtype), block.msgtype):
            stamps_ns = header_stamps(block)
            is_set = (stamps_ns != 0) & are_times(stamps_ns)
            delays = (block.log_times_ns[is_set] - stamps_ns[is_set]) / 1e6
            self._delays.setdefault(block.topic, []).append(delays)

    def _row(self, surveyed: SurveyedTopic) -> dict[str, Any]:
        topic, faults = surveyed.topic.name, surveyed.clock_faults
        rule, label = self._streams[topic]
        delays = np.concatenate(self._delays.get(topic, [np.empty(0)]))
        row: dict[str, Any] = {
            "topic": topic,
            "role": label,
            "messages": surveyed.statistics.count,
            "median_ms": None,
            "p99_ms": None,
            "jitter_ms": None,
        }
        if len(delays) < _LEAST_MESSAGES:
            has_none = topic not in self._delays or not len(delays)
            doubt = "has no header stamps" if has_none else f"{len(delays)} stamps are too few"
            return {**row, "doubt": doubt}
        median, p99 = np.quantile(delays, [0.5, 0.99]).tolist()
        limit_ms = np.inf if rule.max_skew_ns is None else rule.max_skew_ns / 1e6
        kinds = {fault["kind"] for fault in faults}
        row |= {"median_ms": median, "p99_ms": p99, "jitter_ms": p99 - median, "doubt": ""}
        if abs(median) > limit_ms:
            row["doubt"] = "the two clocks differ: stamps and times of receipt are of other times"
        elif median < 0 or kinds & {FaultKind.AHEAD.name.lower()}:
            row["doubt"] = "the publisher's clock is ahead: the delay is longer by as much"
        elif kinds:
            row["doubt"] = "a clock was set in between"
        return row
