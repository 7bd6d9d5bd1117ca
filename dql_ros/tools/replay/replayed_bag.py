"""All ticks of a replayed bag, and what they come down to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import counted
from dql_core.runtime.controller import State
from dql_core.runtime.difference import MeanDifference, difference, mean_difference
from dql_core.runtime.guard import Trip
from dql_ros.bag.reader import Bag
from dql_ros.contract import Contract
from dql_ros.control.loaded_policy import LoadedPolicy
from dql_ros.control.settings import LoopSettings
from dql_ros.tools.replay.decisions import Replay, ReplayedTick, refusals
from dql_ros.tools.replay.recorded import RecordedCommands


@dataclass(frozen=True)
class ReplayedBag:
    """A replayed bag with T ticks, T > 0.

    Attributes:
        name: The bag as it was given.
        start_ns: Log time of its first message.
        ticks: What was decided.
        commands: What was recorded.
        recorded: The recorded command of each tick, shape (T, A); NaN where there is none.
        remarks: What a reader must know of the bag, a sentence each.
    """

    name: str
    start_ns: int
    ticks: Sequence[ReplayedTick]
    commands: RecordedCommands
    recorded: NDArray[np.float64]
    remarks: tuple[str, ...]

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Time of each tick since the first message, shape (T,)."""
        times_ns = np.array([tick.time_ns for tick in self.ticks], np.int64)
        return (times_ns - self.start_ns) / 1e9

    @property
    def sent(self) -> NDArray[np.float32]:
        """What would have been sent at each tick, shape (T, A); NaN where nothing was."""
        sent = np.full(self.recorded.shape, np.nan, np.float32)
        for row, tick in zip(sent, self.ticks, strict=True):
            if tick.command.values is not None:
                row[:] = tick.command.values
        return sent

    @property
    def running(self) -> NDArray[np.bool_]:
        """At which ticks it was an action of the policy, shape (T,)."""
        return np.array([tick.command.state is State.RUNNING for tick in self.ticks])

    @property
    def states(self) -> dict[str, int]:
        """How many ticks each state had, for those that occurred."""
        counts = Counter(tick.command.state for tick in self.ticks)
        return {state.value: counts[state] for state in State if counts[state]}

    @property
    def guards(self) -> dict[str, int]:
        """At how many ticks each guard objected, for those that did."""
        counts = Counter(trip.guard.value for tick in self.ticks for trip in trips(tick))
        return dict(counts.most_common())

    @property
    def agreement(self) -> MeanDifference:
        """How far the policy's actions are from the recorded commands."""
        acted = np.where(self.running[:, None], self.sent, np.nan)
        return mean_difference(difference(acted, self.recorded))

    def to_json(self, fields: Sequence[str]) -> dict[str, Any]:
        """Return the figures in a JSON-ready form, for action fields of these names."""
        found = self.agreement
        means = found.by_field.tolist() if found.count else [None] * len(fields)
        return {
            "bag": self.name,
            "start_ns": self.start_ns,
            "spans": self.ticks[-1].span + 1,
            "ticks": len(self.ticks),
            "states": self.states,
            "guards": self.guards,
            "given_up": sum(tick.given_up for tick in self.ticks),
            "agreement": {
                "ticks": found.count,
                "mean_absolute_difference": dict(zip(fields, means, strict=True)),
            },
            "remarks": list(self.remarks),
        }


def trips(tick: ReplayedTick) -> tuple[Trip, ...]:
    """Return what the guards objected to at a tick, that which withheld the action first."""
    fault = tick.command.fault
    return (*(() if fault is None else (fault,)), *tick.command.warnings)


def replay_bag(
    bag: Bag,
    contract: Contract,
    loaded: LoadedPolicy,
    settings: LoopSettings,
    namespace: str = "/",
    progress: Callable[[int], None] = lambda _: None,
) -> ReplayedBag:
    """Replay a whole bag; see `Replay`.

    Raises:
        BagError: As `Replay` does, or if a recorded command lacks what the contract names.
    """
    commands = RecordedCommands(bag, contract, namespace)
    replay = Replay(
        bag, contract, loaded, settings, namespace, commands.topics, commands.visit, progress
    )
    ticks = list(replay)
    recorded = commands.at(np.array([tick.time_ns for tick in ticks], np.int64))
    remarks = [
        f"{topic}: {'; '.join(said)}"
        for topic in replay.observer.arrivals
        if (said := refusals(replay.observer, topic))
    ]
    if loaded.policy.horizon > 1:
        remarks.append(
            "chunks of actions are played as in lockstep; in real time a node plays each from a "
            "later one on, by as much as a decision takes"
        )
    remarks += _about_takeover(replay, ticks)
    remarks += [f"{topic}: no recorded command to compare with" for topic in commands.missing]
    remarks += [f"lost: {loss.file}: {loss.reason}" for loss in bag.losses]
    if any(tick.given_up for tick in ticks):
        remarks.append("a node would have given up and waited to be activated again")
    return ReplayedBag(
        str(bag.path), bag.start_ns, ticks, commands, recorded, (*remarks, *bag.notes)
    )


def _about_takeover(replay: Replay, ticks: Sequence[ReplayedTick]) -> list[str]:
    """What is to be known of a person who may take over, a sentence each."""
    if replay.person is None:
        return []
    missing = [
        f"{topic}: not in the bag: nobody spoke there" for topic in replay.persons_missing()
    ]
    count = sum(tick.command.state is State.TAKEOVER for tick in ticks)
    return [
        *missing,
        *replay.person.refusals(),
        f"takeover: a person commands at {counted(count, 'tick')}, and by the recording sent "
        f"{counted(replay.interventions, 'command')}",
    ]
