"""Means with the interval that holds the true one in 95 % of repetitions.

How well one number orders what another number orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its confidence interval.

    Attributes:
        mean: The sample's mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return ``{"mean": ..., "ci95": [low, high]}``; an end at infinity becomes ``None``."""
        ends = [end if math.isfinite(end) else None for end in (self.low, self.high)]
        return {"mean": self.mean, "ci95": ends}


def estimate_mean(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Estimate the mean of a distribution by Student's t.

    Args:
        values: Independent draws; with a single one the interval is the whole line.
        level: Probability that the interval holds the true mean.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf)
    quantile = student_quantile(level, len(values) - 1)
    half_width = quantile * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half_width, mean + half_width)


def estimate_rate(successes: Sequence[bool], level: float = LEVEL) -> Estimate:
    """Estimate a probability by Wilson's score interval, which never leaves [0, 1].

    Args:
        successes: Independent trials, at least one.
        level: Probability that the interval holds the true rate.
    """
    count, rate = len(successes), fmean(successes)
    z_squared = NormalDist().inv_cdf(0.5 + level / 2.0) ** 2
    centre = (rate + z_squared / (2 * count)) / (1 + z_squared / count)
    variance = rate * (1 - rate) / count + z_squared / (4 * count**2)
    half_width = math.sqrt(z_squared * variance) / (1 + z_squared / count)
    return Estimate(rate, max(0.0, centre - half_width), min(1.0, centre + half_width))


def student_quantile(level: float, freedom: int) -> float:
    """Return t with P(|T| < t) = ``level`` for Student's distribution.

    Args:
        level: Probability in (0, 1).
        freedom: Degrees of freedom, at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # halves the angle's interval to the last bit
        middle = (low + high) / 2
        if _central_probability(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _central_probability(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) tan(angle)): Abramowitz and Stegun 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    if freedom == 1:
        return 2.0 * angle / math.pi
    term = cosine if odd else 1.0
    total = term
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2.0 / math.pi * (angle + sine * total) if odd else sine * total


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's correlation, equal values sharing their mean rank.

    Args:
        first: Shape (n,).
        second: Shape (n,).

    Returns:
        In [-1, 1]; 0 if all values of one are equal, which orders nothing.
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value, shape (n,)."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[which]
    return ranks
