"""The units of the networks: standardised observations, and actions in [-1, 1]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.spec import FieldSpec, PolicySpec

# Below this standard deviation a field never changed, whatever its unit, and is only centred.
CONSTANT_STD = 1e-6
# Smaller standard deviations are those of noise: what a robot does not show by moving must not be
# magnified. TD3+BC (arXiv 2106.06860) adds as much to each standard deviation. ``deg`` is what
# GPS positions are in, too, of which this is a centimetre.
_SI = ("m", "rad", "m/s", "rad/s", "m/s^2", "rad/s^2", "s", "N", "N m", "V", "A", "K")
SMALLEST_STD = dict.fromkeys((*_SI, "degC", "kg", "Hz"), 1e-3) | {"deg": 1e-7, "T": 1e-9}
# A number without unit may be anything: its largest value, if that is below 1, scales this.
SMALLEST_WITHOUT_UNIT = 1e-3
_RANGE = ("observation_min", "observation_max")
# Of what a field with finite limits can be at all.
SMALLEST_SHARE_OF_RANGE = 1e-4
# Steps between neighbouring float32 numbers that are rounding and no movement.
ROUNDING_STEPS = 4


@dataclass(frozen=True)
class Normalizer:
    """Standardises observations and maps actions from their bounds to [-1, 1].

    All arrays are float32, so that numpy, torch and ONNX Runtime compute with the same numbers.

    Attributes:
        observation_mean: Shape (O,), in the observations' units.
        observation_std: Shape (O,), positive.
        action_low: Lower action bounds, shape (A,).
        action_high: Upper action bounds, shape (A,).
        observation_min: Smallest value of each observation field in the training data, shape
            (O,); ``None`` if that is not known, as for policies of earlier versions.
        observation_max: Largest value, likewise.
    """

    observation_mean: NDArray[np.float32]
    observation_std: NDArray[np.float32]
    action_low: NDArray[np.float32]
    action_high: NDArray[np.float32]
    observation_min: NDArray[np.float32] | None = None
    observation_max: NDArray[np.float32] | None = None

    @classmethod
    def fit(
        cls,
        observations: NDArray[np.float32],
        spec: PolicySpec,
        also_seen: NDArray[np.float32] | None = None,
    ) -> Normalizer:
        """Measure observations; the action bounds are those of the spec.

        Args:
            observations: Shape (M, O).
            spec: Of the vectors; units and limits of its observation decide which standard
                deviations are too small, see `divisors`.
            also_seen: Observations that count for smallest and largest values only, shape (N, O).
        """
        mean = observations.mean(axis=0, dtype=np.float64)
        std = observations.std(axis=0, dtype=np.float64)
        low, high = observations.min(axis=0), observations.max(axis=0)
        std = divisors(spec.observation, std, np.maximum(np.abs(low), np.abs(high)))
        if also_seen is not None:
            low = np.minimum(low, also_seen.min(axis=0))
            high = np.maximum(high, also_seen.max(axis=0))
        arrays = (mean, std, spec.action_low, spec.action_high, low, high)
        return cls(*map(_frozen, arrays))

    @classmethod
    def for_actions_only(
        cls, observation_size: int, action_low: Sequence[float], action_high: Sequence[float]
    ) -> Normalizer:
        """Leave observations as they are, as the paper's code does."""
        zeros, ones = np.zeros(observation_size), np.ones(observation_size)
        return cls(_frozen(zeros), _frozen(ones), _frozen(action_low), _frozen(action_high))

    @property
    def barely_moved(self) -> NDArray[np.bool_]:
        """Which observation fields were constant, or nearly, in the training data, shape (O,)."""
        if self.observation_min is None or self.observation_max is None:
            return np.asarray(self.observation_std == 1.0)
        # No standard deviation is larger than half the range, unless `fit` raised it.
        largest = (self.observation_max - self.observation_min) * np.float32(0.5)
        barely: NDArray[np.bool_] = self.observation_std > largest * np.float32(1.001)
        return barely

    def bounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move observations, shape (..., O), to the nearest that the training data has.

        Each field goes to its smallest or largest value there; what lies between is unchanged.
        """
        if self.observation_min is None or self.observation_max is None:
            return values
        # For a few numbers several times as fast as np.clip.
        bounded: NDArray[np.float32] = np.minimum(
            np.maximum(values, self.observation_min), self.observation_max
        )
        return bounded

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
        return {name: array.tolist() for name, array in vars(self).items() if array is not None}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Normalizer:
        """Rebuild the normaliser that `to_json` wrote.

        Raises:
            ValueError: If a number is missing or not finite, a spread not positive, or a smallest
                value above the largest.
        """
        names = [name for name in cls.__dataclass_fields__ if name not in _RANGE]
        names += _RANGE if any(name in document for name in _RANGE) else []
        arrays = {name: _numbers(document, name) for name in names}
        if not np.all(arrays["observation_std"] > 0.0):
            raise ValueError("the normaliser's observation_std must be above 0")
        low, high = (arrays.get(name, arrays["observation_mean"]) for name in _RANGE)
        if low.shape != high.shape or np.any(low > high):
            raise ValueError("the normaliser's observation_min is above its observation_max")
        return cls(**arrays)

    def require_fits(self, spec: PolicySpec) -> None:
        """Refuse a normaliser that is not of the vectors of ``spec``.

        Raises:
            ValueError: Naming what differs.
        """
        for name in ("observation_mean", "observation_std", *_RANGE):
            values = getattr(self, name)
            if values is not None and len(values) != len(spec.observation):
                raise ValueError(f"the normaliser's {name} has not as many numbers as the spec")
        for name in ("action_low", "action_high"):
            if not np.array_equal(getattr(self, name), getattr(spec, name)):
                raise ValueError(f"the normaliser's {name} is not that of the spec")


def divisors(
    fields: Sequence[FieldSpec],
    std: NDArray[np.float64],
    magnitudes: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Return what each observation field is divided by, shape (O,): mostly its ``std``.

    A field that never changed is only centred. One that changed by so little, for its unit and
    limits, that normalising it would only magnify noise is divided by more.

    Args:
        fields: Length O; of a known unit, or with finite limits, or neither.
        std: Standard deviation of each field, shape (O,).
        magnitudes: Largest absolute value of each field, shape (O,).
    """
    pairs = zip(fields, magnitudes.tolist(), strict=True)
    smallest = np.array([_smallest_std(field, magnitude) for field, magnitude in pairs])
    rounding = smallest_step(magnitudes)
    constant = np.maximum(np.minimum(smallest, CONSTANT_STD), rounding)
    enough = np.maximum(np.maximum(smallest, rounding), std)
    return np.where(std < constant, np.maximum(std, 1.0), enough)


def smallest_step(magnitudes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """What float32 cannot tell from a standing still of numbers so large, shape (O,)."""
    return ROUNDING_STEPS * np.spacing(magnitudes.astype(np.float32)).astype(np.float64)


def _smallest_std(field: FieldSpec, magnitude: float) -> float:
    if field.unit in ("", "1"):
        smallest = max(SMALLEST_WITHOUT_UNIT * min(magnitude, 1.0), CONSTANT_STD)
    else:
        smallest = SMALLEST_STD.get(field.unit, np.inf)
    if field.high > field.low:
        smallest = min(smallest, SMALLEST_SHARE_OF_RANGE * (field.high - field.low))
    return smallest if np.isfinite(smallest) else CONSTANT_STD


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
