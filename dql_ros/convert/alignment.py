"""The decoded messages of one recording as columns: what was known at given ticks, causally.

`EpisodeWindow` says when an episode may run: by start and stop events, or by a state that lasts.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import BEGINNING_NS, PREVIOUS_ACTION, HeldColumn
from dql_ros.contract import (
    ActionStream,
    Contract,
    EpisodeRules,
    ObservationStream,
    RewardTopic,
    TransformStream,
)
from dql_ros.convert.columns import Backlog, TimedColumn, Times, are_numbers, different, total
from dql_ros.convert.outcomes import Labels
from dql_ros.convert.transforms import HeldTransforms

# How long a header-stamped command may take to arrive where the contract sets no limit.
UNLIMITED_NS = 1 << 62
Flags = NDArray[np.bool_]
OnArrivals = Callable[[str, str, Times, tuple[NDArray[Any], ...]], None]
# A name, a stream, what returns its values at positions, the positions held, and their ages.
_Held = tuple[
    str,
    ObservationStream | ActionStream,
    Callable[[NDArray[np.intp]], NDArray[np.float64]],
    NDArray[np.intp],
    Times,
]


@dataclass(frozen=True)
class AlignedRows:
    """What a vector is made of at M ticks.

    Attributes:
        values: Shape (M, width); undefined in the rows that are not ``known``.
        missing: For each stream, the ticks at which it has nothing, shape (M,). What is observed
            of its past, and of previous actions, is named for itself.
        not_finite: For each stream, the ticks at which it has a value that is no number.
        ages_ns: For each stream, the age of its newest value, shape (M,).
    """

    values: NDArray[np.float64]
    missing: dict[str, Flags]
    not_finite: dict[str, Flags]
    ages_ns: dict[str, Times]

    @property
    def known(self) -> Flags:
        """Ticks at which every stream has a value, shape (M,)."""
        return ~_any(self.missing.values(), len(self.values))

    @property
    def finite(self) -> Flags:
        """Ticks at which no stream has a value that is no number, shape (M,)."""
        return ~_any(self.not_finite.values(), len(self.values))


class Alignment:
    """Takes in the messages of the contract's topics and answers for ticks, causally.

    Attributes:
        window: Says when an episode may run.
        labels: What a person said of episodes.
        instants_ns: When something arrived, ascending and different; shape (n,).
        last_arrival_ns: The last of these; ``None`` before the first.
        longest_delay_ns: How long after its time, less its lookahead, a command arrived at most.

    Args:
        contract: Names the streams and what may be held for how long.
        on_arrivals: Takes what was pushed in the order of arrival: kind, name, times, columns.
    """

    def __init__(
        self,
        contract: Contract,
        on_arrivals: OnArrivals = lambda _kind, _name, _arrived, _columns: None,
    ) -> None:
        self._contract = contract
        self._on_arrivals = on_arrivals
        self._columns: dict[str, HeldColumn] = {}
        self._transforms: dict[str, HeldTransforms] = {}  # by the names of both topics
        for stream in contract.observation:
            if isinstance(stream, TransformStream):
                names = (each.key for each in stream.inputs)
                self._transforms |= dict.fromkeys(names, HeldTransforms(stream))
            else:
                self._columns[stream.key] = HeldColumn(stream.width)
        self._observed: dict[str, HeldColumn | HeldTransforms] = {
            s.key: self._transforms.get(s.key) or self._columns[s.key]
            for s in contract.observation
        }
        self._commanded = {s.key: TimedColumn(s.width) for s in contract.action}
        self._delays_ns = {s.key: s.lookahead_ns for s in contract.action}
        self._signals = {name: TimedColumn() for name in contract.signals}
        self._interventions = None if contract.takeover is None else TimedColumn()
        self._half_period_ns = contract.period_ns // 2
        self._ago_ns = {s.key: s.ago_ns(contract.period_ns) for s in contract.observation}
        periods = range(1, contract.previous_action + 1)
        self._previous_ns = [contract.period_ns * number for number in periods]
        self._backlogs: dict[tuple[str, str], Backlog] = {}
        self.window = EpisodeWindow(contract.episode)
        self.labels = Labels()
        self.instants_ns: Times = np.empty(0, np.int64)
        self.last_arrival_ns: int | None = None
        self.longest_delay_ns = self.unknown_ns
        self._commands_from_ns = BEGINNING_NS

    @property
    def unknown_ns(self) -> int:
        """How long before its end a recording has no command any more that follows a tick."""
        return max(self._delays_ns.values())

    @property
    def lag_ns(self) -> int:
        """How long after its time a command, or who sent it, may still arrive."""
        lags = [self._delays_ns[self._contract.action[0].key] + self._half_period_ns]
        lags = [] if self._interventions is None else lags
        for stream in self._contract.action:
            skew_s = stream.max_skew_s if stream.stamp == "header" else 0.0
            skew_ns = UNLIMITED_NS if skew_s is None else round(skew_s * 1e9)
            lags.append(skew_ns + stream.lookahead_ns)
        return max(lags)

    def push(self, kind: str, name: str, arrived_ns: Times, *columns: NDArray[Any]) -> None:
        """Take in messages that arrived at ascending times.

        Args:
            kind: ``observation``, ``action``, ``signal``, ``event``, ``info`` or ``outcome``.
            name: The stream's topic as in the contract, or the name of the signal, event or info,
                or of labels as `Labels.extend` has it.
            arrived_ns: Shape (n,).
            columns: For streams times (n,) and values (n, width), else values (n,).
        """
        self._backlogs.setdefault((kind, name), Backlog()).push(arrived_ns, *columns)

    def release(self, until_ns: int) -> None:
        """Make known all that arrived before ``until_ns``: nothing that did will be pushed."""
        arrivals = [self.instants_ns]
        for (kind, name), backlog in self._backlogs.items():
            released = backlog.release(until_ns)
            if released is not None:
                arrived_ns, *columns = released
                self._extend(kind, name, arrived_ns, *columns)
                self._on_arrivals(kind, name, arrived_ns, tuple(columns))
                if kind not in {"info", "outcome"}:  # which say nothing of what the robot did
                    arrivals.append(arrived_ns)
        if len(arrivals) > 1:
            self.instants_ns = different(*arrivals)
            self.last_arrival_ns = int(self.instants_ns[-1])

    def observation_at(self, ticks_ns: Times) -> AlignedRows:
        """What was known of the observation at each tick."""
        held: list[_Held] = []
        for stream in self._contract.observation:
            column = self._observed[stream.key]
            held.append((stream.key, stream, column.values, *column.at(ticks_ns)))
            for ago_ns in self._ago_ns[stream.key]:
                then = self._columns[stream.key].at(ticks_ns, ago_ns)
                held.append((_history(stream.key), stream, column.values, *then))
        for ago_ns in self._previous_ns:
            starts_ns = ticks_ns - ago_ns
            ends_ns = starts_ns + self._contract.period_ns
            held += self._commands_in(starts_ns, ends_ns, PREVIOUS_ACTION)
        rows = _aligned(held)
        for key in (key for key, ago_ns in self._ago_ns.items() if ago_ns):
            rows.missing[_history(key)] &= ~rows.missing[key]  # else nothing of it is there
        return rows

    def action_in(self, starts_ns: Times, ends_ns: Times) -> AlignedRows:
        """The command in force in each [start, end), by each stream's rule and its lookahead."""
        return _aligned(self._commands_in(starts_ns, ends_ns))

    def _commands_in(self, starts_ns: Times, ends_ns: Times, name: str = "") -> list[_Held]:
        held: list[_Held] = []
        for stream in self._contract.action:
            column = self._commanded[stream.key]
            positions, ages_ns = self._command_in(stream, starts_ns, ends_ns)
            values_at = column.values.__getitem__
            held.append((name or stream.key, stream, values_at, positions, ages_ns))
        return held

    def _command_in(
        self, stream: ActionStream, starts_ns: Times, ends_ns: Times
    ) -> tuple[NDArray[np.intp], Times]:
        column = self._commanded[stream.key]
        if stream.command == "held":
            return column.held_at(starts_ns)
        return column.first_in(starts_ns, ends_ns)

    def interventions_in(self, starts_ns: Times, ends_ns: Times) -> NDArray[np.int8] | None:
        """Whose the command in force in each [start, end) is; see `RecordedEpisode.interventions`.

        A node says it of each command within moments, before or after it: what it said last by
        half a control period after the first action stream's command holds. What is older than a
        command may be says nothing.
        """
        said, stream = self._interventions, self._contract.action[0]
        if said is None:
            return None
        positions, _ = self._command_in(stream, starts_ns, ends_ns)
        times_ns = np.append(self._commanded[stream.key].times_ns, 0)[positions]
        held, ages_ns = said.held_at(times_ns + self._half_period_ns)
        known = (positions >= 0) & (held >= 0) & (ages_ns <= stream.max_age_ns)
        raised = np.append(said.values, 0.0)[held] != 0
        return np.where(known, raised, -1).astype(np.int8)

    def rewards_in(
        self, starts_ns: Times, ends_ns: Times
    ) -> tuple[NDArray[np.float64], Flags] | None:
        """Reward of each interval, and where there is none; ``None`` without a reward topic."""
        rule = self._contract.reward
        if not isinstance(rule, RewardTopic):
            return None
        column = self._signals["reward"]
        ranges = column.within if rule.tick == "begun" else column.after
        first, end = ranges(starts_ns, ends_ns)
        if rule.combine == "last":
            padded = np.append(column.values, np.nan)
            return padded[end - 1], end == first
        return total(column.values, first, end), end == first

    def ends_in(self, name: str, starts_ns: Times, ends_ns: Times) -> Flags:
        """Whether the ``terminated`` or ``truncated`` signal was true in each (start, end]."""
        column = self._signals.get(name)
        if column is None:
            return np.zeros(len(starts_ns), bool)
        raised = np.concatenate([[0], np.cumsum(column.values != 0)])
        first, end = column.after(starts_ns, ends_ns)
        rose: Flags = raised[end] > raised[first]
        return rose

    def next_end(self, after_ns: int) -> int | None:
        """When one of the two next was true, after ``after_ns``, as far as is known."""
        columns = [self._signals[n] for n in ("terminated", "truncated") if n in self._signals]
        return min(
            (t for c in columns if (t := c.next_raised(after_ns)) is not None), default=None
        )

    @property
    def command_times_ns(self) -> Times:
        """Times of the first action stream's commands, ascending and different."""
        return self._commanded[self._contract.action[0].key].different_times_ns

    def forget_before(self, time_ns: int) -> None:
        """Drop what no question about a time at or after ``time_ns`` needs."""
        for key, observed in self._observed.items():
            observed.forget_before(time_ns - max(self._ago_ns[key], default=0))
        for commanded in self._commanded.values():
            commanded.forget_before(time_ns - max(self._previous_ns, default=0))
        for signal in self._signals.values():
            signal.forget_before(time_ns)
        if self._interventions is not None:
            # What is said of a command that is held is as old as that.
            self._interventions.forget_before(time_ns - self._contract.action[0].max_age_ns)
        self.window.forget_before(time_ns)
        count = np.searchsorted(self.instants_ns, time_ns, side="left")
        self.instants_ns = self.instants_ns[count:]

    def forget_episode(self, ended_ns: int) -> None:
        """Drop what an episode that ended leaves behind, so that the next begins with its own."""
        for stream in self._contract.observation:
            if not stream.latched:
                self._observed[stream.key].forget_until(ended_ns)
        for column in self._commanded.values():
            column.forget_until(ended_ns)

    def forget_all_before(
        self, resumed_ns: int, unheard: Collection[tuple[str, str]] = frozenset()
    ) -> None:
        """Drop, now and later, what arrived before an interruption was over.

        Values of latched streams, signals and events stay, but for those that are unheard.

        Args:
            resumed_ns: When it was over.
            unheard: Kind and name of that of which messages were lost: a latched value is not
                known any more, and no episode runs until an event says so.
        """
        for stream in self._contract.observation:
            if not stream.latched or ("observation", stream.key) in unheard:
                self._observed[stream.key].forget_arrivals_before(resumed_ns)
            if (
                isinstance(stream, TransformStream)
                and ("observation", stream.static.key) in unheard
            ):
                self._transforms[stream.key].forget_static_before(resumed_ns)
        if any(("event", name) in unheard for name in ("start", "stop", "during")):
            self.window.close(resumed_ns)
        for column in self._commanded.values():
            column.clear()
        if self._interventions is not None:
            self._interventions.clear()
        self._commands_from_ns = resumed_ns

    def _extend(self, kind: str, name: str, arrived_ns: Times, *columns: NDArray[Any]) -> None:
        if kind == "observation" and name in self._transforms:
            self._transforms[name].extend(arrived_ns, *columns)
        elif kind == "observation":
            self._columns[name].extend(arrived_ns, *columns)
        elif kind == "action":
            columns = (columns[0] - self._delays_ns[name], *columns[1:])
            self.longest_delay_ns = max(
                self.longest_delay_ns, int((arrived_ns - columns[0]).max())
            )
            first = int(np.searchsorted(arrived_ns, self._commands_from_ns))
            self._commanded[name].extend(*(column[first:] for column in columns))
        elif kind == "info" and self._interventions is not None:
            delay_ns = self._delays_ns[self._contract.action[0].key]
            self._interventions.extend(arrived_ns - delay_ns, *columns)
        elif kind == "outcome":
            self.labels.extend(name, arrived_ns, *columns)
        elif kind == "signal":
            self._signals.setdefault(name, TimedColumn()).extend(arrived_ns, *columns)
        else:
            for time_ns, matches in zip(arrived_ns.tolist(), columns[0].tolist(), strict=True):
                self.window.event(name, time_ns, bool(matches))


