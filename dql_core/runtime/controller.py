"""Decides at each tick what the robot is sent; knows neither ROS nor the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.runtime.guard import Guard, Guards, Trip
from dql_core.runtime.policy import Decision, Policy
from dql_core.streams import Observation


class State(str, Enum):
    """How the controller stands.

    WAITING until the first complete observation; RUNNING while the policy's actions are sent;
    STALE when a stream that once came is too old; FAULT when observation or action is unfit.
    STALE and FAULT end by themselves with the next sound action.
    """

    WAITING = "waiting"
    RUNNING = "running"
    STALE = "stale"
    FAULT = "fault"


@dataclass(frozen=True)
class Command:
    """What one tick decided.

    Attributes:
        values: What the robot is to be sent, shape (A,); ``None`` while WAITING: send nothing.
        state: How the controller stands after the tick.
        fault: The guard that withheld the policy's action, if one did.
        warnings: Guards that objected without withholding the action.
        decision: What the policy proposed, if it was asked.
        inference_ns: How long that took on the steady clock, in nanoseconds.
    """

    values: NDArray[np.float32] | None
    state: State
    fault: Trip | None = None
    warnings: tuple[Trip, ...] = ()
    decision: Decision | None = None
    inference_ns: int | None = None


@dataclass(frozen=True)
class Fallback:
    """What is sent in place of a withheld action.

    Attributes:
        hold_ns: The last sound command is kept for so long from the first withheld one on.
        safe_command: What follows, length A.
    """

    hold_ns: int
    safe_command: Sequence[float]


class Controller:
    """From an observation to a command: guards, policy, guards, and a fallback.

    Attributes:
        state: How it stands.
        published: How many of the policy's actions were passed on since construction.
    """

    def __init__(
        self,
        policy: Policy,
        guards: Guards,
        fallback: Fallback,
        rng: np.random.Generator,
        steady_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """Prepare to control.

        Args:
            policy: Samples actions.
            guards: Judge observations and actions.
            fallback: What is sent when the guards withhold an action.
            rng: Source of the policy's noise.
            steady_ns: Clock that times the inference, in nanoseconds.

        Raises:
            ConfigError: If the safe command does not fit the action.
        """
        width = len(policy.spec.action)
        if len(fallback.safe_command) != width:
            raise ConfigError(
                f"the safe command has {len(fallback.safe_command)} entries for {width} action "
                f"fields: give one for each"
            )
        self.state = State.WAITING
        self.published = 0
        self._policy = policy
        self._guards = guards
        self._fallback = fallback
        self._safe_command = np.asarray(fallback.safe_command, dtype=np.float32)
        self._rng = rng
        self._steady_ns = steady_ns
        self._last_sound: NDArray[np.float32] | None = None
        self._withheld_since_ns: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How often each guard objected and how many actions were passed on, by name."""
        trips = {guard.value: count for guard, count in self._guards.counts.items()}
        return trips | {"published": self.published}

    @property
    def safe_command(self) -> NDArray[np.float32]:
        """What is sent last of all, shape (A,)."""
        return self._safe_command.copy()

    def reset(self) -> None:
        """Wait for a first complete observation again; counts stay."""
        self.state = State.WAITING
        self._last_sound = None
        self._withheld_since_ns = None
        self._guards.reset()
        self._policy.reset()

    def step(self, now_ns: int, observation: Observation) -> Command:
        """Decide what to send at one tick.

        Args:
            now_ns: Time of the tick, on the clock of the observation's stamps.
            observation: What is known at that time.
        """
        values = self._guards.admit(observation)
        if isinstance(values, Trip):
            return self._fall_back(now_ns, values)
        unusual = self._guards.find_unusual(values)
        started_ns = self._steady_ns()
        decision = self._policy.act(values, self._rng)
        inference_ns = self._steady_ns() - started_ns
        fault = self._guards.check_action(decision.action, inference_ns)
        if fault is not None:
            command = self._fall_back(now_ns, fault)
        else:
            command = self._pass_on(decision.action)
        warnings = (*_present(unusual), *command.warnings)
        return replace(command, warnings=warnings, decision=decision, inference_ns=inference_ns)

    def _pass_on(self, action: NDArray[np.float32]) -> Command:
        action, clamped = self._guards.clamp(action)
        self.state = State.RUNNING
        self.published += 1
        self._last_sound = action
        self._withheld_since_ns = None
        return Command(action.copy(), self.state, warnings=_present(clamped))

    def _fall_back(self, now_ns: int, fault: Trip) -> Command:
        self.state = self._state_after(fault)
        values = None if self.state is State.WAITING else self._substitute(now_ns)
        return Command(values, self.state, fault)

    def _state_after(self, fault: Trip) -> State:
        if fault.guard not in {Guard.STALE_STREAM, Guard.WARM_UP}:
            return State.FAULT
        return State.WAITING if self.state is State.WAITING else State.STALE

    def _substitute(self, now_ns: int) -> NDArray[np.float32]:
        if self._withheld_since_ns is None:
            self._withheld_since_ns = now_ns
        # A hold ends for good, also where the clock jumps back and passes its time again.
        if not 0 <= now_ns - self._withheld_since_ns < self._fallback.hold_ns:
            self._last_sound = None
        held = self._safe_command if self._last_sound is None else self._last_sound
        return held.copy()


def _present(trip: Trip | None) -> tuple[Trip, ...]:
    return () if trip is None else (trip,)
