"""A recording's own times, looked at as a whole: refused if they cannot be right, or divided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag, ClockStep
from dql_ros.codecs.block_decoder import BlockDecoder, MessageError
from dql_ros.codecs.stamps import shifted
from dql_ros.contract import ActionStream, Contract, ObservationStream, Stream
from dql_ros.convert.clock import ClockError, ClockFault, StreamClock, set_back, set_back_limit_ns
from dql_ros.convert.recorded_episode import Interruption
from dql_ros.convert.topic_decoders import TopicRole, located

RoleKey = tuple[str, str]


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
) -> dict[RoleKey, StreamClock]:
    """Return what judges the header stamps of each stream that is stamped by them."""
    return {
        (role.kind, role.name): StreamClock(
            role.topic, role.rule, contract.period_ns, refuses=refuses
        )
        for role in roles
        if isinstance(role.rule, ObservationStream | ActionStream) and role.rule.stamp == "header"
    }


def find_timeline(bag: Bag, contract: Contract, roles: Sequence[TopicRole]) -> Timeline:
    """Read a bag for its times alone: twice, if the recorder's clock was set back.

    Raises:
        BagError: If the bag is damaged, or no stamp of a stream is near its receipt.
    """
    clocks = _judged(bag, contract, roles, ())
    steps = steps_of(bag, contract, roles)
    if steps:
        clocks = _judged(bag, contract, roles, steps)
    faults = [fault for clock in clocks.values() for fault in clock.faults]
    faults += [set_back(step) for step in steps]
    different = dict.fromkeys(faults)  # those of two streams of a topic are the same
    return Timeline(steps, sorted(different, key=lambda fault: fault.start_ns))


def steps_of(bag: Bag, contract: Contract, roles: Sequence[TopicRole]) -> list[ClockStep]:
    """Return where the recorder's clock was set back."""
    latched = {
        role.topic
        for role in roles
        if isinstance(role.rule, ObservationStream) and role.rule.latched
    }
    return bag.clock_steps(set_back_limit_ns(contract.period_ns), latched)


def require_no_step(bag: Bag, contract: Contract, roles: Sequence[TopicRole]) -> None:
    """Check that the recorder's clock was not set back.

    Raises:
        BagError: If it was, with topic, message, time and what to do.
    """
    for step in steps_of(bag, contract, roles):
        raise BagError(f"{_at(bag, step.before_ns)}: {set_back(step)}")


def set_back_text(steps: Sequence[ClockStep], bag: Bag, contract: Contract) -> str:
    """Say in a sentence where the recorder's clock was set back, and what becomes of it."""
    where = f"{(steps[0].before_ns - bag.start_ns) / 1e9:.3f} s from its start"
    times = "once" if len(steps) == 1 else f"{len(steps):,} times, first"
    if contract.clock == "refuse":
        return f"{where}: {set_back(steps[0])}"
    return f"the recorder's clock was set back {times} {where}; episodes end there"


def finish(
    clocks: Iterable[StreamClock], bag: Bag, contract: Contract, roles: Sequence[TopicRole]
) -> None:
    """Judge what there is, now that all messages were read.

    Raises:
        BagError: If times cannot be right, and the contract refuses that.
    """
    if contract.clock == "refuse":
        require_no_step(bag, contract, roles)
    for clock in clocks:
        try:
            clock.finish()
        except ClockError as cause:
            raise BagError(f"{_at(bag, cause.arrived_ns)}: {cause}") from cause


def _at(bag: Bag, time_ns: int) -> str:
    return f"{bag.path}, {(time_ns - bag.start_ns) / 1e9:.3f} s from its start"


def _judged(
    bag: Bag, contract: Contract, roles: Sequence[TopicRole], steps: Sequence[ClockStep]
) -> Mapping[RoleKey, StreamClock]:
    """Read the header stamps of all streams, and have them judged."""
    clocks = stream_clocks(contract, roles, refuses=False)
    decoders: dict[str, list[tuple[TopicRole, BlockDecoder, StreamClock]]] = {}
    for role in roles:
        clock = clocks.get((role.kind, role.name))
        if clock is not None and isinstance(role.rule, Stream):
            stamped = role.rule.model_copy(update={"topic": role.topic, "fields": ()})
            decoder = BlockDecoder(stamped, bag.typestore(role.topic, role.rule.type))
            decoders.setdefault(role.topic, []).append((role, decoder, clock))
    for batch in bag.batches(frozenset(role.topic for role in roles), steps=steps):
        for block in batch.blocks:
            for role, decoder, clock in decoders.get(block.topic, ()):
                if block.msgtype != role.rule.type:
                    continue
                try:
                    stamps_ns = decoder.decode(block).stamps_ns
                    assert stamps_ns is not None
                    clock.judge(block.log_times_ns, shifted(stamps_ns, block.shift_ns))
                except MessageError as cause:
                    raise located(cause, block, bag.start_ns, bag.path) from cause
    for clock in clocks.values():
        clock.finish()
    return clocks
