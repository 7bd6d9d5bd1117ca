"""The units of the networks: standardised observations, and actions in [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.spec import PolicySpec

# Below this spread a dimension carries no information and is only centred.
CONSTANT_STD = 1e-6


@dataclass(frozen=True)
class Normalizer:
    """Standardises observations and maps actions from their bounds to [-1, 1].

    All arrays are float32, so that numpy, torch and ONNX Runtime compute with the same numbers.

    Attributes:
        observation_mean: Shape (O,), in the observations' units.
        observation_std: Shape (O,), positive.
        action_low: Lower action bounds, shape (A,).
        action_high: Upper action bounds, shape (A,).
    """

    observation_mean: NDArray[np.float32]
    observation_std: NDArray[np.float32]
    action_low: NDArray[np.float32]
    action_high: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        observations: NDArray[np.float32],
        action_low: NDArray[np.float32],
        action_high: NDArray[np.float32],
    ) -> Normalizer:
        """Measure the observations and take the action bounds as given.

        Args:
            observations: Shape (M, O).
            action_low: Lower action bounds, shape (A,).
            action_high: Upper action bounds, shape (A,).
        """
        mean = observations.mean(axis=0, dtype=np.float64)
        std = observations.std(axis=0, dtype=np.float64)
        std = np.where(std < CONSTANT_STD, 1.0, std)
        return cls(_frozen(mean), _frozen(std), _frozen(action_low), _frozen(action_high))

    @classmethod
    def for_actions_only(
        cls, observation_size: int, action_low: Sequence[float], action_high: Sequence[float]
    ) -> Normalizer:
        """Leave observations as they are, as the paper's code does."""
        zeros, ones = np.zeros(observation_size), np.ones(observation_size)
        return cls(_frozen(zeros), _frozen(ones), _frozen(action_low), _frozen(action_high))

    def observation(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise observations, shape (..., O)."""
        return (values - self.observation_mean) / self.observation_std

    def action(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map actions, shape (..., A), from their bounds to [-1, 1]."""
        centre = (self.action_high + self.action_low) * np.float32(0.5)
        half_range = (self.action_high - self.action_low) * np.float32(0.5)
        normalized: NDArray[np.float32] = (values - centre) / half_range
        return normalized

    def restore_observation(self, normalized: NDArray[np.float32]) -> NDArray[np.float32]:
        """Undo `observation`."""
        return normalized * self.observation_std + self.observation_mean

    def to_json(self) -> dict[str, list[float]]:
        """Return a JSON-ready dictionary that keeps every bit."""
        return {name: array.tolist() for name, array in vars(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Normalizer:
        """Rebuild the normaliser that `to_json` wrote.

        Raises:
            ValueError: If a number is missing or not finite, or a spread not positive.
        """
        arrays = {name: _numbers(document, name) for name in cls.__dataclass_fields__}
        if not np.all(arrays["observation_std"] > 0.0):
            raise ValueError("the normaliser's observation_std must be above 0")
        return cls(**arrays)

    def require_fits(self, spec: PolicySpec) -> None:
        """Refuse a normaliser that is not of the vectors of ``spec``.

        Raises:
            ValueError: Naming what differs.
        """
        for name in ("observation_mean", "observation_std"):
            if len(getattr(self, name)) != len(spec.observation):
                raise ValueError(f"the normaliser's {name} has not as many numbers as the spec")
        for name in ("action_low", "action_high"):
            if not np.array_equal(getattr(self, name), getattr(spec, name)):
                raise ValueError(f"the normaliser's {name} is not that of the spec")


def _numbers(document: Mapping[str, Any], name: str) -> NDArray[np.float32]:
    values = document.get(name)
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        raise ValueError(f"the normaliser's {name} is not a list of numbers")
    try:
        with np.errstate(over="ignore"):
            array = _frozen(np.array(values, dtype=np.float64))
    except OverflowError:  # an integer beyond all floats
        array = _frozen([np.inf])
    if not np.isfinite(array).all():
        raise ValueError(f"the normaliser's {name} has numbers beyond what float32 can hold")
    return array


def _frozen(values: Any) -> NDArray[np.float32]:
    array = np.array(values, dtype=np.float32)
    array.setflags(write=False)
    return array
