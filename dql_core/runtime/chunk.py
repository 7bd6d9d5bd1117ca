r"""Plays a policy's chunks of actions, a tick each, while the next chunk is decided.

Source: real-time chunking (Black, Galliker, Levine 2025, arXiv 2506.07339), algorithm 1. A chunk
is H actions, a period apart; the first is due at the tick of its observation. After `execute` of
them a new chunk is asked for. Until that comes in, an expected :math:`d` ticks later, the present
one is played on; these actions are committed, and the new chunk is sampled to go on from them.
Where the last decisions took half a period at most, :math:`d` is 0: the tick awaits its chunk.
Where nothing was played meanwhile, the robot got the safe command and is where the new chunk
begins: its first action is due when it comes in.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.inference import Caller, InferenceResult, Lack
from dql_core.runtime.policy import Committed, Decision, Policy

# As many delays and times of decisions are kept as in the paper's buffer, and for a rate.
_DELAYS, _TIMES = 10, 100


def soft_weights(horizon: int, left: int, delay: int) -> NDArray[np.float32]:
    r"""Return how firmly a new chunk is held to the present one, shape (H,): equation 5.

    With :math:`s` actions of the present chunk begun and :math:`d` ticks of delay it is 1 for
    :math:`i < d`, 0 from :math:`H - s` on, and between them

    .. math:: W_i = c_i \frac{e^{c_i} - 1}{e - 1}, \quad c_i = \frac{H - s - i}{H - s - d + 1}.

    Args:
        horizon: Actions of a chunk, H.
        left: Actions of the present one that are left, :math:`H - s`.
        delay: Ticks until the new one comes in, :math:`d`; no more than are left.
    """
    steps = np.arange(horizon)
    share = np.clip((left - steps) / (left - delay + 1), 0.0, 1.0)
    weights: NDArray[np.float32] = (share * np.expm1(share) / math.expm1(1.0)).astype(np.float32)
    return weights


def ticks_to_decide(horizon: int, execute: int, fresh: int | None = None) -> int:
    """Return how many ticks a decision may take, so that it is there before what is played ends.

    That is so also where decisions follow each other at once, and where no action is played whose
    observation is too old.

    Args:
        horizon: Actions of a chunk, H.
        execute: Of these, begun before the next chunk is asked for.
        fresh: At how many ticks an observation is fresh; ``None`` for at all of them.
    """
    return min(horizon - execute, (horizon if fresh is None else min(horizon, fresh)) // 2)


@dataclass(frozen=True)
class _Chunk:
    """A chunk in play.

    Attributes:
        decision: What was decided.
        actions: Shape (H, A).
        begins_ns: The tick of its first action.
        until_ns: Until when its observation is fresh.
        took_ns: How long the decision took.
    """

    decision: Decision
    actions: NDArray[np.float32]
    begins_ns: int
    until_ns: float
    took_ns: int


@dataclass
class _Question:
    """A decision that is under way.

    Attributes:
        asked_ns: The tick of its observation.
        until_ns: Until when that is fresh.
        called_ns: When the policy was called, on the steady clock.
        played: Actions of the chunk before that were played since.
        answer: What was decided and how long it took, once that is known.
    """

    asked_ns: int
    until_ns: float
    called_ns: int
    played: int = 0
    answer: tuple[Decision, int] | None = None


class ChunkPlayer:
    """A `Decider` that plays chunks.

    The tick is kept for half a period at most, and only where there is nothing to play or the last
    decisions were there by then. Without a limit, as in lockstep where time waits, each decision
    is awaited: it comes in at once.

    Args:
        policy: Samples chunks.
        caller: Makes the policy's calls.
        limit_ns: See `Decider`.
        period_ns: From one action to the next, on the clock of the ticks.
        execute: Actions that are begun before the next chunk is asked for.
        pace: Of the robot's clock, on that of the ticks; 1 but for a simulator's.
        send_after_ns: How long after its tick an action is sent, on the clock of the ticks.
        steady_ns: Clock that times the inference, in nanoseconds.

    Attributes:
        limit_ns: As given.
        ended_early: Chunks of which less than ``execute`` actions were played.
    """

    def __init__(
        self,
        policy: Policy,
        caller: Caller,
        limit_ns: int | None,
        period_ns: int,
        execute: int,
        pace: float = 1.0,
        send_after_ns: int = 0,
        steady_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.limit_ns = limit_ns
        self.ended_early = 0
        self._policy = policy
        self._caller = caller
        self._period_ns = period_ns
        self._execute = execute
        self._pace = pace
        self._send_after_ns = send_after_ns
        self._steady_ns = steady_ns
        self._patience_ns = math.inf if limit_ns is None else min(limit_ns, period_ns / 2)
        self._longest = None if limit_ns is None else math.ceil(limit_ns / period_ns)
        self._rng = np.random.default_rng()
        self._reset_due = False
        self._called_ns = 0
        self._chunk: _Chunk | None = None
        self._index = -1
        self._question: _Question | None = None
        self._lack = Lack.AWAITED
        self._delays: deque[int] = deque(maxlen=_DELAYS)
        self._times_ns: deque[int] = deque(maxlen=_TIMES)

    def seed(self, seed: int) -> None:
        """Begin the policy's noise anew: equal seeds and observations give equal decisions.

        In real time they do where the decisions take equal numbers of ticks.
        """
        self._rng = np.random.default_rng(seed)
        self._delays.clear()
        self._times_ns.clear()

    def reset(self) -> None:
        """Have the policy begin a new episode before its next decision; no older one is played."""
        self._reset_due = True
        self.drop()

    def drop(self) -> None:
        """Let the chunk go, and the decision that is under way."""
        self._end(Lack.AWAITED)
        self._question = None

    def decide(
        self, observation: NDArray[np.float32], now_ns: int, fresh_ns: float
    ) -> InferenceResult:
        """Return the action that is due, and what follows it in its chunk.

        Args:
            observation: Raw, shape (O,).
            now_ns: The tick, on any clock.
            fresh_ns: How long the observation stays fresh, on the robot's clock.

        Raises:
            Exception: Whatever the policy raises.
        """
        is_free = not self._caller.is_busy()
        is_new = self._take_in(now_ns, is_free=is_free)
        self._let_go(now_ns)
        waited_ns = 0
        if is_free and self._is_due(now_ns):
            self._ask(observation, now_ns, fresh_ns)
            if self._chunk is None or self._expected == 0:
                begun_ns = self._steady_ns()
                self._caller.wait(None if self.limit_ns is None else self._patience_ns / 1e9)
                waited_ns = self._steady_ns() - begun_ns
                is_new |= self._take_in(now_ns, is_free=False)
        chunk = self._chunk
        if chunk is None:
            took_ns = self._steady_ns() - self._called_ns
            is_late = self.limit_ns is not None and took_ns > self.limit_ns
            lack = Lack.LATE if is_late else self._lack
            return InferenceResult(None, took_ns, waited_ns, lack, is_new=False)
        self._index = self._index_at(chunk.begins_ns, now_ns)
        if self._question is not None:
            self._question.played += 1
        action, later = chunk.actions[self._index], chunk.actions[self._index + 1 :]
        left = replace(chunk.decision, action=action, later=later)
        return InferenceResult(
            left, chunk.took_ns, waited_ns, is_new=is_new, until_ns=chunk.until_ns
        )

    def figures(self) -> dict[str, str]:
        """Return what the diagnostics say of its chunks, by name."""
        index, times_ns = self._index, tuple(self._times_ns)
        span_ns = times_ns[-1] - times_ns[0] if times_ns else 0
        rate_hz = (len(times_ns) - 1) / span_ns * 1e9 if span_ns else 0.0
        return {
            "execute": f"{self._execute} of {self._policy.horizon}",
            "action of the chunk": f"{index + 1} of {self._policy.horizon}",
            "decisions (Hz)": f"{rate_hz:.3f}",
            "ticks to a decision": str(self._expected),
            "chunks ended early": str(self.ended_early),
        }

    @property
    def _expected(self) -> int:
        """In how many ticks a decision will come in: in as many as the slowest of the last."""
        return 0 if self.limit_ns is None else max(self._delays, default=1)

    def _index_at(self, begins_ns: int, now_ns: int) -> int:
        """Which action of a chunk is due; ticks are late by less than half a period."""
        return round((now_ns - begins_ns) / self._period_ns)

    def _is_due(self, now_ns: int) -> bool:
        """Whether to ask for a chunk: enough is played, or the rest would be too old by then."""
        chunk = self._chunk
        if chunk is None:
            return True
        if not np.isfinite(chunk.actions).all():
            return False  # the guards will withhold it, and nothing goes on from it
        if self._index_at(chunk.begins_ns, now_ns) >= self._execute:
            return True
        comes_in_ns = now_ns + self._expected * self._period_ns
        return comes_in_ns + self._send_after_ns > chunk.until_ns

    def _ask(self, observation: NDArray[np.float32], now_ns: int, fresh_ns: float) -> None:
        self._called_ns = self._steady_ns()
        question = _Question(now_ns, now_ns + fresh_ns / self._pace, self._called_ns)
        self._question = question
        begins, self._reset_due = self._reset_due, False
        act = partial(self._act, question, observation, self._rng, begins, self._committed(now_ns))
        self._caller.begin(act)

    def _committed(self, now_ns: int) -> Committed | None:
        """What the next chunk goes on from."""
        chunk = self._chunk
        if chunk is None:
            return None
        left = chunk.actions[self._index_at(chunk.begins_ns, now_ns) :]
        actions = np.zeros_like(chunk.actions)
        actions[: len(left)] = left
        delay = min(self._expected, len(left))
        return Committed(actions, soft_weights(len(actions), len(left), delay))

    def _act(
        self,
        question: _Question,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        begins: bool,
        committed: Committed | None,
    ) -> None:
        """On the caller's thread: decide."""
        if begins:
            self._policy.reset()
        decision = self._policy.act(observation, rng, committed)
        question.answer = decision, self._steady_ns() - question.called_ns

    def _take_in(self, now_ns: int, *, is_free: bool) -> bool:
        """Play the chunk that was asked for from here on, if it has come in time; say whether."""
        question = self._question
        if question is None or (question.answer is None and not is_free):
            return False
        self._question = None
        if question.answer is None:  # the call gave up by itself
            return False
        decision, took_ns = question.answer
        since = self._index_at(question.asked_ns, now_ns)
        # As many ticks as it needs, none if it can be awaited; where ticks were left out, those.
        needs = math.ceil(took_ns / self._period_ns) if took_ns > self._patience_ns else 0
        delay = max(needs, since if since > 1 else 0)
        # One that took longer than it may, or met a process that stood still, tells no more.
        self._delays.append(delay if self._longest is None else min(delay, self._longest))
        if self.limit_ns is not None and took_ns > self.limit_ns:
            return False
        begins_ns = question.asked_ns
        if self._chunk is None:
            if self._longest is not None and not 0 <= since <= self._longest:
                return False  # the process stood still, or the clock was set back
            begins_ns = now_ns - question.played * self._period_ns
        self._end(Lack.LATE)
        self._chunk = _Chunk(decision, decision.chunk, begins_ns, question.until_ns, took_ns)
        self._times_ns.append(now_ns)
        self._let_go(now_ns)
        return self._chunk is not None

    def _let_go(self, now_ns: int) -> None:
        """End a chunk of which nothing is left to play."""
        chunk = self._chunk
        if chunk is None:
            return
        if now_ns + self._send_after_ns > chunk.until_ns:
            self._end(Lack.OLD)
        elif not 0 <= self._index_at(chunk.begins_ns, now_ns) < len(chunk.actions):
            self._end(Lack.LATE)

    def _end(self, lack: Lack) -> None:
        if self._chunk is not None:
            self.ended_early += self._index + 1 < self._execute
        self._chunk, self._index, self._lack = None, -1, lack
