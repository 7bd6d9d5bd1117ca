"""The rules of dql_ros/convert/episodes.py as one reads them, message by message.

Slow and plain, to compare the converter with.

The rules, for a tick grid with period dt that starts at the first instant at which every
observation stream is available:

* The observation of tick t holds, per stream, the newest value that had arrived by t, whose stamp
  is not after t, and which is not older than the stream allows.
* The action of tick t is the first command that arrived in [t, t + dt); where there is none, the
  newest one before t, if it is not older than the action stream allows.
* The reward of tick t is the sum of the reward messages that arrived in (t, t + dt].
* A terminated or truncated signal in (t, t + dt] makes the transition from t the episode's last.
* Where something is missing, the episode ends (truncated) with the last whole transition and the
  next one begins as soon as everything is available again. Nothing is filled in.
* What is still open when the recording stops is truncated.

What was known earlier, and what was commanded, is what the node's own buffers say.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dql_core.streams import (
    CLOCK_JUMP_NS,
    PREVIOUS_ACTION,
    Observation,
    ObservationBuilder,
    StreamSpec,
)
from dql_ros.contract import Contract, RewardTopic
from dql_ros.control.previous_actions import PreviousActions
from dql_ros.convert.alignment import EpisodeWindow
from dql_ros.convert.recorded_episode import (
    Cause,
    Reason,
    RecordedEpisode,
    SkippedSpan,
    too_short,
)


class Arrivals:
    """What arrived on a topic, and when."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._values: list[NDArray[np.float64]] = []

    def push(self, time_ns: int, value: NDArray[np.float64]) -> None:
        """Add a value; times must not go back."""
        self._times.append(time_ns)
        self._values.append(value)

    def in_force(
        self, start_ns: int, end_ns: int, max_age_ns: int
    ) -> tuple[NDArray[np.float64], int] | None:
        """First value that arrived in [start, end), else the one held at ``start_ns``.

        Returns:
            The value, and its age at ``start_ns``: 0 for one that arrived in the interval.
        """
        index = bisect_left(self._times, start_ns)
        if index < len(self._times) and self._times[index] < end_ns:
            return self._values[index], 0
        if index > 0 and start_ns - self._times[index - 1] <= max_age_ns:
            return self._values[index - 1], start_ns - self._times[index - 1]
        return None

    def held(self, start_ns: int, max_age_ns: int) -> tuple[NDArray[np.float64], int] | None:
        """The newest value that had arrived by ``start_ns``, and its age."""
        index = bisect_right(self._times, start_ns) - 1
        if index >= 0 and start_ns - self._times[index] <= max_age_ns:
            return self._values[index], start_ns - self._times[index]
        return None

    def within(self, start_ns: int, end_ns: int) -> list[NDArray[np.float64]]:
        """Values that arrived in [start, end)."""
        first = bisect_left(self._times, start_ns)
        return self._values[first : bisect_left(self._times, end_ns)]

    def after(self, start_ns: int, end_ns: int) -> list[NDArray[np.float64]]:
        """Values that arrived in (start, end]."""
        first = bisect_right(self._times, start_ns)
        return self._values[first : bisect_right(self._times, end_ns)]

    def forget_before(self, time_ns: int) -> None:
        """Drop all but the last of the values from before ``time_ns``."""
        count = bisect_left(self._times, time_ns) - 1
        if count > 0:
            del self._times[:count], self._values[:count]

    def clear(self) -> None:
        """Drop all values."""
        self._times.clear()
        self._values.clear()


@dataclass(frozen=True)
class _Transition:
    action: NDArray[np.float64]
    held_ns: dict[str, int]
    reward: float | None
    observation: Observation
    end_ns: int


@dataclass
class _Growing:
    """An episode under construction: what was observed first, and the transitions since."""

    start_ns: int
    last_ns: int
    first: Observation
    transitions: list[_Transition] = field(default_factory=list)


