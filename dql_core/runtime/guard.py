"""The guards between a sampled action and a robot: asked in a fixed order, each counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.runtime.inference import InferenceResult, Lack
from dql_core.spec import PolicySpec
from dql_core.streams import SECOND_NS, Observation

# In any unit, no robot is so far from 0.
_ABSURD = 1e12


class Guard(str, Enum):
    """The guards; their order here is the order in which they are asked."""

    SILENT_PERSON = "silent_person"
    STALE_STREAM = "stale_stream"
    WARM_UP = "warm_up"
    NON_FINITE_OBSERVATION = "non_finite_observation"
    IMPOSSIBLE_OBSERVATION = "impossible_observation"
    UNUSUAL_OBSERVATION = "unusual_observation"
    UNSEEN_OBSERVATION = "unseen_observation"
    AWAITED_CHUNK = "awaited_chunk"
    OLD_CHUNK = "old_chunk"
    SLOW_INFERENCE = "slow_inference"
    NON_FINITE_ACTION = "non_finite_action"
    CLAMPED_ACTION = "clamped_action"
    SLEW_LIMITED_ACTION = "slew_limited_action"


@dataclass(frozen=True)
class Trip:
    """One guard that objected.

    Attributes:
        guard: Which one.
        reason: What it saw, as a clause for a log line.
    """

    guard: Guard
    reason: str


@dataclass(frozen=True)
class GuardLimits:
    """When the guards object.

    Attributes:
        warm_up_ticks: Complete observations that must precede the first command, and every
            command after a stream went stale.
        max_z_score: An observation field farther than so many standard deviations from the
            training data's mean is unusual.
        fault_z_score: One farther than so many is a fault, as of a sensor that is broken.
        unusual_stops: Whether the policy does not act on unusual observations; else there is a
            warning only.
        max_inference_ns: A result that took longer is dropped; ``None`` accepts any, as in
            lockstep simulation, where time waits for the policy.
        send_after_s: How long after its tick an action is sent, on the robot's clock: until then
            what was observed must be fresh.
        max_steps: How much each action field may change from one command to the next, length A;
            by any amount where it is infinite, or if there is none.
    """

    warm_up_ticks: int = 0
    max_z_score: float = 10.0
    fault_z_score: float = 200.0
    unusual_stops: bool = False
    max_inference_ns: int | None = None
    send_after_s: float = 0.0
    max_steps: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.warm_up_ticks < 0:
            raise ConfigError(f"warm_up_ticks is {self.warm_up_ticks}: it must not be negative")
        if not self.max_z_score > 0:
            raise ConfigError(f"max_z_score is {self.max_z_score}: it must be positive")
        if not self.fault_z_score >= self.max_z_score:
            raise ConfigError(
                f"fault_z_score is {self.fault_z_score:g}: it must be at least max_z_score, "
                f"{self.max_z_score:g}"
            )
        if self.max_inference_ns is not None and self.max_inference_ns <= 0:
            raise ConfigError(f"max_inference_ns is {self.max_inference_ns}: it must be positive")
        if not all(step > 0 for step in self.max_steps):
            raise ConfigError(f"max_steps are {self.max_steps}: they must be positive")


class Guards:
    """All guards of one policy on one robot; a guard that objects ends the questioning.

    Args:
        spec: Names and bounds of the fields.
        statistics: Mean and spread of the training data's observations; where there are none,
            nothing counts as unusual.
        limits: When they object.

    Attributes:
        spec: As given.
        limits: As given.
        counts: How often each guard objected since construction.
        last_reasons: What each guard saw when it last objected, for those that did.

    Raises:
        ConfigError: If there is not one largest step for each action field.
    """

    def __init__(
        self, spec: PolicySpec, statistics: Normalizer | None, limits: GuardLimits
    ) -> None:
        if limits.max_steps and len(limits.max_steps) != len(spec.action):
            raise ConfigError(
                f"max_steps has {len(limits.max_steps)} entries for {len(spec.action)} action "
                f"fields: give one for each"
            )
        self.counts = dict.fromkeys(Guard, 0)
        self.last_reasons: dict[Guard, str] = {}
        self.spec = spec
        self.limits = limits
        self._low, self._high = spec.action_low, spec.action_high
        self._lowest = np.array([field.low for field in spec.observation], dtype=np.float32)
        self._highest = np.array([field.high for field in spec.observation], dtype=np.float32)
        self._max_steps = np.array(limits.max_steps or [np.inf] * len(spec.action))
        self._has_max_steps = bool(np.isfinite(self._max_steps).any())
        self._statistics = statistics if _was_measured(statistics) else None
        if self._statistics is not None:
            self._fault_distances = limits.fault_z_score * _spreads(self._statistics)
        self._complete_ticks = 0

    def reset(self) -> None:
        """Forget the observations seen; the counts stay."""
        self._complete_ticks = 0

    def silent_person(self, silence: str) -> Trip:
        """Object to a person who has the switch and says nothing, for the reason that is given."""
        return self._trip(Guard.SILENT_PERSON, silence)

    def check_observation(self, observation: Observation) -> NDArray[np.float32] | Trip:
        """Return the observation vector, shape (O,), or why no action may be sampled from it."""
        if observation.values is None:
            self._complete_ticks = 0
            return self._trip(Guard.STALE_STREAM, describe_missing(observation))
        if observation.fresh_ns < self.limits.send_after_s * SECOND_NS:
            self._complete_ticks = 0
            left = f"fresh for {observation.fresh_ns / SECOND_NS:.3f} s only"
            held = f"actions are sent after {self.limits.send_after_s:g} s (send_after_s)"
            return self._trip(Guard.STALE_STREAM, f"the observation is {left}, and {held}")
        self._complete_ticks += 1
        if self._complete_ticks <= self.limits.warm_up_ticks:
            progress = f"{self._complete_ticks} of {self.limits.warm_up_ticks} ticks"
            return self._trip(Guard.WARM_UP, f"warming up, {progress}")
        if not np.isfinite(observation.values).all():
            index = int(np.flatnonzero(~np.isfinite(observation.values))[0])
            name, value = self.spec.observation[index].name, observation.values[index]
            return self._trip(Guard.NON_FINITE_OBSERVATION, f"observation '{name}' is {value}")
        beyond = (observation.values < self._lowest) | (observation.values > self._highest)
        if beyond.any():
            return self._impossible(observation.values, int(beyond.argmax()))
        return observation.values

    def find_unusual(self, values: NDArray[np.float32]) -> Trip | None:
        """Return how far a finite observation, shape (O,), is from the training data, if far.

        The guard is `Guard.IMPOSSIBLE_OBSERVATION` if it is so far that no policy may act on it.
        Where nothing is known of the training data, only absurd magnitudes are.
        """
        if self._statistics is None:
            index = int(np.abs(values).argmax())
            if abs(values[index]) <= _ABSURD:
                return None
            return self._impossible(values, index, f"{abs(values[index]):.1e} from 0")
        with np.errstate(over="ignore"):  # infinitely far is far
            scores = np.abs(self._statistics.observation(values))  # (O,)
        index = int(scores.argmax())
        if scores[index] <= self.limits.max_z_score:
            return None
        mean = self._statistics.observation_mean
        beyond = np.abs(values - mean) - self._fault_distances
        if beyond.max() > 0:
            index = int(beyond.argmax())
            far = f"more than {self._fault_distances[index]:.4g} from {mean[index]:.4g}"
            what = f"{far}, the training data's mean (fault_z_score {self.limits.fault_z_score:g})"
            return self._impossible(values, index, what)
        far = f"{scores[index]:.1f} standard deviations from the training data's mean"
        name, value = self.spec.observation[index].name, values[index]
        reason = f"observation '{name}' = {value:.4g} is {far}"
        return self._trip(Guard.UNUSUAL_OBSERVATION, reason)

    def find_unseen(self, values: NDArray[np.float32]) -> Trip | None:
        """Return which field of an observation, shape (O,), is beyond the training data, if any.

        The policy is given the nearest value that the data has, see `Normalizer.bounded`.
        """
        if self._statistics is None:
            return None
        unseen = self._statistics.bounded(values) != values
        if not unseen.any():
            return None
        index = int(unseen.argmax())
        lowest, highest = self._statistics.observation_min, self._statistics.observation_max
        assert lowest is not None  # or nothing were bounded
        assert highest is not None
        seen = f"[{lowest[index]:.4g}, {highest[index]:.4g}]"
        what = f"observation '{self.spec.observation[index].name}' = {values[index]:.4g}"
        return self._trip(Guard.UNSEEN_OBSERVATION, f"{what} is beyond the training data, {seen}")

    def forbids(self, unusual: Trip) -> bool:
        """Whether the policy must not act on what `find_unusual` found."""
        return self.limits.unusual_stops or unusual.guard is Guard.IMPOSSIBLE_OBSERVATION

    def _impossible(self, values: NDArray[np.float32], index: int, what: str = "") -> Trip:
        field = self.spec.observation[index]
        what = what or f"beyond the contract's limits [{field.low:g}, {field.high:g}]"
        reason = f"observation '{field.name}' = {values[index]:.4g} is {what}"
        return self._trip(Guard.IMPOSSIBLE_OBSERVATION, reason)

    def check_decision(self, result: InferenceResult) -> NDArray[np.float32] | Trip:
        """Return the action, shape (A,), or why it, or one that follows in its chunk, is unfit."""
        limit_ns, took_ns = self.limits.max_inference_ns, result.took_ns
        if result.decision is None or (limit_ns is not None and took_ns > limit_ns):
            took = "took" if result.decision is not None else "has not answered for"
            of = "" if limit_ns is None else f" of {limit_ns / 1e6:.1f} ms"
            inference = f"inference {took} {took_ns / 1e6:.1f} ms{of}"
            if result.decision is None and result.lack is Lack.AWAITED:
                return self._trip(Guard.AWAITED_CHUNK, f"the first chunk is decided: {inference}")
            if result.decision is None and result.lack is Lack.OLD:
                old = "what is left of the chunk is of an observation older than max_age_s"
                return self._trip(Guard.OLD_CHUNK, f"{old}; for the next one, {inference}")
            return self._trip(Guard.SLOW_INFERENCE, inference)
        action, later = result.decision.action, result.decision.later
        if later is not None and not np.isfinite(later).all():
            action = result.decision.chunk[~np.isfinite(result.decision.chunk).all(axis=1)][0]
        if not np.isfinite(action).all():
            index = int(np.flatnonzero(~np.isfinite(action))[0])
            name = self.spec.action[index].name
            return self._trip(Guard.NON_FINITE_ACTION, f"action '{name}' is {action[index]}")
        return action

    def clamp(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], Trip | None]:
        """Return ``action``, shape (A,), within its bounds, and what was cut if anything was."""
        clamped = _between(self._low, action, self._high)
        cut = clamped != action
        if not cut.any():
            return action, None
        index = int(cut.argmax())
        field = self.spec.action[index]
        bounds = f"[{field.low:g}, {field.high:g}]"
        reason = f"action '{field.name}' = {action[index]:.4g} cut to {bounds}"
        return clamped, self._trip(Guard.CLAMPED_ACTION, reason)

    def limit_rate(
        self, action: NDArray[np.float32], last: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Trip | None]:
        """Return ``action``, shape (A,), within reach of ``last``, and what was slowed if any."""
        within = self.within_rate(action, last)
        slowed = within != action
        if not slowed.any():
            return action, None
        index = int(slowed.argmax())
        reason = (
            f"action '{self.spec.action[index].name}' = {action[index]:.4g} is more than "
            f"{self._max_steps[index]:.4g} from {last[index]:.4g}, which was sent last"
        )
        return within, self._trip(Guard.SLEW_LIMITED_ACTION, reason)

    def within_rate(
        self, command: NDArray[np.float32], last: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what is nearest to ``command`` within reach of ``last``, both shape (A,)."""
        if not self._has_max_steps:
            return command
        near = _between(last - self._max_steps, command, last + self._max_steps)
        return near.astype(np.float32)

    def bounded(
        self, action: NDArray[np.float32], last: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return what `clamp` and `limit_rate` would make of an action, which nobody counts."""
        return self.within_rate(_between(self._low, action, self._high).astype(np.float32), last)

    def _trip(self, guard: Guard, reason: str) -> Trip:
        self.counts[guard] += 1
        self.last_reasons[guard] = reason
        return Trip(guard, reason)


def _between(
    low: NDArray[np.floating[Any]], values: NDArray[np.float32], high: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    # For a few numbers several times as fast as np.clip.
    between: NDArray[np.floating[Any]] = np.minimum(np.maximum(values, low), high)
    return between


def _spreads(statistics: Normalizer) -> NDArray[np.float32]:
    """Standard deviations, shape (O,); of what barely changed in training, its own magnitude."""
    std, mean = statistics.observation_std, statistics.observation_mean
    magnitude = np.maximum(1.0, np.abs(mean))
    spreads: NDArray[np.float32] = np.where(statistics.barely_moved, magnitude, std)
    return spreads


def _was_measured(statistics: Normalizer | None) -> bool:
    """Whether they are of data: policies of raw observations once had none of their own."""
    if statistics is None:
        return False
    return bool(statistics.observation_mean.any() or (statistics.observation_std != 1.0).any())


def describe_missing(observation: Observation) -> str:
    """Return which streams an observation lacks and why, as a clause."""
    parts = []
    for name in observation.missing:
        age_ns, ago_ns = observation.ages_ns.get(name), observation.past_ns.get(name)
        if ago_ns is not None:
            parts.append(f"'{name}' was not known {ago_ns / 1e9:g} s ago")
        elif age_ns is None:
            parts.append(f"'{name}' never came")
        else:
            parts.append(f"'{name}' is {age_ns / 1e9:.2f} s old")
    return "no fresh observation: " + ", ".join(parts)
