"""Rows of results: one policy on one set, a JSON line each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.judge.d3rlpy_fqe import Fitted
from benchmarks.judge.estimates import Estimated
from benchmarks.judge.policies import Made
from benchmarks.judge.truth import Truth


@dataclass(frozen=True)
class Row:
    """What a policy really earns, and what was said of it.

    Attributes:
        set_name: Where it acts.
        policy: What it is.
        truth: What it earned in rollouts.
        estimated: What the judge says of it.
        d3rlpy: What d3rlpy says of it; ``None`` if that was left out.
        td_error: Of its critics on the held-out episodes, if it has any.
        discount: Of all values.
        behaviour: What the recorded behaviour earned, mean over all episodes of the set.
        judged_behaviour: What the judge takes it to be worth, from the held-out ones.
        together: How many policies were judged at once.
        seconds: What that took by the clock on the wall.
        cpu_seconds: What it took of computing.
        learned: Transitions that values were fitted to.
        held_out: Transitions that are held out.
        episodes: Episodes that are held out.
        updates: Of each fit.
        data_sha256: Of the held-out episodes.
        machine: Where and with what it was measured.
    """

    set_name: str
    policy: Made
    truth: Truth
    estimated: Estimated
    d3rlpy: Fitted | None
    td_error: float | None
    discount: float
    behaviour: float
    judged_behaviour: float
    together: int
    seconds: float
    cpu_seconds: float
    learned: int
    held_out: int
    episodes: int
    updates: int
    data_sha256: str
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What a row is known by."""
        return f"{self.set_name}_{self.policy.name}"

    @property
    def true_value(self) -> float:
        """Mean discounted return in the rollouts."""
        return sum(self.truth.discounted) / len(self.truth.discounted)

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is a checkpoint that one could choose, not one changed afterwards."""
        return not self.policy.selection
