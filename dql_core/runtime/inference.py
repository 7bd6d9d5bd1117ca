"""Asks a policy for a decision, on a thread of its own or on the caller's, up to a time limit.

`dql_core.runtime.chunk` does it for policies that decide several actions at once.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dql_core.runtime.policy import Decision, Policy

T = TypeVar("T")
_END_TIMEOUT_S = 1.0
_ASK_PERIOD_S = 0.05


class Lack(Enum):
    """Why there is no action to play.

    LATE: the policy has not answered in time. AWAITED: the first chunk after something else was
    sent is decided, and that is not late. OLD: what is left of a chunk is of an observation that
    is too old.
    """

    LATE = "late"
    AWAITED = "awaited"
    OLD = "old"


class InferenceResult(NamedTuple):
    """What the policy answered, if it did.

    Attributes:
        decision: What the policy decided; ``None`` if it has not answered in time. Of a chunk
            what is left of it from this tick on.
        took_ns: How long it took, or how long it has taken so far, in nanoseconds.
        waited_ns: How long the tick was kept.
        lack: Why there is no decision, where there is none.
        is_new: Whether it was not there at the tick before.
        until_ns: Until when the action may be sent, on the clock of the ticks.
    """

    decision: Decision | None
    took_ns: int
    waited_ns: int = 0
    lack: Lack = Lack.LATE
    is_new: bool = True
    until_ns: float = math.inf


class Decider(Protocol):
    """Gives the policy's action at each tick.

    Attributes:
        limit_ns: How long an answer may take, in nanoseconds; ``None`` for ever.
    """

    limit_ns: int | None

    def seed(self, seed: int) -> None:
        """Begin the policy's noise anew."""

    def reset(self) -> None:
        """Have the policy begin a new episode before its next decision."""

    def drop(self) -> None:
        """Let go of what was decided for later ticks: the robot is sent something else."""

    def figures(self) -> dict[str, str]:
        """Return what the diagnostics say of its chunks, by name."""

    def decide(
        self, observation: NDArray[np.float32], now_ns: int, fresh_ns: float
    ) -> InferenceResult:
        """Return what to do at a tick.

        Args:
            observation: Raw, shape (O,).
            now_ns: The tick, on any clock.
            fresh_ns: How long the observation stays fresh, on the robot's clock.

        Raises:
            Exception: Whatever the policy raises.
        """