def _history(key: str) -> str:
    return f"history of {key}"


def _aligned(held: Sequence[_Held]) -> AlignedRows:
    """Put the streams' values side by side; rows that are not known are zeros, never used."""
    parts: list[NDArray[np.float64]] = []
    missing: dict[str, Flags] = {}
    not_finite: dict[str, Flags] = {}
    ages: dict[str, Times] = {}
    for name, stream, values_at, positions, ages_ns in held:
        # A pose is made of several transforms, each with its position.
        absent: Flags = positions < 0
        if absent.ndim == 2:
            absent = np.asarray(absent.any(axis=1))
        if stream.max_age_ns is not None:
            absent |= ages_ns > stream.max_age_ns
        values = np.zeros((len(positions), stream.width))
        values[~absent] = values_at(positions[~absent])
        strange = ~absent & ~are_numbers(values).all(axis=1)
        missing[name] = missing.get(name, False) | absent
        not_finite[name] = not_finite.get(name, False) | strange
        if name == stream.key:
            ages[name] = ages_ns
        parts.append(values)
    return AlignedRows(np.concatenate(parts, axis=1), missing, not_finite, ages)


def _any(flags: Iterable[Flags], length: int) -> Flags:
    found = np.zeros(length, bool)
    for each in flags:
        found |= each
    return found


