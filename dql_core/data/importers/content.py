"""What every reader returns, and the spaces that its arrays are elements of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.data.metadata import MAX_FIELDS
from dql_core.data.spaces import spec_from_spaces
from dql_core.errors import DatasetError


@dataclass(frozen=True)
class FileContent:
    """The episodes of a file.

    Attributes:
        episodes: In their order in the file.
        observation_shape: Of one observation; the episodes hold it flat.
        action_shape: Of one action; the episodes hold it flat.
        notes: What was left out or changed, one line each.
    """

    episodes: tuple[Episode, ...]
    observation_shape: tuple[int, ...]
    action_shape: tuple[int, ...]
    notes: tuple[str, ...] = ()


def require_continuous(
    path: Path, observations: NDArray[Any], actions: NDArray[Any], *, discrete: bool = False
) -> None:
    """Refuse images, integer observations, discrete actions, and arrays without rows.

    Args:
        path: For the message.
        observations: One row for each observation.
        actions: One row for each action.
        discrete: The file says that its actions are discrete.

    Raises:
        DatasetError: Naming the space.
    """
    for name, array in (("observations", observations), ("actions", actions)):
        if array.ndim == 0 or len(array) == 0:
            raise DatasetError(f"{path}: holds no {name}")
        if not 0 < (width := math.prod(array.shape[1:])) <= MAX_FIELDS:
            raise DatasetError(
                f"{path}: each of the {name} has {width} numbers, not 1 to {MAX_FIELDS}"
            )
    spec_from_spaces(
        _observation_space(observations), _action_space(actions, discrete), "", str(path)
    )


def require_rows(path: Path, count: int, **arrays: NDArray[Any]) -> None:
    """Refuse arrays that do not have one row for each of ``count`` steps.

    Raises:
        DatasetError: Naming the array.
    """
    for name, array in arrays.items():
        rows = len(array) if array.ndim else 0
        if rows != count:
            raise DatasetError(
                f"{path}: '{name}' has {rows} rows where {count} are needed; the file is "
                f"damaged or of another format"
            )


def flags(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return an array of zeros and ones as flags.

    Raises:
        DatasetError: If it holds anything else, such as NaN, which NumPy takes for true.
    """
    wrong = array[(array != 0) & (array != 1)]
    if len(wrong):
        raise DatasetError(
            f"{path}: '{name}' has a {wrong[0]} where only 0 and 1 tell anything; the file is "
            f"damaged or of another format"
        )
    return array.astype(bool)


def flat_rows(array: NDArray[Any]) -> NDArray[np.float32]:
    """Flatten all axes but the first; float32."""
    return array.reshape(len(array), -1).astype(np.float32, copy=False)


def _observation_space(observations: NDArray[Any]) -> Space[Any]:
    shape, dtype = observations.shape[1:], observations.dtype
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        return Box(limits.min, limits.max, shape, dtype.type)
    return Box(-np.inf, np.inf, shape)


def _action_space(actions: NDArray[Any], discrete: bool) -> Space[Any]:
    if not discrete and np.issubdtype(actions.dtype, np.floating):
        return Box(-1.0, 1.0, actions.shape[1:])  # stands for any bounds
    largest = actions.reshape(len(actions), -1).max(axis=0)
    counts = np.clip(largest.astype(np.float64) + 1, 1, np.iinfo(np.int32).max).astype(np.int64)
    return Discrete(int(counts[0])) if len(counts) == 1 else MultiDiscrete(counts)