class Inference:
    """A policy, asked for one decision at a time where its calls are made.

    An answer that comes too late is dropped, and until it has come nothing else is asked.

    Args:
        policy: Samples actions.
        caller: Makes the policy's calls.
        limit_ns: See the attribute.
        steady_ns: Clock that times the inference, in nanoseconds.

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

    def drop(self) -> None:
        """Nothing was decided for later ticks."""

    def figures(self) -> dict[str, str]:
        """Nothing: it has no chunks."""
        return {}

    def decide(
        self, observation: NDArray[np.float32], now_ns: int = 0, fresh_ns: float = math.inf
    ) -> InferenceResult:
        """Ask for a decision on a raw observation, shape (O,), whatever the time.

        Raises:
            Exception: Whatever the policy raises.
        """
        started_ns = self._steady_ns()
        if self._caller.is_busy():
            took_ns = started_ns - self._asked_ns
            return InferenceResult(None, took_ns, took_ns)
        self._asked_ns = started_ns
        act = partial(self._act, observation, self._rng, self._reset_due)
        self._reset_due = False
        try:
            decision = self._caller.call(act, self._timeout_s)
        except TimeoutError:
            decision = None
        took_ns = self._steady_ns() - started_ns
        return InferenceResult(decision, took_ns, took_ns)

    def _act(
        self, observation: NDArray[np.float32], rng: np.random.Generator, begins: bool
    ) -> Decision:
        if begins:
            self._policy.reset()
        return self._policy.act(observation, rng)


class Caller(Protocol):
    """Makes calls for others, one at a time."""

    def is_busy(self) -> bool:
        """Whether a call that is not waited for has not returned; raise what it raised."""

    def begin(self, function: Callable[[], object]) -> None:
        """Have a call made that is not waited for, while none is.

        Raises:
            TimeoutError: If an earlier call still runs.
        """

    def wait(self, timeout_s: float | None) -> None:
        """Wait up to so long for the call that runs, if one does; raise what it raised."""

    def call(self, function: Callable[[], T], timeout_s: float | None = None) -> T:
        """Return what ``function`` returns, or raise what it raises.

        Raises:
            TimeoutError: If it does not return in time.
        """

    def stop(self) -> None:
        """Make no more calls."""


class SameThread:
    """A `Caller` that makes calls where they are asked for, however long they take."""

    def is_busy(self) -> bool:
        """Never: who asked has waited."""
        return False

    def begin(self, function: Callable[[], object]) -> None:
        """Call ``function``."""
        function()

    def wait(self, timeout_s: float | None) -> None:
        """Nothing runs."""

    def call(self, function: Callable[[], T], timeout_s: float | None = None) -> T:
        """Return what ``function`` returns."""
        return function()

    def stop(self) -> None:
        """Nothing is left to be done."""


class WorkerThread:
    """A `Caller` that makes calls on one thread, which alone touches what the functions touch.

    A call that is late is given up, not ended: until it returns, further ones are refused, and
    then its result is dropped. Nothing is ever queued. One thread at a time may ask. The worker
    does not keep the process from ending.

    Args:
        name: The thread's name.
        is_over: Whether waiting has become pointless, which then counts as too late; asked every
            0.05 s.
    """

    def __init__(self, name: str, is_over: Callable[[], bool] = lambda: False) -> None:
        self._is_over = is_over
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._outcomes: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._pending = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def is_busy(self) -> bool:
        """Whether a call that is not waited for has not returned; raise what it raised."""
        self.wait(0.0)
        return self._pending

    def begin(self, function: Callable[[], object]) -> None:
        """Have a call made that is not waited for.

        Raises:
            TimeoutError: If an earlier call still runs.
        """
        if self.is_busy():
            raise TimeoutError("an earlier call has not returned")
        self._tasks.put(partial(self._fulfil, function))
        self._pending = True

    def wait(self, timeout_s: float | None) -> None:
        """Wait up to so long for the call that runs, if one does; raise what it raised."""
        if self._pending:
            with contextlib.suppress(TimeoutError):
                self._take_outcome(timeout_s)

    def call(self, function: Callable[[], T], timeout_s: float | None = None) -> T:
        """Return what ``function`` returns, or raise what it raises.

        Raises:
            TimeoutError: If it does not return in time, or an earlier call still runs.
        """
        self.begin(function)
        result: T = self._take_outcome(timeout_s)
        return result

    def stop(self) -> None:
        """End the thread after its present call, which is waited for only briefly.

        One that computes for ever loses its real-time priority, so that it leaves others a core.
        """
        self._tasks.put(None)
        self._thread.join(_END_TIMEOUT_S)
        if self._thread.native_id is not None and self.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setscheduler(self._thread.native_id, os.SCHED_OTHER, os.sched_param(0))

    def is_alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def _take_outcome(self, timeout_s: float | None) -> Any:
        """Return or raise the result of the pending call; raise TimeoutError if it still runs."""
        left_s = math.inf if timeout_s is None else timeout_s
        while True:
            try:
                value, error = self._outcomes.get(timeout=min(left_s, _ASK_PERIOD_S))
                break
            except Empty:
                left_s -= _ASK_PERIOD_S
                if left_s <= 0 or self._is_over():
                    raise TimeoutError("the call has not returned") from None
        self._pending = False
        if error is not None:
            raise error
        return value

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _fulfil(self, function: Callable[[], Any]) -> None:
        try:
            self._outcomes.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the call was asked for
            self._outcomes.put((None, error))
