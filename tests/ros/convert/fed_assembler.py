"""Gives the episode assemblers a recording, whole or in pieces."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from dql_ros.contract import Contract
from dql_ros.convert.columns import Times
from dql_ros.convert.episodes import EpisodeAssembler
from dql_ros.convert.recorded_episode import Interruption, RecordedEpisode, SkippedSpan
from dql_ros.convert.transitions import END_OF_TIME_NS
from tests.ros.convert.naive_episodes import NaiveAssembler

Plain = TypeVar("Plain", bound=NaiveAssembler)


class Arrival(NamedTuple):
    """One decoded message: ``kind`` and ``name`` are those of `Alignment.push`."""

    arrived_ns: int
    kind: str
    name: str
    value: float
    stamp_ns: int | None = None

    @property
    def time_ns(self) -> int:
        return self.arrived_ns if self.stamp_ns is None else self.stamp_ns


class Fed:
    """What an `EpisodeAssembler` made of a recording.

    Args:
        rules: The contract.
        arrivals: In the order of arrival.
        cuts: Positions at which the recording is divided for reading.
        interruptions: Where it is not to be believed.
    """

    def __init__(
        self,
        rules: Contract,
        arrivals: Sequence[Arrival],
        cuts: Sequence[int] = (),
        interruptions: Sequence[Interruption] = (),
    ) -> None:
        self.episodes: list[RecordedEpisode] = []
        self.ages_ns: dict[str, list[int]] = {
            stream.topic: [] for stream in (*rules.observation, *rules.action)
        }
        assembler = EpisodeAssembler(rules, self.episodes.append, self._note)
        for each in interruptions:
            assembler.interrupt(each)
        bounds = sorted({0, *cuts, len(arrivals)})
        for start, end in pairwise(bounds):
            _push(assembler, arrivals[start:end])
            if end < len(arrivals):
                assembler.advance(arrivals[end].arrived_ns)
        assembler.advance(END_OF_TIME_NS)
        assembler.finish()
        self.skipped: list[SkippedSpan] = assembler.skipped
        self.dropped_ticks = assembler.dropped_ticks
        self.split_nonfinite = assembler.split_nonfinite

    def _note(self, _kind: str, topic: str, ages_ns: Times) -> None:
        self.ages_ns[topic] += ages_ns.tolist()


def naive(rules: Contract, arrivals: Sequence[Arrival]) -> NaiveAssembler:
    """Give the same to the plain assembler."""
    return fill(NaiveAssembler(rules), arrivals)


def fill(assembler: Plain, arrivals: Sequence[Arrival]) -> Plain:
    """Give all to a plain assembler, and close the recording."""
    for each in arrivals:
        if each.kind == "observation":
            value = np.array([each.value])
            assembler.observe(each.name, each.arrived_ns, each.time_ns, value)
        elif each.kind == "action":
            assembler.command(each.name, each.arrived_ns, np.array([each.value]))
        elif each.kind == "signal":
            assembler.signal(each.name, each.arrived_ns, each.value)
        else:
            assembler.event(each.name, each.arrived_ns, matches=bool(each.value))
    assembler.finish()
    return assembler


def _push(assembler: EpisodeAssembler, arrivals: Sequence[Arrival]) -> None:
    ordered = sorted(arrivals, key=lambda each: (each.kind, each.name))
    for (kind, name), group in groupby(ordered, key=lambda each: (each.kind, each.name)):
        members = list(group)
        arrived = np.array([each.arrived_ns for each in members], np.int64)
        values = np.array([each.value for each in members], np.float64)
        if kind in {"observation", "action"}:
            times = np.array([each.time_ns for each in members], np.int64)
            assembler.push(kind, name, arrived, times, values[:, None])
        else:
            assembler.push(kind, name, arrived, values)
