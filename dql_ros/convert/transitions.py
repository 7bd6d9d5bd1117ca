"""The ticks of a recording and the transitions between them: what each is made of, and lacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_ros.contract import Contract
from dql_ros.convert.alignment import AlignedRows, Alignment, Flags
from dql_ros.convert.columns import Times
from dql_ros.convert.recorded_episode import Cause, Reason

# How many ticks are looked at in one go, which bounds the memory; after the last was of no use,
# as few again.
MAX_TICKS = 4096
FEW_TICKS = 64
END_OF_TIME_NS = 1 << 62


class Ticks:
    """Finds the ticks of a recording as it is read.

    Args:
        contract: Says what they are, and whether those with values that are no numbers are left
            out.
        alignment: What is known of the recording.
    """

    def __init__(self, contract: Contract, alignment: Alignment) -> None:
        self._contract = contract
        self._alignment = alignment
        self.are_on_grid = contract.tick == "grid"
        self.are_dropped = contract.nonfinite == "drop"

    @property
    def longest_ns(self) -> int:
        """How far apart two consecutive ticks may be."""
        if not self.are_on_grid:
            return self._contract.action[0].max_age_ns
        period_ns = self._contract.period_ns
        if not self.are_dropped:
            return END_OF_TIME_NS
        ages = [s.max_age_ns for s in self._contract.observation if s.max_age_ns is not None]
        return max(min(*ages, MAX_TICKS // 2 * period_ns), 2 * period_ns)

    def decided_before(self, horizon_ns: int, *, is_finished: bool) -> int:
        """Up to where it is known what is a tick, when all before ``horizon_ns`` is known."""
        # A tick may be dropped for its own action, which is known one period later.
        is_late = self.are_dropped and not is_finished
        return horizon_ns - (self._contract.period_ns if is_late else 0)

    def candidates(self, from_ns: int, horizon_ns: int, count: int, *, is_instant: bool) -> Times:
        """The first instants before ``horizon_ns`` at which an episode may begin.

        Args:
            from_ns: The earliest.
            horizon_ns: What is known ends before it.
            count: How many, or a few more.
            is_instant: Whether ``from_ns`` is one, as the instant at which an episode ended;
                otherwise only those are at which something arrived.
        """
        instants = self._alignment.instants_ns
        if not self.are_on_grid:
            instants = self._alignment.command_times_ns
        first, end = np.searchsorted(instants, [from_ns, horizon_ns])
        instants = instants[first : min(max(first, end), first + count)]
        is_new = not len(instants) or instants[0] != from_ns
        if self.are_on_grid and is_instant and is_new and from_ns < horizon_ns:
            instants = np.concatenate([[from_ns], instants])
        return instants

    def after(self, last_ns: int, limit_ns: int, count: int) -> Times:
        """The first ticks that follow the one at ``last_ns``, up to ``limit_ns``.

        Args:
            last_ns: The tick.
            limit_ns: The latest.
            count: How many; where some are dropped, more are looked at.
        """
        if self.are_dropped:
            count = MAX_TICKS
        if self.are_on_grid:
            period_ns = self._contract.period_ns
            number = min(max((limit_ns - last_ns) // period_ns, 0), count)
            ticks = last_ns + period_ns * np.arange(1, number + 1)
        else:
            ticks = self._action_ticks(last_ns, limit_ns, count)
        return ticks[self._is_finite(ticks)] if self.are_dropped else ticks

    def _action_ticks(self, last_ns: int, limit_ns: int, count: int) -> Times:
        """Times of commands, up to the end of the episode if that comes."""
        times = self._alignment.command_times_ns
        first, end = np.searchsorted(times, [last_ns, limit_ns], side="right")
        ticks = times[first : min(max(first, end), first + count)]
        end_ns = self._alignment.next_end(last_ns)
        if end_ns is None or end_ns > limit_ns or (len(ticks) == count and ticks[-1] < end_ns):
            return ticks
        return np.append(ticks[ticks < end_ns], end_ns)

    def _is_finite(self, ticks: Times) -> Flags:
        """Ticks that have no value that is not a number, in observation or action."""
        action = self._alignment.action_in(ticks, ticks + self._contract.period_ns)
        finite: Flags = self._alignment.observation_at(ticks).finite & action.finite
        return finite


@dataclass(frozen=True)
class Transitions:
    """Transitions between M + 1 ticks, usable or not; every column has M rows.

    Attributes:
        ticks_ns: When each ends.
        observed: What is known then.
        commanded: The command in force in each.
        rewards: Reward and whether it is absent; ``None`` without a reward topic.
        too_long: Whether its ticks are too far apart.
        terminated: Whether the task ended in it.
        truncated: Whether the recording of the episode ended in it.
        labelled: Whether a person labelled the episode in it.
        interventions: As `Alignment.interventions_in` says.
        usable: Whether it is whole.
    """

    ticks_ns: Times
    observed: AlignedRows
    commanded: AlignedRows
    rewards: tuple[NDArray[np.float64], Flags] | None
    too_long: Flags
    terminated: Flags
    truncated: Flags
    labelled: Flags
    interventions: NDArray[np.int8] | None
    usable: Flags

    def lack(self, index: int) -> Reason:
        """What transition ``index`` lacks."""
        if self.too_long[index]:
            return Reason(Cause.NO_TICK)
        for topic, absent in self.commanded.missing.items():
            if absent[index]:
                return Reason(Cause.NO_COMMAND, (topic,))
        missing = [topic for topic, absent in self.observed.missing.items() if absent[index]]
        if missing:
            return Reason(Cause.OUTDATED, tuple(missing))
        for found in (self.observed, self.commanded):
            for topic, strange in found.not_finite.items():
                if strange[index]:
                    return Reason(Cause.NOT_FINITE, (topic,))
        return Reason(Cause.NO_REWARD)

    def idle(self) -> Flags:
        """Transitions that lack a command or a reward, and end where the next may start."""
        begins = self.observed.known & self.observed.finite
        idle: Flags = begins & ~(self.usable | self.too_long | self.terminated | self.truncated)
        return idle

    def lacks(self, count: int) -> list[Reason]:
        """What the first ``count`` transitions lack, which are `idle`; each reason once."""
        absent, strange = self.commanded.missing, self.commanded.not_finite
        candidates = [(Reason(Cause.NO_COMMAND, (topic,)), absent[topic]) for topic in absent]
        candidates += [(Reason(Cause.NOT_FINITE, (topic,)), strange[topic]) for topic in strange]
        candidates.append((Reason(Cause.NO_REWARD), np.ones(len(self.usable), bool)))
        found = []
        left = np.ones(count, bool)
        for reason, flags in candidates:
            rows = np.flatnonzero(left & flags[:count])
            left[rows] = False
            found += [(int(row), reason) for row in rows[:1]]
        return [reason for _, reason in sorted(found, key=lambda each: each[0])]


def transitions(
    alignment: Alignment, contract: Contract, last_ns: int, ticks_ns: Times, longest_ns: int
) -> Transitions:
    """Look at the transitions that lead from one tick to the next.

    Args:
        alignment: Answers for the ticks.
        contract: Says what a transition is made of.
        last_ns: The tick from which the first transition starts.
        ticks_ns: The ticks in which they end, shape (M,), M > 0; ascending.
        longest_ns: How far apart two of them may be.
    """
    starts = np.concatenate([[last_ns], ticks_ns[:-1]])
    ends = ticks_ns
    if contract.tick == "grid":
        ends = np.minimum(starts + contract.period_ns, ticks_ns)
    observed = alignment.observation_at(ticks_ns)
    commanded = alignment.action_in(starts, ends)
    rewards = alignment.rewards_in(starts, ticks_ns)
    too_long = ticks_ns - starts > longest_ns
    usable = observed.known & observed.finite & commanded.known & commanded.finite & ~too_long
    if rewards is not None:
        usable &= ~rewards[1]
    terminated = alignment.ends_in("terminated", starts, ticks_ns)
    truncated = alignment.ends_in("truncated", starts, ticks_ns)
    labelled = alignment.labels.are_in(starts, ticks_ns)
    interventions = alignment.interventions_in(starts, ends)
    return Transitions(
        ticks_ns,
        observed,
        commanded,
        rewards,
        too_long,
        terminated,
        truncated,
        labelled,
        interventions,
        usable,
    )