class EpisodeWindow:
    """Open from a start to the next stop, or during a state; always, where there is no rule.

    A start while it is open closes it and opens it again, and so does a stop where the contract
    has no start: either separates two episodes.

    Args:
        rules: The contract's rules.
    """

    def __init__(self, rules: EpisodeRules) -> None:
        self.has_opening = rules.start is not None or rules.during is not None
        self._events: list[tuple[int, bool]] = []  # ascending; at the same time stop, then start
        self._state = False
        self._closed_until_ns = BEGINNING_NS

    def event(self, name: str, time_ns: int, matches: bool) -> None:
        """Take note of a message of the ``start``, ``stop`` or ``during`` topic.

        Args:
            name: Which of the three.
            time_ns: When it arrived; not before an earlier one of the same topic.
            matches: Whether it says what the contract's event waits for.
        """
        if time_ns < self._closed_until_ns:
            return
        if name == "during":
            if matches != self._state:
                insort(self._events, (time_ns, matches))
            self._state = matches
        elif matches:
            insort(self._events, (time_ns, name == "start" or not self.has_opening))

    def close(self, time_ns: int) -> None:
        """Run no episode from a time on until an event says so, where the contract has one."""
        if self.has_opening:
            insort(self._events, (time_ns, False))
            self._state = False
        self._closed_until_ns = time_ns

    def is_open(self, times_ns: Times) -> NDArray[np.bool_]:
        """Whether an episode may run at each time, shape (n,)."""
        opens = np.array([not self.has_opening, *(opens for _, opens in self._events)])
        events_ns = np.array([time_ns for time_ns, _ in self._events], np.int64)
        return opens[np.searchsorted(events_ns, times_ns, side="right")]

    def next_opening(self, after_ns: int) -> int | None:
        """Time of the first opening after ``after_ns``."""
        return next((time for time, opens in self._events if opens and time > after_ns), None)

    def next_event(self, after_ns: int) -> int | None:
        """When an episode that runs at ``after_ns`` must stop, as far as is known."""
        return next((time for time, _ in self._events if time > after_ns), None)

    def forget_before(self, time_ns: int) -> None:
        """Drop the events that are over at ``time_ns``, but for the last."""
        while len(self._events) > 1 and self._events[1][0] < time_ns:
            del self._events[0]
