"""One bag, read once from start to end under a contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import BagError, ContractError
from dql_ros.bag.episodes import EpisodeAssembler, LeftOut, RecordedEpisode
from dql_ros.bag.reader import Bag
from dql_ros.bag.topic_statistics import TopicStatistics
from dql_ros.codecs import StreamDecoder, stamp_ns
from dql_ros.contract import ActionStream, Contract, ObservationStream, SignalStream, Stream
from dql_ros.message_path import MessagePath

# Header stamps that are farther from the log times are of another clock.
MAX_SKEW_NS = 60_000_000_000

Sink = Callable[[Any, int], None]


@dataclass(frozen=True)
class Recording:
    """What one bag gave.

    Attributes:
        path: The bag, as the user named it.
        start_ns: Log time of its first message.
        topics: Statistics of the topics that the contract uses.
        episodes: Its episodes.
        left_out: What is in no episode.
    """

    path: Path
    start_ns: int
    topics: tuple[TopicStatistics, ...]
    episodes: tuple[RecordedEpisode, ...]
    left_out: tuple[LeftOut, ...]


def require_topics(bag: Bag, contract: Contract, namespace: str) -> None:
    """Check that a bag has what the contract needs.

    Raises:
        BagError: Naming the bag, the topic, and the nearest that the bag has.
    """
    for use in _uses(contract, namespace):
        bag.require_topic(use.topic, use.stream.type, use.role, may_be_silent=use.may_be_silent)


def read_recording(
    bag: Bag,
    contract: Contract,
    namespace: str = "/",
    progress: Callable[[int], None] = lambda _: None,
) -> Recording:
    """Read the bag's episodes.

    Args:
        bag: An opened bag.
        contract: What to read.
        namespace: Namespace of the contract's relative topics in the bag.
        progress: Told, now and then, how many of the bag's bytes are done.

    Raises:
        BagError: If a topic is missing, the bag is damaged, or a needed number is not finite.
        ContractError: If a message lacks what the contract names.
    """
    require_topics(bag, contract, namespace)
    assembler = EpisodeAssembler(contract)
    sinks: dict[str, list[Sink]] = {}
    statistics = []
    for use in _uses(contract, namespace):
        topic = TopicStatistics(use.topic, use.stream.type, use.role, use.limit_ns)
        if use.limit_ns is not None:
            topic.ages_ns = assembler.ages_ns[use.stream.topic]
        sinks.setdefault(use.topic, []).append(_sink(use, assembler, topic))
        statistics.append(topic)
    total = sum(bag.topics[topic].count for topic in sinks)
    for done, (topic_name, log_time_ns, message) in enumerate(bag.messages(frozenset(sinks))):
        for sink in sinks[topic_name]:
            try:
                sink(message, log_time_ns)
            except (BagError, ContractError) as cause:
                seconds = (log_time_ns - bag.start_ns) / 1e9
                raise type(cause)(
                    f"{bag.path}, {seconds:.3f} s from its start: {cause}"
                ) from cause
        if done % 1000 == 0:
            progress(bag.size_bytes * done // total)
    assembler.finish()
    progress(bag.size_bytes)
    return Recording(
        path=bag.path,
        start_ns=bag.start_ns,
        topics=tuple(statistics),
        episodes=tuple(assembler.episodes),
        left_out=tuple(assembler.left_out),
    )


@dataclass(frozen=True)
class _Use:
    """One use that the contract makes of a topic."""

    stream: Stream | SignalStream
    topic: str
    role: str

    @property
    def may_be_silent(self) -> bool:
        """Whether the bag may have the topic without a message: a flag that was never raised."""
        return self.role in {"terminated", "truncated"}

    @property
    def limit_ns(self) -> int | None:
        """Pause from which on the topic counts as interrupted."""
        stream = self.stream
        return stream.max_age_ns if isinstance(stream, ObservationStream | ActionStream) else None


def _uses(contract: Contract, namespace: str) -> list[_Use]:
    streams: list[tuple[Stream | SignalStream, str]] = [
        *((stream, "observation") for stream in contract.observation),
        *((stream, "action") for stream in contract.action),
        *((stream, name) for name, stream in contract.signals.items()),
    ]
    return [_Use(stream, stream.resolved_topic(namespace), role) for stream, role in streams]


def _sink(use: _Use, assembler: EpisodeAssembler, statistics: TopicStatistics) -> Sink:
    """What to do with a message of a topic; it takes the message and its log time."""
    stream = use.stream
    if isinstance(stream, SignalStream):
        path = MessagePath(stream.path, use.topic)

        def take_signal(message: Any, log_time_ns: int) -> None:
            value = path.number(message)
            _require_finite(np.array([value]), use.topic, (stream.path,))
            statistics.add(log_time_ns)
            assembler.signal(use.role, log_time_ns, value)

        return take_signal

    decode = StreamDecoder(stream)
    names = tuple(spec.name for spec in stream.specs)

    def take(message: Any, log_time_ns: int) -> None:
        value = decode(message)
        _require_finite(value, use.topic, names)
        statistics.add(log_time_ns)
        if isinstance(stream, ObservationStream):
            stamp = _stamp(stream, message, log_time_ns)
            assembler.observe(stream.topic, log_time_ns, stamp, value)
        else:
            assembler.command(stream.topic, log_time_ns, value)

    return take


def _stamp(stream: ObservationStream, message: Any, log_time_ns: int) -> int:
    if stream.stamp == "receive":
        return log_time_ns
    stamp = stamp_ns(message, stream.topic)
    if abs(stamp - log_time_ns) > MAX_SKEW_NS:
        raise BagError(
            f"{stream.topic}: header stamp and log time are {(log_time_ns - stamp) / 1e9:.1f} s "
            f"apart (limit {MAX_SKEW_NS // 10**9} s), so they are of different clocks; set "
            f"'stamp: receive' in the contract, or record with use_sim_time"
        )
    return stamp


def _require_finite(value: NDArray[np.float64], topic: str, names: tuple[str, ...]) -> None:
    if not np.isfinite(value).all():
        index = int(np.flatnonzero(~np.isfinite(value))[0])
        raise BagError(
            f"{topic}: '{names[index]}' is {value[index]}; cut this part out of the recording, or "
            f"take the field out of the contract"
        )
