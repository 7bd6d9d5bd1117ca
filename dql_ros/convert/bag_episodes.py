"""The episodes of a bag, read once from start to end under a contract.

A recording's own times are looked at as a whole: where they cannot be right, it is refused, or
divided there and read along its `Timeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, ClockStep, LostSpan
from dql_ros.codecs.block import MessageBlock
from dql_ros.codecs.block_decoder import MessageError
from dql_ros.contract import (
    ActionStream,
    Contract,
    ObservationStream,
    Stream,
    TransformStream,
)
from dql_ros.convert.alignment import OnArrivals
from dql_ros.convert.clock import ClockError, ClockFault, StreamClock, set_back, set_back_limit_ns
from dql_ros.convert.columns import Times, different
from dql_ros.convert.episodes import EpisodeAssembler
from dql_ros.convert.outcomes import LabelCounts, outcome_roles
from dql_ros.convert.recorded_episode import (
    Cause,
    Interruption,
    Reason,
    RecordedEpisode,
    SkippedSpan,
)
from dql_ros.convert.report.topic_statistics import TopicStatistics
from dql_ros.convert.topic_decoders import (
    TopicDecoder,
    TopicRole,
    located,
    located_at,
    present_roles,
    reset_roles,
    takeover_roles,
    topic_decoder,
)
from dql_ros.convert.transforms import TransformJudge
from dql_ros.convert.values_seen import Unmatched

RoleKey = tuple[str, str]
Clock = StreamClock | TransformJudge


@dataclass(frozen=True)
class BagSummary:
    """What reading a bag's episodes gave, besides the episodes.

    Attributes:
        topics: Statistics of the topics that the contract uses.
        skipped: What is in no episode.
        dropped_ticks: Ticks left out of episodes for a NaN or an infinity.
        split_nonfinite: Episodes that such a value ended.
        by_index: Messages without joint names that were read in the contract's order.
        clock_faults: Where times could not be right, and the episode was split.
        unmatched: Flags and events that no message raised, and what the messages had instead.
        labels: What became of a person's labels.
    """

    topics: tuple[TopicStatistics, ...]
    skipped: tuple[SkippedSpan, ...]
    dropped_ticks: int
    split_nonfinite: int
    by_index: int
    clock_faults: tuple[ClockFault, ...]
    unmatched: tuple[Unmatched, ...]
    labels: LabelCounts


def require_topic(bag: Bag, role: TopicRole) -> None:
    """Check that a bag has a topic that the contract needs.

    Raises:
        BagError: Naming the bag, the topic, and the nearest that the bag has.
    """
    bag.require_topic(role.topic, role.rule.type, role.label, may_be_silent=role.may_be_silent)
    if isinstance(role.rule, Stream) or role.rule.path is not None:
        bag.require_fields(role.topic, role.rule.type)


def require_topics(bag: Bag, contract: Contract, namespace: str) -> None:
    """Check that a bag has all topics that the contract needs; see `require_topic`."""
    for role in present_roles(bag, contract, namespace):
        require_topic(bag, role)
    takeover_roles(bag, contract, namespace)
    outcome_roles(bag, contract, namespace)


def read_bag_episodes(
    bag: Bag,
    contract: Contract,
    namespace: str,
    on_episode: Callable[[RecordedEpisode], None],
    progress: Callable[[int], None] = lambda _: None,
    on_arrivals: OnArrivals = lambda _kind, _name, _arrived, _columns: None,
) -> BagSummary:
    """Read the bag's episodes, once from start to end.

    Args:
        bag: An opened bag.
        contract: What to read.
        namespace: Namespace of the contract's relative topics in the bag.
        on_episode: Takes each episode when it is complete.
        progress: Called, now and then, with how many of the bag's bytes are done.
        on_arrivals: Takes what was decoded; see `Alignment`.

    Raises:
        BagError: If a topic is missing, the bag is damaged, a message lacks what the contract
            names, or a needed number is not finite and the contract refuses that.
    """
    require_topics(bag, contract, namespace)
    roles = present_roles(bag, contract, namespace) + reset_roles(bag, contract, namespace)
    roles += takeover_roles(bag, contract, namespace)
    roles += outcome_roles(bag, contract, namespace)
    rules = {(role.kind, role.name): role.rule for role in roles}
    statistics = {
        (role.kind, role.name): TopicStatistics(
            role.topic, role.rule.type, role.label, role.limit_ns
        )
        for role in roles
    }

    def note_arrivals(
        kind: str, name: str, arrived_ns: Times, columns: tuple[NDArray[Any], ...]
    ) -> None:
        rule = rules[kind, name]
        if isinstance(rule, TransformStream):
            # A message has several transforms, each with a row.
            statistics[kind, name].add(different(arrived_ns))
        else:
            is_stamped = isinstance(rule, Stream) and rule.stamp == "header"
            statistics[kind, name].add(arrived_ns, columns[0] if is_stamped else None)
        on_arrivals(kind, name, arrived_ns, columns)

    def note_ages(kind: str, topic: str, ages_ns: Times) -> None:
        if (kind, topic) in statistics:  # what is static has no age, and may be all there is
            statistics[kind, topic].add_ages(ages_ns)

    timeline = find_timeline(bag, contract, roles) if contract.clock == "split" else Timeline()
    assembler = EpisodeAssembler(contract, on_episode, note_ages, note_arrivals)
    for interruption in timeline.interruptions:
        assembler.interrupt(interruption)
    decoders = _read(bag, contract, roles, timeline, assembler, progress)
    progress(bag.size_bytes)
    for role, decoder in decoders:
        figures = statistics[role.kind, role.name]
        figures.absent, figures.ended = decoder.absent, decoder.ended
    return BagSummary(
        topics=tuple(statistics.values()),
        skipped=tuple(assembler.skipped),
        dropped_ticks=assembler.dropped_ticks,
        split_nonfinite=assembler.split_nonfinite,
        by_index=sum(decoder.by_index for _, decoder in decoders),
        clock_faults=tuple(timeline.faults),
        unmatched=tuple(
            decoder.unmatched for _, decoder in decoders if decoder.unmatched is not None
        ),
        labels=assembler.labelled.counts,
    )


def _read(
    bag: Bag,
    contract: Contract,
    roles: list[TopicRole],
    timeline: Timeline,
    assembler: EpisodeAssembler,
    progress: Callable[[int], None],
) -> list[tuple[TopicRole, TopicDecoder]]:
    """Pass every message of the contract's topics to the assembler; return the decoders."""
    refuse = contract.nonfinite == "refuse"
    clocks = stream_clocks(contract, roles, refuses=contract.clock == "refuse")
    by_topic: dict[str, list[tuple[TopicRole, TopicDecoder]]] = {}
    for role in roles:
        typestore = bag.typestore(role.topic, role.rule.type)
        clock = clocks.get((role.kind, role.name))
        decoder = topic_decoder(role, typestore, refuse_nonfinite=refuse, clock=clock)
        by_topic.setdefault(role.topic, []).append((role, decoder))
    known_spans = 0
    for batch in bag.batches(frozenset(by_topic), steps=timeline.steps):
        known_spans += _interrupt(assembler, roles, bag.lost_spans[known_spans:])
        for block in batch.blocks:
            for role, decode in by_topic[block.topic]:
                if block.msgtype != role.rule.type:
                    continue
                arrived_ns, columns = _decoded(bag, contract, roles, decode, block)
                assembler.push(role.kind, role.name, arrived_ns, *columns)
        assembler.advance(batch.complete_until_ns)
        progress(batch.bytes_done)
    if contract.clock == "refuse":
        _accepted_steps(bag, contract, roles)
    _finish_clocks(clocks.values(), bag)
    decoders = [pair for pairs in by_topic.values() for pair in pairs]
    for _, decoder in decoders:
        if decoder.absence is not None:
            raise located_at(*decoder.absence, bag.start_ns, bag.path)
    assembler.finish()
    return decoders


