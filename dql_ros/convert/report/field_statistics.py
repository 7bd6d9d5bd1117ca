"""Range, moments and histogram of each field of a dataset, in two passes over its episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.spec import FieldSpec, PolicySpec

BINS = 40


class FieldStatistics:
    """Figures of the fields of one vector: first `add` everything, then `count` it again.

    Args:
        specs: Names, units and bounds of the F fields.
    """

    def __init__(self, specs: Sequence[FieldSpec]) -> None:
        self._specs = tuple(specs)
        width = len(self._specs)
        # Values are float32, so that bounds are compared at that precision.
        self._low = _float32([spec.low for spec in specs])
        self._high = _float32([spec.high for spec in specs])
        self._count = 0
        self._min = np.full(width, np.inf)
        self._max = np.full(width, -np.inf)
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)
        self._beyond = np.zeros(width, dtype=np.int64)
        self._histogram = np.zeros((width, BINS), dtype=np.int64)

    def add(self, values: NDArray[np.floating[Any]]) -> None:
        """First pass: take finite values, shape (n, F)."""
        if len(values) == 0:
            return
        self._beyond += ((values < self._low) | (values > self._high)).sum(axis=0)
        wide = values.astype(np.float64)
        self._min = np.minimum(self._min, wide.min(axis=0))
        self._max = np.maximum(self._max, wide.max(axis=0))
        # Chan, Golub and LeVeque 1979, equation 2.1: moments of a union from those of its parts.
        mean = wide.mean(axis=0)
        distance, total = mean - self._mean, self._count + len(wide)
        self._squares += ((wide - mean) ** 2).sum(axis=0)
        self._squares += distance**2 * (self._count * len(wide) / total)
        self._mean += distance * (len(wide) / total)
        self._count = total

    def count(self, values: NDArray[np.floating[Any]]) -> None:
        """Second pass: count the same values, shape (n, F), into histograms."""
        low, high = self.ranges
        scaled = (values.astype(np.float64) - low) / (high - low) * BINS
        cells = np.clip(scaled.astype(np.int64), 0, BINS - 1)
        cells += BINS * np.arange(len(self._specs))
        self._histogram += np.bincount(cells.ravel(), minlength=self._histogram.size).reshape(
            self._histogram.shape
        )

    @property
    def ranges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends of the histograms, shapes (F,): all values and the finite bounds lie within."""
        ends = np.stack((self._min, self._max, self._low, self._high))
        is_known = np.isfinite(ends)
        low = np.where(is_known, ends, np.inf).min(axis=0)
        high = np.where(is_known, ends, -np.inf).max(axis=0)
        low = np.where(np.isfinite(low), low, 0.0)
        return low, np.where(high > low, high, low + np.maximum(1.0, np.abs(low)))

    def to_json(self) -> list[dict[str, Any]]:
        """Return one row a field; figures are ``None`` if there was no value."""
        low, high = self.ranges
        return [
            {
                "name": spec.name,
                "unit": spec.unit,
                "low": float(spec.low) if np.isfinite(spec.low) else None,
                "high": float(spec.high) if np.isfinite(spec.high) else None,
                **self._moments(index),
                "beyond_bounds": int(self._beyond[index]),
                "histogram": {
                    "low": float(low[index]),
                    "high": float(high[index]),
                    "counts": self._histogram[index].tolist(),
                },
            }
            for index, spec in enumerate(self._specs)
        ]

    def _moments(self, index: int) -> dict[str, float | None]:
        if self._count == 0:
            return dict.fromkeys(("min", "max", "mean", "std"))
        return {
            "min": float(self._min[index]),
            "max": float(self._max[index]),
            "mean": float(self._mean[index]),
            "std": float(np.sqrt(self._squares[index] / self._count)),
        }


class DatasetStatistics:
    """Figures of a dataset's observations, actions and rewards.

    Attributes:
        observation: Of all observations, the last one of each episode included.
        action: Of all actions, as the dataset has them.
        reward: Of all rewards.

    Args:
        spec: Names and bounds of the fields.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.observation = FieldStatistics(spec.observation)
        self.action = FieldStatistics(spec.action)
        self.reward = FieldStatistics((FieldSpec("reward"),))

    @classmethod
    def of(cls, spec: PolicySpec, episodes: Callable[[], Iterable[Episode]]) -> DatasetStatistics:
        """Go twice over a dataset of any size, one episode in memory at a time.

        Args:
            spec: Names and bounds of the fields.
            episodes: Called once a pass.
        """
        statistics = cls(spec)
        for episode in episodes():
            statistics.observation.add(episode.observations)
            statistics.action.add(episode.actions)
            statistics.reward.add(episode.rewards[:, None])
        for episode in episodes():
            statistics.observation.count(episode.observations)
            statistics.action.count(episode.actions)
            statistics.reward.count(episode.rewards[:, None])
        return statistics


def _float32(bounds: Sequence[float]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a bound beyond float32 is none
        return np.array(bounds, dtype=np.float64).astype(np.float32)
