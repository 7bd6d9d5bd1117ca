"""What is known of an episode's steps beside observation, action and reward: Minari's infos.

Stored as Minari's collector has them: with one row more than there are steps, of which the first
is what the reset would have given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Whether the task was done, and whether a person commanded.
SUCCESS, INTERVENTION = "success", "intervention"


def to_store(values: NDArray[Any]) -> NDArray[Any]:
    """Return what is stored of one row a step, shape (T, ...) -> (T + 1, ...)."""
    return np.concatenate([np.zeros_like(values[:1]), values])


def of_steps(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Return the rows that belong to the T steps; what has no row for the reset is as it was."""
    return values[1:] if values.ndim and len(values) == length + 1 else values


def last_of(values: NDArray[Any] | None) -> bool | None:
    """Return whether an info is true at the end of its episode; ``None`` if nobody knows.

    Args:
        values: As stored; ``None`` where the episode has no such info.
    """
    if values is None or not values.size or values.dtype.kind not in "biuf":
        return None
    last = values.reshape(-1)[-1]
    return bool(last) if np.isfinite(last) else None
