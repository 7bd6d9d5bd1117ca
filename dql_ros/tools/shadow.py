"""What a policy in shadow mode would have sent, read out of a recording beside what was sent.

The episodes are those of a conversion under the contract. The shadow commands are read under the
same contract with the shadow topics in place of the robot's, so that both are paired with a tick
by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dql_core.errors import BagError, listed
from dql_core.evaluation.offline.shadow import ShadowEpisode
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.storage import DAMAGE
from dql_ros.contract import Contract
from dql_ros.contract.shadow import shadow_streams, shadow_topic
from dql_ros.convert.bag_episodes import latched_topics, read_bag_episodes
from dql_ros.convert.bag_result import no_episode
from dql_ros.convert.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.convert.recorded_episode import RecordedEpisode, SkippedSpan
from dql_ros.convert.topic_decoders import topic_roles
from dql_ros.tools.replay.arrivals import require_one_clock
from dql_ros.tools.replay.recorded import RecordedCommands

_DIAGNOSTICS, _DIAGNOSTICS_TYPE = "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray"
_COUNTED = ("ticks", "missed ticks", "guard ")


@dataclass(frozen=True)
class ShadowSource:
    """Whose shadow commands are read, and how.

    Attributes:
        contract: Of the robot, under which the policy ran.
        namespace: Namespace of the contract's relative topics in the bags.
        node: Full name of the node that looked on.
        needs_rewards: Whether the contract's rewards are read, too; a bag without them will do
            otherwise.
    """

    contract: Contract
    namespace: str
    node: str
    needs_rewards: bool


@dataclass(frozen=True)
class RecordedShadow:
    """What a bag holds of a policy in shadow mode.

    Attributes:
        episodes: Its episodes, at least one, with what the policy would have sent.
        reported: What the node counted up to its last report, by its names: ticks and trips of
            guards; empty if the bag has no such report.
        remarks: What a reader must know of the bag, a sentence each.
    """

    episodes: tuple[ShadowEpisode, ...]
    reported: Mapping[str, str]
    remarks: tuple[str, ...]


def read_shadow(
    bag: Bag, source: ShadowSource, progress: Callable[[int], None] = lambda _: None
) -> RecordedShadow:
    """Read a recording of shadow mode; twice, from start to end.

    Args:
        bag: An opened bag.
        source: Whose commands, and how they are read.
        progress: Called, now and then, with how many of the bag's bytes are done.

    Raises:
        BagError: If the bag has no shadow commands of that node, no episode, or is damaged.
        ContractError: If the messages do not fit the contract.
    """
    contract, namespace, node = source.contract, source.namespace, source.node
    if not source.needs_rewards:
        contract = contract.model_copy(update={"reward": None})
    shadows = contract.model_copy(update={"action": shadow_streams(contract.action, node)})
    commands = RecordedCommands(bag, shadows, namespace)
    if commands.missing:
        raise BagError(_without(bag, contract, node, commands.missing[0]))
    converted, skipped = _episodes(bag, contract, namespace)
    reported = _Reported(bag, node)
    for batch in bag.batches(commands.topics | reported.topics):
        for block in batch.blocks:
            commands.visit(block)
            reported.visit(block)
        progress(batch.bytes_done)
    latched = latched_topics(topic_roles(contract, namespace))
    require_one_clock(bag, contract.period_ns, latched)
    ticks_ns = [each.recorded.ticks_ns[:-1] for each in converted]
    ends = np.cumsum([len(each) for each in ticks_ns])
    sent = np.split(commands.at(np.concatenate(ticks_ns)).astype(np.float32), ends[:-1])
    episodes = tuple(
        ShadowEpisode(each.episode, rows, str(bag.path), (times_ns - bag.start_ns) / 1e9)
        for each, rows, times_ns in zip(converted, sent, ticks_ns, strict=True)
    )
    return RecordedShadow(episodes, reported.counts, tuple(_remarks(bag, skipped)))


def _without(bag: Bag, contract: Contract, node: str, topic: str) -> str:
    """Say that there are no shadow commands, and of which other nodes there are some."""
    ending = shadow_topic(contract.action[0].topic, "")
    found = {name.removesuffix(ending) for name in bag.topics if name.endswith(ending)}
    others = found - {node}
    remedy = (
        f"there are those of {listed(sorted(others), 3)}: say so with --node"
        if others
        else "record one with 'ros2 launch dql_ros policy.launch.py contract:=… policy:=… "
        "shadow:=true record:=true', or with a policy_node that has -p shadow:=true and a "
        "recorder_node beside it"
    )
    return f"{bag.path}: is no recording of shadow mode: it has no command on {topic}; {remedy}"


def _remarks(bag: Bag, skipped: Sequence[SkippedSpan]) -> Iterator[str]:
    yield from bag.notes
    yield from (f"{bag.path}: lost: {loss.file}: {loss.reason}" for loss in bag.losses)
    if lacking := [span for span in skipped if not span.is_between]:
        lost_s = sum(span.end_ns - span.start_ns for span in lacking) / 1e9
        whole_s = (bag.end_ns - bag.start_ns) / 1e9
        reasons = listed(list(dict.fromkeys(span.reason for span in lacking)), 3)
        yield f"{bag.path}: {lost_s:.1f} of {whole_s:.1f} s are in no episode: {reasons}"


def _episodes(
    bag: Bag, contract: Contract, namespace: str
) -> tuple[list[ConvertedEpisode], list[SkippedSpan]]:
    """Return the bag's episodes as a conversion makes them, and what is in none."""
    converter = EpisodeConverter(contract)
    found: list[ConvertedEpisode] = []
    skipped: list[SkippedSpan] = []

    def take(recorded: RecordedEpisode) -> None:
        for each in converter(recorded):
            if isinstance(each, SkippedSpan):
                skipped.append(each)
            else:
                found.append(each)

    summary = read_bag_episodes(bag, contract, namespace, take)
    skipped += summary.skipped
    if not found:
        reasons = "; ".join(span.reason for span in skipped[:3])
        wrong = [fault.topic for fault in summary.clock_faults]
        text = no_episode(reasons, bag.losses, wrong, summary.unmatched)
        raise BagError(f"{bag.path}: {text}")
    return found, skipped


class _Reported:
    """What a node reported of itself on ``/diagnostics``, if a bag has it.

    Attributes:
        counts: The newest figures that are counts.
    """

    def __init__(self, bag: Bag, node: str) -> None:
        topic = bag.topics.get(_DIAGNOSTICS)
        is_there = topic is not None and topic.msgtype == _DIAGNOSTICS_TYPE
        self.counts: dict[str, str] = {}
        self.topics = frozenset({_DIAGNOSTICS} if is_there else ())
        self._node = node
        self._store = bag.typestore(_DIAGNOSTICS, _DIAGNOSTICS_TYPE) if is_there else None

    def visit(self, block: Any) -> None:
        if block.topic != _DIAGNOSTICS or self._store is None:
            return
        for index in range(len(block)):
            try:
                message: Any = self._store.deserialize_cdr(block.payload(index), block.msgtype)
            except DAMAGE:
                continue  # it only adds to what is known without it
            for status in message.status:
                if status.hardware_id == self._node:
                    figures = {each.key: each.value for each in status.values}
                    self.counts = {
                        key: value for key, value in figures.items() if key.startswith(_COUNTED)
                    }