class NaiveAssembler:
    """Takes the decoded messages of one recording in the order of arrival.

    Attributes:
        episodes: The episodes found so far.
        skipped: What is in none of them.
        ages_ns: For each topic of the contract, the age of its value at each tick that was used;
            that of a command is 0 unless it was held from before the tick.

    Args:
        contract: What is needed, at which rate, and where episodes end.
    """

    def __init__(self, contract: Contract) -> None:
        self.episodes: list[RecordedEpisode] = []
        self.skipped: list[SkippedSpan] = []
        self.ages_ns: dict[str, list[int]] = {
            stream.topic: [] for stream in (*contract.observation, *contract.action)
        }
        self._contract = contract
        self._fleeting = {stream.topic for stream in contract.observation if not stream.latched}
        self._previous = PreviousActions(contract) if contract.previous_action else None
        self._builder = ObservationBuilder(
            [
                StreamSpec(
                    stream.topic,
                    stream.width,
                    stream.max_age_ns,
                    stream.ago_ns(contract.period_ns),
                )
                for stream in contract.observation
            ],
            previous=self._previous,
        )
        self._has_past = any(stream.history > 1 for stream in contract.observation)
        self._commands = {stream.topic: Arrivals() for stream in contract.action}
        self._signals = {signal: Arrivals() for signal in contract.signals}
        self._window = EpisodeWindow(contract.episode)
        self._over_ns: int | None = None
        self._growing: _Growing | None = None
        self._now_ns: int | None = None
        self._ended_ns: dict[str, int] = {}
        self._last_stamps_ns: dict[str, int] = {}
        self._idle_since_ns = 0
        self._idle_reasons: list[Reason] = []

    def observe(
        self, topic: str, arrived_ns: int, stamp_ns: int, value: NDArray[np.float64]
    ) -> None:
        """Take an observation stream's value, shape (width,)."""
        self._advance(arrived_ns)
        if stamp_ns < self._last_stamps_ns.get(topic, stamp_ns) - CLOCK_JUMP_NS:
            self._ended_ns.pop(topic, None)  # of another clock
            self._builder.clear([topic])
        self._last_stamps_ns[topic] = stamp_ns
        if stamp_ns > self._ended_ns.get(topic, stamp_ns - 1):
            received_ns = arrived_ns if self._has_past else None
            self._builder.push(topic, stamp_ns, value, received_ns)

    def command(self, topic: str, arrived_ns: int, value: NDArray[np.float64]) -> None:
        """Take an action stream's value, shape (width,)."""
        self._advance(arrived_ns)
        self._commands[topic].push(arrived_ns, value)
        if self._previous is not None:
            self._previous.push(list(self._commands).index(topic), arrived_ns, value)

    def event(self, name: str, arrived_ns: int, *, matches: bool) -> None:
        """Take a message of the ``start``, ``stop`` or ``during`` topic."""
        self._advance(arrived_ns)
        self._window.event(name, arrived_ns, matches)

    def signal(self, name: str, arrived_ns: int, value: float) -> None:
        """Take a value of the ``reward``, ``terminated`` or ``truncated`` signal."""
        self._advance(arrived_ns)
        self._signals[name].push(arrived_ns, np.array([value]))

    def finish(self) -> None:
        """Close the recording."""
        if self._now_ns is None:
            return
        self._settle(self._now_ns, self._now_ns + 1)
        if self._growing is not None:
            self._stop(self._growing, self._now_ns, Reason(Cause.RECORDING_STOPPED))
        self._note_skipped(self._now_ns)

    def _stop(self, growing: _Growing, now_ns: int, reason: Reason) -> None:
        if any(self._ends(growing.last_ns, now_ns)):
            # It stopped within the very period in which the episode ended.
            self._tick(growing, now_ns)
        if self._growing is not None:
            self._close(growing, False, True, reason)

    def _advance(self, arrived_ns: int) -> None:
        if self._now_ns is None:
            self._idle_since_ns = arrived_ns
        elif arrived_ns > self._now_ns:
            self._settle(self._now_ns, arrived_ns)
        self._now_ns = arrived_ns

    def _settle(self, instant_ns: int, until_ns: int) -> None:
        """Do what is due from ``instant_ns`` to before ``until_ns``: nothing arrives between."""
        while True:
            growing = self._growing or self._begin(instant_ns)
            if growing is None:
                return
            instant_ns = growing.last_ns + self._contract.period_ns
            stop_ns = self._window.next_event(growing.start_ns)
            if stop_ns is not None and stop_ns < min(instant_ns, until_ns):
                self._stop(growing, stop_ns, Reason(Cause.MARKED))
                instant_ns = stop_ns
                continue
            if instant_ns >= until_ns:
                return
            self._tick(growing, instant_ns)

    def _begin(self, now_ns: int) -> _Growing | None:
        has_past = self._has_past or self._previous is not None
        if has_past and any(self._ends(now_ns - 1, now_ns)):
            # An attempt that ended before its past was known is not the past of the next one.
            over_ns = self._over_ns
            self._forget_episode(now_ns)
            self._over_ns = over_ns  # the window is as open as it was
        observation = self._known_at(now_ns)
        self._forget_before(now_ns)
        if not self._may_run(now_ns):
            self._wait(Reason(Cause.BETWEEN))
            return None
        if observation.values is None:
            self._wait(Reason(Cause.MISSING, self._missing(observation)))
            return None
        self._growing = _Growing(now_ns, now_ns, observation)
        self._over_ns = None
        return self._growing

    def _known_at(self, now_ns: int) -> Observation:
        return self._builder.at(now_ns, now_ns if self._has_past else None)

    def _missing(self, observation: Observation) -> tuple[str, ...]:
        """What is missing, in the contract's order."""
        topics = [stream.topic for stream in self._contract.observation]
        missing = sorted(observation.missing, key=[*topics, PREVIOUS_ACTION].index)
        past = observation.past_ns.keys() - {PREVIOUS_ACTION}
        return tuple(f"history of {name}" if name in past else name for name in missing)

    def _may_run(self, now_ns: int) -> bool:
        if self._over_ns is not None and self._window.has_opening:
            opening_ns = self._window.next_opening(self._over_ns)
            if opening_ns is None or opening_ns > now_ns:
                return False
        return bool(self._window.is_open(np.array([now_ns]))[0])

    def _tick(self, growing: _Growing, now_ns: int) -> None:
        """Complete the transition from the last tick to ``now_ns``, or end the episode there."""
        terminated, truncated = self._ends(growing.last_ns, now_ns)
        transition = self._transition(growing.last_ns, now_ns)
        if isinstance(transition, _Transition):
            if not growing.transitions:
                self._note_skipped(growing.start_ns)
                self._note_ages(growing.first.ages_ns)
            self._note_ages(transition.observation.ages_ns)
            self._note_ages(transition.held_ns)
            growing.transitions.append(transition)
            growing.last_ns = now_ns
            if terminated or truncated:
                self._close(growing, terminated, truncated, None)
        else:
            self._close(growing, False, True, transition)
        if terminated or truncated:
            self._forget_episode(now_ns)

    def _transition(self, start_ns: int, now_ns: int) -> _Transition | Reason:
        """The transition between two ticks, or what it lacks."""
        observation = self._known_at(now_ns)
        rewards = self._rewards(start_ns, now_ns)
        commands, held_ns = [], {}
        for stream in self._contract.action:
            arrivals = self._commands[stream.topic]
            command = (
                arrivals.held(start_ns, stream.max_age_ns)
                if stream.command == "held"
                else arrivals.in_force(start_ns, now_ns, stream.max_age_ns)
            )
            if command is None:
                return Reason(Cause.NO_COMMAND, (stream.topic,))
            commands.append(command[0])
            held_ns[stream.topic] = command[1]
        if observation.values is None:
            return Reason(Cause.OUTDATED, self._missing(observation))
        if rewards == []:
            return Reason(Cause.NO_REWARD)
        self._forget_before(now_ns)
        return _Transition(
            np.concatenate(commands),
            held_ns,
            None if rewards is None else float(np.sum(rewards)),
            observation,
            now_ns,
        )

    def _rewards(self, start_ns: int, now_ns: int) -> list[NDArray[np.float64]] | None:
        rule = self._contract.reward
        if not isinstance(rule, RewardTopic):
            return None
        arrivals = self._signals["reward"]
        found = (arrivals.within if rule.tick == "begun" else arrivals.after)(start_ns, now_ns)
        return found[-1:] if rule.combine == "last" else found

    def _ends(self, start_ns: int, now_ns: int) -> tuple[bool, bool]:
        """Whether a terminated and a truncated signal arrived in (start, now]."""
        terminated, truncated = (
            name in self._signals and any(self._signals[name].after(start_ns, now_ns))
            for name in ("terminated", "truncated")
        )
        return terminated, truncated

    def _close(
        self, growing: _Growing, terminated: bool, truncated: bool, reason: Reason | None
    ) -> None:
        self._growing = None
        length, minimum = len(growing.transitions), self._contract.episode.min_length
        if reason is not None and length == 0:
            self._wait(reason)
            return
        self._idle_since_ns = growing.last_ns
        self._idle_reasons = [reason or Reason(Cause.BETWEEN)]
        if length < minimum:
            self.skipped.append(too_short(growing.start_ns, growing.last_ns, length, minimum))
            return
        self.episodes.append(_recorded(growing, terminated, truncated, reason))

    def _forget_episode(self, now_ns: int) -> None:
        """After an end, the next episode begins with messages from after it."""
        self._over_ns = now_ns
        self._ended_ns = dict.fromkeys(self._fleeting, now_ns)
        self._builder.clear(self._fleeting)
        for arrivals in self._commands.values():
            arrivals.clear()
        if self._previous is not None:
            self._previous.begin(now_ns + 1)

    def _forget_before(self, now_ns: int) -> None:
        for arrivals in (*self._commands.values(), *self._signals.values()):
            arrivals.forget_before(now_ns)

    def _note_ages(self, ages_ns: Mapping[str, int | None]) -> None:
        for topic, age_ns in ages_ns.items():
            if age_ns is not None:
                self.ages_ns[topic].append(age_ns)

    def _wait(self, reason: Reason) -> None:
        is_known = any(
            known.cause is Cause.BETWEEN or str(known).startswith(str(reason))
            for known in self._idle_reasons
        )
        if not is_known:
            self._idle_reasons.append(reason)

    def _note_skipped(self, until_ns: int) -> None:
        if until_ns > self._idle_since_ns:
            reasons = tuple(self._idle_reasons) or (Reason(Cause.RECORDING_STOPPED),)
            self.skipped.append(SkippedSpan(self._idle_since_ns, until_ns, reasons))


def _recorded(
    growing: _Growing, terminated: bool, truncated: bool, reason: Reason | None
) -> RecordedEpisode:
    transitions = growing.transitions
    rewards = [each.reward for each in transitions if each.reward is not None]
    observations = [growing.first, *(each.observation for each in transitions)]
    return RecordedEpisode(
        ticks_ns=np.array([growing.start_ns, *(each.end_ns for each in transitions)]),
        observations=np.stack([each.values for each in observations if each.values is not None]),
        actions=np.stack([each.action for each in transitions]),
        rewards=np.array(rewards) if rewards else None,
        terminated=terminated,
        truncated=truncated,
        ending=reason or Reason(Cause.TERMINATED if terminated else Cause.TRUNCATED),
    )