def _decoded(
    bag: Bag,
    contract: Contract,
    roles: list[TopicRole],
    decode: TopicDecoder,
    block: MessageBlock,
) -> tuple[Times, tuple[NDArray[Any], ...]]:
    try:
        return decode(block)
    except MessageError as cause:
        if isinstance(cause, ClockError):
            # Where the recorder's clock was set back, that is the reason for it.
            _accepted_steps(bag, contract, roles)
        raise located(cause, block, bag.start_ns, bag.path) from cause


def _interrupt(
    assembler: EpisodeAssembler, roles: Sequence[TopicRole], spans: Sequence[LostSpan]
) -> int:
    """End the episode at each span in which something is lost; return their number."""
    for span in spans:
        end_ns = span.start_ns if span.end_ns is None else max(span.end_ns + 1, span.start_ns)
        unheard = frozenset((role.kind, role.name) for role in roles if role.topic in span.topics)
        reason = Reason(Cause.LOST)
        assembler.interrupt(Interruption(span.start_ns, end_ns, reason, unheard))
    return len(spans)


@dataclass(frozen=True)
class Timeline:
    """Where a recording is divided since its times cannot be right.

    Attributes:
        steps: Where the recorder's clock was set back.
        faults: These and what is wrong with header stamps, in the order of their times.
    """

    steps: Sequence[ClockStep] = ()
    faults: Sequence[ClockFault] = ()

    @property
    def interruptions(self) -> Iterator[Interruption]:
        """Where episodes end for it."""
        return (fault.interruption for fault in self.faults)


