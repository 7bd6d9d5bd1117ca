"""One bag, read once from start to end under a contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dql_ros.bag.block_decoder import MessageError
from dql_ros.bag.columns import Times
from dql_ros.bag.episodes import EpisodeAssembler
from dql_ros.bag.reader import Bag
from dql_ros.bag.recorded import LeftOut, RecordedEpisode
from dql_ros.bag.topic_statistics import TopicStatistics
from dql_ros.bag.uses import Intake, Use, located, uses_of
from dql_ros.contract import Contract, Stream


@dataclass(frozen=True)
class Recording:
    """What one bag gave, besides its episodes.

    Attributes:
        topics: Statistics of the topics that the contract uses.
        left_out: What is in no episode.
        dropped_ticks: Ticks left out of episodes for a value that is no number.
        split_nonfinite: Episodes that such a value ended.
        by_index: Messages without joint names that were read in the contract's order.
    """

    topics: tuple[TopicStatistics, ...]
    left_out: tuple[LeftOut, ...]
    dropped_ticks: int
    split_nonfinite: int
    by_index: int


def require_topics(bag: Bag, contract: Contract, namespace: str) -> None:
    """Check that a bag has what the contract needs.

    Raises:
        BagError: Naming the bag, the topic, and the nearest that the bag has.
    """
    for use in uses_of(contract, namespace):
        bag.require_topic(use.topic, use.rule.type, use.role, may_be_silent=use.may_be_silent)


def read_recording(
    bag: Bag,
    contract: Contract,
    namespace: str,
    on_episode: Callable[[RecordedEpisode], None],
    progress: Callable[[int], None] = lambda _: None,
) -> Recording:
    """Read the bag's episodes.

    Args:
        bag: An opened bag.
        contract: What to read.
        namespace: Namespace of the contract's relative topics in the bag.
        on_episode: Takes each episode when it is complete.
        progress: Told, now and then, how many of the bag's bytes are done.

    Raises:
        BagError: If a topic is missing, the bag is damaged, a message lacks what the contract
            names, or a needed number is not finite and the contract refuses that.
    """
    require_topics(bag, contract, namespace)
    uses = uses_of(contract, namespace)
    statistics = {
        (use.kind, use.name): TopicStatistics(use.topic, use.rule.type, use.role, use.limit_ns)
        for use in uses
    }

    def note_arrivals(
        kind: str, name: str, arrived_ns: Times, columns: tuple[NDArray[Any], ...]
    ) -> None:
        rule = rules[kind, name]
        is_stamped = isinstance(rule, Stream) and rule.stamp == "header"
        statistics[kind, name].add(arrived_ns, columns[0] if is_stamped else None)

    def note_ages(kind: str, topic: str, ages_ns: Times) -> None:
        statistics[kind, topic].add_ages(ages_ns)

    rules = {(use.kind, use.name): use.rule for use in uses}
    assembler = EpisodeAssembler(contract, on_episode, note_ages, note_arrivals)
    intakes = _read(bag, contract, uses, assembler, progress)
    progress(bag.size_bytes)
    return Recording(
        topics=tuple(statistics.values()),
        left_out=tuple(assembler.left_out),
        dropped_ticks=assembler.dropped_ticks,
        split_nonfinite=assembler.split_nonfinite,
        by_index=sum(intake.by_index for intake in intakes),
    )


def _read(
    bag: Bag,
    contract: Contract,
    uses: list[Use],
    assembler: EpisodeAssembler,
    progress: Callable[[int], None],
) -> list[Intake]:
    """Pass every message of the contract's topics to the assembler."""
    refuses = contract.nonfinite == "refuse"
    by_topic: dict[str, list[tuple[Use, Intake]]] = {}
    for use in uses:
        intake = Intake(use, bag.typestore(use.topic, use.rule.type), refuses_nonfinite=refuses)
        by_topic.setdefault(use.topic, []).append((use, intake))
    for batch in bag.batches(frozenset(by_topic)):
        for block in batch.blocks:
            for use, intake in by_topic[block.topic]:
                if block.msgtype != use.rule.type:
                    continue
                try:
                    arrived_ns, columns = intake(block)
                except MessageError as cause:
                    raise located(cause, block, bag.start_ns, bag.path) from cause
                assembler.push(use.kind, use.name, arrived_ns, *columns)
        assembler.advance(batch.complete_until_ns)
        progress(batch.bytes_done)
    assembler.finish()
    return [intake for pairs in by_topic.values() for _, intake in pairs]
