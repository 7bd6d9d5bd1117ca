"""Asks a policy for a decision and does not wait for it beyond a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.own_thread import Caller
from dql_core.runtime.policy import Decision, Policy


@dataclass(frozen=True)
class Inferred:
    """What came of asking.

    Attributes:
        decision: What the policy decided; ``None`` if it has not answered in time.
        took_ns: How long it took, or how long it has taken so far, in nanoseconds.
    """

    decision: Decision | None
    took_ns: int


class Inference:
    """A policy, asked for one decision at a time where its calls are made.

    An answer that comes too late is dropped, and until it has come nothing else is asked.

    Attributes:
        limit_ns: How long an answer is waited for, in nanoseconds; ``None`` for ever, as in
            lockstep, where time waits for the policy.
    """

    def __init__(
        self,
        policy: Policy,
        caller: Caller,
        limit_ns: int | None,
        steady_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Prepare to ask.

        Args:
            policy: Samples actions.
            caller: Makes the policy's calls.
            limit_ns: See the attribute.
            steady_ns: Clock that times the inference, in nanoseconds.
        """
        self.limit_ns = limit_ns
        self._policy = policy
        self._caller = caller
        self._timeout_s = None if limit_ns is None else limit_ns / 1e9
        self._steady_ns = steady_ns
        self._rng = np.random.default_rng()
        self._reset_due = False
        self._asked_ns = 0

    def seed(self, seed: int) -> None:
        """Begin the policy's noise anew: equal seeds and observations give equal decisions."""
        self._rng = np.random.default_rng(seed)

    def reset(self) -> None:
        """Have the policy begin a new episode before its next decision."""
        self._reset_due = True

    def decide(self, observation: NDArray[np.float32]) -> Inferred:
        """Ask for a decision on a raw observation, shape (O,).

        Raises:
            Exception: Whatever the policy raises.
        """
        started_ns = self._steady_ns()
        if self._caller.is_busy():
            return Inferred(None, started_ns - self._asked_ns)
        self._asked_ns = started_ns
        act = partial(self._act, observation, self._rng, self._reset_due)
        self._reset_due = False
        try:
            decision = self._caller.call(act, self._timeout_s)
        except TimeoutError:
            decision = None
        return Inferred(decision, self._steady_ns() - started_ns)

    def _act(
        self, observation: NDArray[np.float32], rng: np.random.Generator, begins: bool
    ) -> Decision:
        if begins:
            self._policy.reset()
        return self._policy.act(observation, rng)
