"""How far actions are from others of the same instants, field by field: one measure for all.

The judgement by episodes, the replay of a bag and the diagnostics of shadow mode use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MeanDifference:
    """The mean absolute difference of A action fields.

    Attributes:
        count: Over how many instants: those at which all fields of both were finite.
        by_field: Each in its own unit, shape (A,); NaN if there is no such instant.
    """

    count: int
    by_field: NDArray[np.float64]


def difference(
    actions: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the absolute difference of each field in its own unit.

    Args:
        actions: Shape (..., A); NaN where there is none.
        others: Of the same instants, of the same shape.
    """
    found: NDArray[np.float64] = np.abs(np.asarray(actions, np.float64) - others)
    return found


def mean_difference(differences: NDArray[np.float64]) -> MeanDifference:
    """Return the mean over the instants at which all fields of both are finite.

    Args:
        differences: As `difference` returns them, shape (T, A).
    """
    known = np.isfinite(differences).all(axis=1)
    count = int(known.sum())
    unknown = np.full(differences.shape[1], np.nan)
    return MeanDifference(count, differences[known].mean(axis=0) if count else unknown)
