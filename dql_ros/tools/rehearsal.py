"""A conversion in memory: what it makes of a recording, and what is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.precision import blurred
from dql_ros.bag.reader import Bag, Loss
from dql_ros.codecs import StreamEncoder
from dql_ros.contract import Contract, ObservationStream, TransformStream
from dql_ros.convert.bag_episodes import BagSummary, read_bag_episodes
from dql_ros.convert.bag_result import no_episode
from dql_ros.convert.clock import FaultKind
from dql_ros.convert.columns import Times
from dql_ros.convert.episode_converter import ConvertedEpisode, EpisodeConverter
from dql_ros.convert.full_turns import turned
from dql_ros.convert.outcomes import outcome_notes
from dql_ros.convert.recorded_episode import RecordedEpisode, SkippedSpan
from dql_ros.convert.values_seen import Unmatched
from dql_ros.tools.coverage import Coverage, PoseCoverage, Usage, usage
from dql_ros.tools.findings import of_fields

# Half a thousandth over the limit is a rounding of float32, no faster command.
RATE_SLACK = 1.0005


@dataclass(frozen=True)
class Rehearsal:
    """What a conversion makes of a recording.

    Attributes:
        lengths: Transitions of each episode.
        usage: How much of the recording they are, and why it is not more.
        warnings: What of them is perhaps not as it was meant, a sentence each.
        wrong_stamps: Topics whose header stamps cannot be right.
        unmatched: Flags and events that no message raised.
        discarded: Episodes that a person discarded.
    """

    lengths: tuple[int, ...]
    usage: Usage
    warnings: tuple[str, ...] = ()
    wrong_stamps: tuple[str, ...] = ()
    unmatched: tuple[Unmatched, ...] = ()
    discarded: int = 0

    def problems(self, losses: Sequence[Loss] = ()) -> Iterator[str]:
        """Yield why nothing came of it, where something of the bag is lost also by that."""
        if not (self.lengths or self.discarded):
            yield no_episode(str(self.usage), losses, self.wrong_stamps, self.unmatched)


def rehearse_bag(
    bag: Bag,
    contract: Contract,
    namespace: str = "/",
    progress: Callable[[int], None] = lambda _: None,
) -> Rehearsal:
    """Make a bag's episodes, as a conversion does, and keep their lengths.

    Raises:
        DqlError: If the bag does not convert.
    """
    converter = EpisodeConverter(contract)
    for stream in contract.action:
        StreamEncoder(stream)
    streams = _coverages(contract)
    inputs = {
        (kind, topic.key): streams[kind, stream.key]
        for kind, part in (("observation", contract.observation), ("action", contract.action))
        for stream in part
        for topic in (stream.inputs if isinstance(stream, ObservationStream) else (stream,))
    }
    steps = _Steps(contract)
    lengths: list[int] = []
    spans: list[tuple[int, int]] = []
    skipped: list[SkippedSpan] = []
    # Where the recorder's clock was set back, times go on beyond the bag's own.
    ends_ns = [bag.end_ns]

    def take(recorded: RecordedEpisode) -> None:
        for made in converter(recorded):
            if isinstance(made, ConvertedEpisode):
                lengths.append(len(made.episode))
                spans.append((made.recorded.start_ns, made.recorded.end_ns))
                steps.add(made.recorded.actions)
            else:
                skipped.append(made)

    def arrived(
        kind: str, name: str, arrived_ns: Times, columns: tuple[NDArray[Any], ...]
    ) -> None:
        coverage = inputs.get((kind, name))
        ends_ns.append(int(arrived_ns.max(initial=0)))
        if isinstance(coverage, PoseCoverage):
            times_ns, edges = columns[0].astype(np.int64), columns[1]
            coverage.add(np.maximum(times_ns, arrived_ns), times_ns, edges)
        elif coverage is not None:
            stamps_ns = columns[0].astype(np.int64)
            # A command is in force from its stamp on, a value known when it has arrived.
            known_ns = stamps_ns if kind == "action" else np.maximum(stamps_ns, arrived_ns)
            coverage.add(known_ns, stamps_ns)

    summary = read_bag_episodes(bag, contract, namespace, take, progress, arrived)
    return Rehearsal(
        tuple(lengths),
        usage(
            (bag.start_ns, max(ends_ns)),
            spans,
            {key: coverage.spans() for key, coverage in streams.items()},
            [*summary.skipped, *skipped],
        ),
        (
            *_absences(summary),
            *outcome_notes(bag, contract, namespace),
            *_of_values(contract, converter),
            *steps.warnings(),
        ),
        tuple(f.topic for f in summary.clock_faults if f.kind is not FaultKind.SET_BACK),
        summary.unmatched,
        summary.labels.discarded,
    )


def _coverages(contract: Contract) -> dict[tuple[str, str], Coverage | PoseCoverage]:
    """What notes when each stream has a value, by kind and key."""
    observed = {
        ("observation", stream.key): (
            PoseCoverage(stream)
            if isinstance(stream, TransformStream)
            else Coverage(0, stream.max_age_ns)
        )
        for stream in contract.observation
    }
    commanded = {
        ("action", stream.key): Coverage(contract.period_ns, stream.max_age_ns)
        for stream in contract.action
    }
    return {**observed, **commanded}


def _absences(summary: BagSummary) -> Iterator[str]:
    """Yield how many messages are skipped, and how many say that no command follows."""
    for topic in summary.topics:
        if topic.absent:
            yield (
                f"{topic.name}: {topic.absent:,} of {topic.count + topic.absent:,} messages are "
                f"skipped: they have not got what the contract selects"
            )
        if topic.ended:
            what = (
                "a trajectory without points ends"
                if topic.ended == 1
                else (f"{topic.ended:,} trajectories without points end")
            )
            yield f"{topic.name}: {what} the command"


def _of_values(contract: Contract, converter: EpisodeConverter) -> Iterator[str]:
    """Yield which fields rounding to float32 blurs, and which angles wrap around."""
    spec = contract.policy_spec()
    yield from blurred(converter.observed.rows(), spec.observation, are_observed=True)
    yield from blurred(converter.commanded.rows(), spec.action, are_observed=False)
    yield from turned([converter.turned.rows()], spec.observation, are_observed=True)
    yield from turned([converter.commands_turned.rows()], spec.action, are_observed=False)


class _Steps:
    """How fast commands changed from tick to tick, compared with `max_rate`."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._limits = np.array(contract.max_rates)
        self._number = 0
        self._beyond = np.zeros(len(self._limits), np.int64)
        self._fastest = np.zeros(len(self._limits))

    def add(self, actions: NDArray[np.float64]) -> None:
        """Take an episode's actions as they were recorded, shape (T, A)."""
        rates = np.abs(np.diff(actions, axis=0)) * self._contract.rate_hz
        if len(rates):
            self._number += len(rates)
            self._beyond += (rates > RATE_SLACK * self._limits).sum(axis=0)
            self._fastest = np.maximum(self._fastest, rates.max(axis=0))

    def warnings(self) -> Iterator[str]:
        """Yield which fields are slower on the robot than in the recording."""
        index = 0
        for stream in self._contract.action:
            texts = {}
            for spec in stream.specs:
                if self._beyond[index]:
                    texts[spec.name] = (
                        f"changes faster than max_rate ({self._limits[index]:g} a second) in "
                        f"{self._beyond[index]:,} of {self._number:,} ticks, by up to "
                        f"{self._fastest[index]:.4g}; the robot will follow more slowly than this"
                    )
                index += 1
            yield from of_fields(stream.topic, texts)
