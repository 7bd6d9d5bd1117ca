"""Transitions between the ticks of a recording: what each is made of, and whether it is whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_ros.bag.alignment import Alignment, Flags, Found
from dql_ros.bag.columns import Times
from dql_ros.bag.recorded import NO_TICK
from dql_ros.contract import Contract


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
        usable: Whether it is whole.
    """

    ticks_ns: Times
    observed: Found
    commanded: Found
    rewards: tuple[NDArray[np.float64], Flags] | None
    too_long: Flags
    terminated: Flags
    truncated: Flags
    usable: Flags

    def lack(self, index: int) -> str:
        """What transition ``index`` lacks, in words."""
        if self.too_long[index]:
            return NO_TICK
        for topic, absent in self.commanded.missing.items():
            if absent[index]:
                return f"no command on {topic}"
        missing = [topic for topic, absent in self.observed.missing.items() if absent[index]]
        if missing:
            return f"no {' and no '.join(missing)} for too long"
        for found in (self.observed, self.commanded):
            for topic, strange in found.not_finite.items():
                if strange[index]:
                    return f"no finite value on {topic}"
        return "no reward"


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
    return Transitions(
        ticks_ns, observed, commanded, rewards, too_long, terminated, truncated, usable
    )
