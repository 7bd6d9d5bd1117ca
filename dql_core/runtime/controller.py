"""Decides at each tick what the robot is sent; knows neither ROS nor the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.runtime.fallback import Fallback, Interlock
from dql_core.runtime.guard import Guard, Guards, Trip
from dql_core.runtime.inference import Decider
from dql_core.runtime.policy import Decision
from dql_core.runtime.takeover import Commander, HandBack, Person
from dql_core.spec import PolicySpec
from dql_core.streams import Observation

# They say that there is nothing to play, and not that what is decided must not be.
_WITHOUT_CHUNK = {Guard.AWAITED_CHUNK, Guard.OLD_CHUNK, Guard.SLOW_INFERENCE}


class State(str, Enum):
    """What the controller is doing.

    WAITING until the first complete observation, with the safe command where it only lacks its
    past, and where a first chunk of actions takes longer than a tick; RUNNING while the policy's
    actions are sent; TAKEOVER while a person's commands are; STALE when a stream that once came is
    too old, or a person who has the switch says nothing; FAULT when observation, inference or
    action is unfit. STALE and FAULT end by themselves with the next sound action. STOPPED and
    PAUSED were asked for, and end when that is asked for.
    """

    WAITING = "waiting"
    RUNNING = "running"
    TAKEOVER = "takeover"
    STALE = "stale"
    FAULT = "fault"
    STOPPED = "stopped"
    PAUSED = "paused"


@dataclass(frozen=True)
class Command:
    """What one tick decided.

    Attributes:
        values: What the robot is to be sent, shape (A,); ``None``: send nothing, since nothing
            was sent before, and it is not known how the robot is now.
        state: Of the controller after the tick.
        fault: The guard that withheld the action, if one did.
        warnings: Guards that objected without withholding the action, or the person's command.
        decision: What the policy proposed, if it was asked and answered in time; of a chunk at
            the first tick that plays it.
        inference_ns: How long that took on the steady clock, in nanoseconds.
        until_ns: Until when the values may be sent, on the clock of the ticks.
        ahead: Where it is wanted, what follows them a period apart if nothing comes between: of a
            chunk what may still be played, bounded in turn; shape (n, A), n > 0.
    """

    values: NDArray[np.float32] | None
    state: State
    fault: Trip | None = None
    warnings: tuple[Trip, ...] = ()
    decision: Decision | None = None
    inference_ns: int | None = None
    until_ns: float = math.inf
    ahead: NDArray[np.float32] | None = None


class Controller:
    """From an observation to a command: interlock, guards, policy, guards, and a fallback.

    Args:
        inference: Gives the policy's actions.
        guards: Judge observations and actions.
        fallback: What is sent when the guards withhold an action.
        interlock: Whether people asked for a stop or a pause.
        smoothing: Share of what was sent last in what is sent in place of an action, from 0 to
            less than 1: a low-pass filter of first order, whose time constant is
            ``-period / ln(smoothing)``.
        hand_back: The way from a person's commands to the policy's actions.
        ahead_ns: From one action of a chunk to the next, on the clock of the ticks, where it is
            wanted what will follow a command; 0 where it is not.
        send_after_ns: How long after its tick an action is sent, on that clock.

    Attributes:
        state: What it is doing.
        published: How many of the policy's actions were passed on since construction.
        obeyed: How many commands of a person were.

    Raises:
        ConfigError: If the smoothing is not such a number, or the safe command does not fit the
            action or is beyond its bounds.
    """

    def __init__(
        self,
        inference: Decider,
        guards: Guards,
        fallback: Fallback,
        interlock: Interlock,
        smoothing: float = 0.0,
        hand_back: HandBack | None = None,
        ahead_ns: int = 0,
        send_after_ns: int = 0,
    ) -> None:
        width, given = len(guards.spec.action), len(fallback.safe_command)
        if given != width:
            raise ConfigError(
                f"the safe command has {given} entries for {width} action fields: give one for "
                f"each"
            )
        _require_within(fallback.safe_command, guards.spec)
        if not 0.0 <= smoothing < 1.0:
            raise ConfigError(f"smoothing is {smoothing}: it must be from 0 to less than 1")
        self.state = State.WAITING
        self.published = 0
        self.obeyed = 0
        self._hand_back = hand_back or HandBack(0)
        self._smoothing = smoothing
        self._ahead_ns = ahead_ns
        self._send_after_ns = send_after_ns
        self._inference = inference
        self._guards = guards
        self._fallback = fallback
        self._interlock = interlock
        self._stops = interlock.stops
        self._has_sent = False
        self._awaits_chunk = False
        self._last_sent = fallback.safe_command

    @property
    def counts(self) -> dict[str, int]:
        """How often each guard objected and how many actions were passed on, by name."""
        trips = {guard.value: count for guard, count in self._guards.counts.items()}
        return trips | {"published": self.published}

    @property
    def last_reasons(self) -> dict[str, str]:
        """What each guard saw when it last objected, by its name, for those that did."""
        return {guard.value: reason for guard, reason in self._guards.last_reasons.copy().items()}

    @property
    def safe_command(self) -> NDArray[np.float32]:
        """What is sent last of all, shape (A,)."""
        return self._fallback.safe_command.copy()

    @property
    def given_up(self) -> bool:
        """Whether no action could be sent for too long."""
        return self._fallback.given_up and self.state is not State.PAUSED

    def reset(self) -> None:
        """Begin to control: send nothing before every stream has come; counts stay."""
        self.restart()
        self._fallback.end()
        self._hand_back.cancel()
        self._has_sent = False
        self._last_sent = self._fallback.safe_command

    def restart(self) -> None:
        """Wait for a first complete observation again, in mid-motion."""
        self.state = State.WAITING
        self._awaits_chunk = False
        self._guards.reset()
        self._inference.reset()

    def continue_from(self, sent: NDArray[np.float32]) -> None:
        """Note what the robot was sent last, shape (A,), also by others than `step`."""
        self._last_sent = sent

    def begin_episode(self) -> None:
        """Have the policy begin a new episode."""
        self._inference.reset()

    def step(self, now_ns: int, observation: Observation, person: Person | None = None) -> Command:
        """Decide what to send at one tick.

        Args:
            now_ns: Time of the tick, by which the fallback goes; on any clock.
            observation: What is known at the tick.
            person: What a person wants who may take over; ``None`` where nobody may.

        Raises:
            Exception: Whatever the policy raises.
        """
        if self._interlock.stopped:
            return self._stand_still()
        if self._interlock.paused:
            return self._substitute(now_ns, State.PAUSED)
        stops, self._stops = self._stops, self._interlock.stops
        if self.state in {State.STOPPED, State.PAUSED} or self._stops != stops:
            self.restart()
            self._fallback.end()
        if person is not None and person.commander is not Commander.POLICY:
            return self._yield(now_ns, observation, person)
        values = self._guards.check_observation(observation)
        if isinstance(values, Trip):
            # What the robot is sent becomes its past, and in lockstep lets time go on.
            lacks_past = observation.values is None and observation.is_fresh
            return self._fall_back(now_ns, values, begins=lacks_past)
        unusual = self._guards.find_unusual(values)
        if unusual is not None and self._guards.forbids(unusual):
            return self._fall_back(now_ns, unusual)
        unseen = self._guards.find_unseen(values)
        result = self._inference.decide(values, now_ns, observation.fresh_ns)
        action = self._guards.check_decision(result)
        if isinstance(action, Trip):
            # By now so much later: the process may have been suspended meanwhile.
            command = self._fall_back(now_ns + result.waited_ns, action)
        else:
            command = self._pass_on(now_ns, action)
            if self._ahead_ns and result.decision is not None:
                left_ns = result.until_ns - (now_ns + self._send_after_ns)
                ahead = self._ahead(result.decision.chunk[1:], left_ns)
                command = replace(command, ahead=ahead)
        return replace(
            command,
            warnings=(*_present(unusual), *_present(unseen), *command.warnings),
            decision=result.decision if result.is_new else None,
            inference_ns=result.took_ns if result.is_new else None,
            until_ns=result.until_ns,
        )

    def _yield(self, now_ns: int, observation: Observation, person: Person) -> Command:
        """Leave the robot to a person; the guards of the observation watch and withhold nothing.

        The policy is not asked, and begins with fresh noise when it is again.
        """
        self._hand_back.prepare()
        self._inference.reset()
        watched = self._watch(observation)
        if person.command is None:
            silent = self._guards.silent_person(person.silence)
            command = self._fall_back(now_ns, silent)
        else:
            command = self._obey(now_ns, person.command)
        return replace(command, warnings=(*watched, *command.warnings))

    def _watch(self, observation: Observation) -> tuple[Trip, ...]:
        values = self._guards.check_observation(observation)
        if isinstance(values, Trip):
            return (values,)
        unusual, unseen = self._guards.find_unusual(values), self._guards.find_unseen(values)
        return (*_present(unusual), *_present(unseen))

    def _obey(self, now_ns: int, wanted: NDArray[np.float64]) -> Command:
        with np.errstate(over="ignore"):  # what is too large for float32 is beyond the bounds
            values = wanted.astype(np.float32)
        values, clamped = self._guards.clamp(values)
        values, slowed = self._guards.limit_rate(values, self._last_sent)
        self.state = State.TAKEOVER
        self.obeyed += 1
        self._fallback.end(now_ns)
        warnings = (*_present(clamped), *_present(slowed))
        return Command(self._sent(values), self.state, warnings=warnings)

    def _pass_on(self, now_ns: int, action: NDArray[np.float32]) -> Command:
        action = self._smoothed(action, self._last_sent)
        action = self._hand_back.toward(now_ns, action, self._last_sent)
        action, clamped = self._guards.clamp(action)
        action, slowed = self._guards.limit_rate(action, self._last_sent)
        self.state = State.RUNNING
        self.published += 1
        self._fallback.end(now_ns)
        warnings = (*_present(clamped), *_present(slowed))
        return Command(self._sent(action), self.state, warnings=warnings)

    def _smoothed(
        self, action: NDArray[np.float32], last: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        if not self._smoothing:
            return action
        # Before the bounds, which what was sent last may lie beyond.
        return action + np.float32(self._smoothing) * (last - action)

    def _ahead(self, later: NDArray[np.float32], left_ns: float) -> NDArray[np.float32] | None:
        """Return what will be sent of the actions that follow, within the time that is left.

        Args:
            later: Those actions, shape (n, A).
            left_ns: How long after the present one an action may be sent.
        """
        count = int(min(len(later), left_ns / self._ahead_ns))
        if count <= 0 or self._hand_back.is_due:
            return None
        last, ahead = self._last_sent, []
        for action in later[:count]:
            last = self._guards.bounded(self._smoothed(action, last), last)
            ahead.append(last)
        return np.stack(ahead)

    def _fall_back(self, now_ns: int, fault: Trip, *, begins: bool = False) -> Command:
        if fault.guard not in _WITHOUT_CHUNK:
            self._inference.drop()
        state = self._state_after(fault)
        self._awaits_chunk = fault.guard is Guard.AWAITED_CHUNK
        if state is State.WAITING and not (self._has_sent or begins):
            return Command(None, state, fault)
        return self._substitute(now_ns, state, fault)

    def _state_after(self, fault: Trip) -> State:
        if fault.guard is Guard.AWAITED_CHUNK:
            return State.WAITING
        if fault.guard not in {Guard.SILENT_PERSON, Guard.STALE_STREAM, Guard.WARM_UP}:
            return State.FAULT
        # Who waits for a chunk in mid-motion has observed.
        has_observed = self._awaits_chunk and self._has_sent
        is_first = self.state is State.WAITING and not has_observed
        return State.WAITING if is_first else State.STALE

    def _substitute(self, now_ns: int, state: State, fault: Trip | None = None) -> Command:
        self.state = state
        if state is State.PAUSED:
            self._hand_back.cancel()
        else:
            self._hand_back.interrupt()
        wanted = self._fallback.command(now_ns, self._last_sent, skip_hold=state is State.PAUSED)
        return Command(self._sent(self._guards.within_rate(wanted, self._last_sent)), state, fault)

    def _stand_still(self) -> Command:
        """The safe command at once, from which all goes on after the stop."""
        self.state = State.STOPPED
        self._fallback.end()
        self._hand_back.cancel()
        return Command(self._sent(self._fallback.safe_command), self.state)

    def _sent(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        self._has_sent = True
        self._last_sent = values
        return values.copy()


def _require_within(safe_command: NDArray[np.float32], spec: PolicySpec) -> None:
    beyond = (safe_command < spec.action_low) | (safe_command > spec.action_high)
    if beyond.any():
        index = int(beyond.argmax())
        field = spec.action[index]
        raise ConfigError(
            f"the safe command is {safe_command[index]:g} for '{field.name}', beyond its bounds "
            f"[{field.low:g}, {field.high:g}]: give one within them by on_fault.command"
        )


def _present(trip: Trip | None) -> tuple[Trip, ...]:
    return () if trip is None else (trip,)
