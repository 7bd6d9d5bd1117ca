"""Means with the interval that holds the true one in 95 % of repetitions; rank correlation."""

# ruff: noqa: PLC0415 - scipy takes a second to import, and most who import this compute nothing.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
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


def estimate_mean(values: Sequence[float]) -> Estimate:
    """Estimate the mean of a distribution by Student's t.

    Args:
        values: Independent draws; with a single one the interval is the whole line.
    """
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf)
    from scipy import stats

    quantile = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1))
    half_width = quantile * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half_width, mean + half_width)


def estimate_mean_of_clusters(
    values: NDArray[np.float64], clusters: NDArray[np.int64]
) -> Estimate:
    """Estimate a mean of values that come in independent clusters, as steps come in episodes.

    The mean is a ratio of sums over clusters (Cochran, Sampling Techniques, 1977, section 6.4),
    its quantile Student's.

    Args:
        values: Shape (n,).
        clusters: The cluster of each, shape (n,); with a single one the interval is the whole
            line.
    """
    mean = float(values.mean())
    _, which = np.unique(clusters, return_inverse=True)
    errors = np.bincount(which, weights=values - mean)
    if len(errors) < 2:
        return Estimate(mean, -math.inf, math.inf)
    from scipy import stats

    count = len(errors)
    deviation = math.sqrt(count / (count - 1) * float(np.square(errors).sum())) / len(values)
    half_width = float(stats.t.ppf(0.5 + LEVEL / 2, count - 1)) * deviation
    return Estimate(mean, mean - half_width, mean + half_width)


def estimate_rate(successes: Sequence[bool]) -> Estimate:
    """Estimate a probability by Wilson's score interval, which never leaves [0, 1].

    Args:
        successes: Independent trials, at least one.
    """
    from scipy import stats

    test = stats.binomtest(sum(successes), len(successes))
    interval = test.proportion_ci(LEVEL, method="wilson")
    return Estimate(fmean(successes), float(interval.low), float(interval.high))


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
    from scipy import stats

    return float(stats.spearmanr(first, second).statistic)
