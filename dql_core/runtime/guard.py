"""What stands between a sampled action and a robot: guards in a fixed order, each counted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.spec import PolicySpec
from dql_core.streams import Observation


class Guard(str, Enum):
    """The guards; their order here is the order in which they are asked."""

    STALE_STREAM = "stale_stream"
    WARM_UP = "warm_up"
    NON_FINITE_OBSERVATION = "non_finite_observation"
    UNUSUAL_OBSERVATION = "unusual_observation"
    SLOW_INFERENCE = "slow_inference"
    NON_FINITE_ACTION = "non_finite_action"
    CLAMPED_ACTION = "clamped_action"


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
            training data's mean is unusual; that is told but stops nothing.
        max_inference_ns: A result that took longer is dropped; ``None`` accepts any, as in
            lockstep simulation, where time waits for the policy.
    """

    warm_up_ticks: int = 0
    max_z_score: float = 10.0
    max_inference_ns: int | None = None

    def __post_init__(self) -> None:
        if self.warm_up_ticks < 0:
            raise ConfigError(f"warm_up_ticks is {self.warm_up_ticks}: it must not be negative")
        if not self.max_z_score > 0:
            raise ConfigError(f"max_z_score is {self.max_z_score}: it must be positive")
        if self.max_inference_ns is not None and self.max_inference_ns <= 0:
            raise ConfigError(f"max_inference_ns is {self.max_inference_ns}: it must be positive")


class Guards:
    """All guards of one policy on one robot; a guard that objects ends the questioning.

    Attributes:
        counts: How often each guard objected since construction.
    """

    def __init__(
        self, spec: PolicySpec, normalizer: Normalizer | None, limits: GuardLimits
    ) -> None:
        """Prepare the guards.

        Args:
            spec: Names and bounds of the fields.
            normalizer: Statistics of the training data; where there are none, as in a policy
                trained on raw observations, nothing counts as unusual.
            limits: When to object.
        """
        self.counts = dict.fromkeys(Guard, 0)
        self._spec = spec
        self._normalizer = normalizer if _has_statistics(normalizer) else None
        self._limits = limits
        self._complete_ticks = 0

    def reset(self) -> None:
        """Forget the observations seen; the counts stay."""
        self._complete_ticks = 0

    def admit(self, observation: Observation) -> NDArray[np.float32] | Trip:
        """Return the observation vector, shape (O,), or why no action may be sampled from it."""
        if observation.values is None:
            self._complete_ticks = 0
            return self._trip(Guard.STALE_STREAM, _missing(observation))
        self._complete_ticks += 1
        if self._complete_ticks <= self._limits.warm_up_ticks:
            progress = f"{self._complete_ticks} of {self._limits.warm_up_ticks} ticks"
            return self._trip(Guard.WARM_UP, f"warming up, {progress}")
        if not np.isfinite(observation.values).all():
            index = int(np.flatnonzero(~np.isfinite(observation.values))[0])
            name, value = self._spec.observation[index].name, observation.values[index]
            return self._trip(Guard.NON_FINITE_OBSERVATION, f"observation '{name}' is {value}")
        return observation.values

    def find_unusual(self, values: NDArray[np.float32]) -> Trip | None:
        """Return how far a finite observation, shape (O,), is from the training data, if far."""
        if self._normalizer is None:
            return None
        scores = np.abs(self._normalizer.observation(values))  # (O,)
        index = int(scores.argmax())
        if scores[index] <= self._limits.max_z_score:
            return None
        name, value = self._spec.observation[index].name, values[index]
        return self._trip(
            Guard.UNUSUAL_OBSERVATION,
            f"observation '{name}' = {value:.4g} is {scores[index]:.1f} standard deviations from "
            f"the training data's mean",
        )

    def check_action(self, action: NDArray[np.float32], inference_ns: int) -> Trip | None:
        """Return why an action, shape (A,), is unfit, or ``None``.

        Args:
            action: What the policy chose.
            inference_ns: How long the policy took.
        """
        limit_ns = self._limits.max_inference_ns
        if limit_ns is not None and inference_ns > limit_ns:
            took = f"inference took {inference_ns / 1e6:.1f} ms of {limit_ns / 1e6:.1f} ms"
            return self._trip(Guard.SLOW_INFERENCE, took)
        if not np.isfinite(action).all():
            index = int(np.flatnonzero(~np.isfinite(action))[0])
            name = self._spec.action[index].name
            return self._trip(Guard.NON_FINITE_ACTION, f"action '{name}' is {action[index]}")
        return None

    def clamp(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], Trip | None]:
        """Return ``action``, shape (A,), within its bounds, and what was cut if anything was."""
        clamped = np.clip(action, self._spec.action_low, self._spec.action_high)
        outside = np.flatnonzero(clamped != action)
        if outside.size == 0:
            return action, None
        field = self._spec.action[outside[0]]
        bounds = f"[{field.low:g}, {field.high:g}]"
        reason = f"action '{field.name}' = {action[outside[0]]:.4g} cut to {bounds}"
        return clamped, self._trip(Guard.CLAMPED_ACTION, reason)

    def _trip(self, guard: Guard, reason: str) -> Trip:
        self.counts[guard] += 1
        return Trip(guard, reason)


def _has_statistics(normalizer: Normalizer | None) -> bool:
    if normalizer is None:
        return False
    return bool(normalizer.observation_mean.any() or (normalizer.observation_std != 1.0).any())


def _missing(observation: Observation) -> str:
    ages = {name: observation.ages_ns.get(name) for name in observation.missing}
    parts = [
        f"'{name}' never came" if age is None else f"'{name}' is {age / 1e9:.2f} s old"
        for name, age in ages.items()
    ]
    return "no fresh observation: " + ", ".join(parts)