def stream_clocks(
    contract: Contract, roles: Sequence[TopicRole], *, refuses: bool
) -> dict[RoleKey, Clock]:
    """Return what judges the times of each stream that header stamps count for.

    The two topics of an observed transform are judged together.
    """
    period_ns = contract.period_ns
    clocks: dict[RoleKey, Clock] = {}
    for role in roles:
        rule = role.rule
        if isinstance(rule, ObservationStream | ActionStream) and rule.stamp == "header":
            clocks[role.kind, role.name] = StreamClock(
                role.topic, rule, period_ns, refuses=refuses
            )
    for stream in contract.observation:
        if isinstance(stream, TransformStream):
            keys = [("observation", each.key) for each in stream.inputs]
            topics = [role.topic for role in roles if (role.kind, role.name) in keys]
            judge = TransformJudge(topics[0], stream, period_ns, refuses=refuses)
            clocks |= dict.fromkeys(keys, judge)
    return clocks


def find_timeline(bag: Bag, contract: Contract, roles: Sequence[TopicRole]) -> Timeline:
    """Read a bag for its times alone: twice, if the recorder's clock was set back.

    Raises:
        BagError: If the bag is damaged, or its times cannot be right even if it is divided.
    """
    failure = None
    try:
        clocks = _judged(bag, contract, roles, ())
    except BagError as cause:
        if not isinstance(cause.__cause__, ClockError):
            raise
        failure = cause
    steps = _accepted_steps(bag, contract, roles)
    if steps:
        clocks = _judged(bag, contract, roles, steps)
    elif failure is not None:
        raise failure
    faults = [fault for clock in dict.fromkeys(clocks.values()) for fault in clock.faults]
    faults += [set_back(step) for step in steps]
    different = dict.fromkeys(faults)  # those of two streams of a topic are the same
    return Timeline(steps, sorted(different, key=lambda fault: fault.start_ns))


def steps_of(bag: Bag, contract: Contract, roles: Sequence[TopicRole]) -> list[ClockStep]:
    """Return where the recorder's clock was set back."""
    return bag.clock_steps(set_back_limit_ns(contract.period_ns), latched_topics(roles))


def latched_topics(roles: Iterable[TopicRole]) -> frozenset[str]:
    """Return the topics whose times of receipt say nothing: a recorder repeats what is latched."""
    return frozenset(
        role.topic
        for role in roles
        if isinstance(role.rule, ObservationStream) and role.rule.latched
    )


def _accepted_steps(bag: Bag, contract: Contract, roles: Sequence[TopicRole]) -> list[ClockStep]:
    """Return where the recorder's clock was set back and the contract lets episodes end.

    Raises:
        BagError: If it was set back otherwise, with topic, message, time and what to do.
    """
    steps = steps_of(bag, contract, roles)
    if steps:
        text, is_refused = judged_steps(steps, bag, contract)
        if is_refused:
            raise BagError(text)
    return steps


def judged_steps(steps: Sequence[ClockStep], bag: Bag, contract: Contract) -> tuple[str, bool]:
    """Say where the recorder's clock was set back, and whether the bag is refused for it."""
    of_others = [step for step in steps if not step.is_of_one_clock]
    step = (of_others or steps)[0]
    if contract.clock == "refuse" or of_others:
        return f"{_at(bag, step.before_ns)}: {set_back(step)}", True
    times = "once" if len(steps) == 1 else f"{len(steps):,} times, first"
    where = f"{(step.before_ns - bag.start_ns) / 1e9:.3f} s from its start"
    return (
        f"{bag.path}: the recorder's clock was set back {times} {where}; episodes end there",
        False,
    )


def _finish_clocks(clocks: Iterable[Clock], bag: Bag) -> None:
    for clock in dict.fromkeys(clocks):
        try:
            clock.finish()
        except ClockError as cause:
            raise BagError(f"{_at(bag, cause.arrived_ns)}: {cause}") from cause


def _at(bag: Bag, time_ns: int) -> str:
    return f"{bag.path}, {(time_ns - bag.start_ns) / 1e9:.3f} s from its start"


def _judged(
    bag: Bag, contract: Contract, roles: Sequence[TopicRole], steps: Sequence[ClockStep]
) -> Mapping[RoleKey, Clock]:
    """Read the header stamps of all streams, and have them judged."""
    clocks = stream_clocks(contract, roles, refuses=False)
    decoders: dict[str, list[tuple[TopicRole, TopicDecoder]]] = {}
    for role in roles:
        clock = clocks.get((role.kind, role.name))
        if clock is not None:
            store = bag.typestore(role.topic, role.rule.type)
            decoder = topic_decoder(role, store, refuse_nonfinite=False, clock=clock)
            decoders.setdefault(role.topic, []).append((role, decoder))
    for batch in bag.batches(frozenset(role.topic for role in roles), steps=steps):
        for block in batch.blocks:
            for role, decode in decoders.get(block.topic, ()):
                if block.msgtype != role.rule.type:
                    continue
                try:
                    decode(block)
                except MessageError as cause:
                    raise located(cause, block, bag.start_ns, bag.path) from cause
    _finish_clocks(clocks.values(), bag)
    return clocks
