"""Episodes of one bag in a file, one after the other, until the dataset is put together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.errors import DatasetError


def write_episode(file: IO[bytes], episode: Episode) -> None:
    """Append an episode: four arrays in NumPy's own format."""
    ended = np.array([episode.terminated, episode.truncated])
    for array in (episode.observations, episode.actions, episode.rewards, ended):
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def read_episodes(path: Path) -> Iterator[Episode]:
    """Yield the episodes of a file in their order, one in memory at a time.

    Raises:
        DatasetError: If the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            try:
                arrays = [_read_array(file, size) for _ in range(4)]
                observations, actions, rewards, (terminated, truncated) = arrays
            except (ValueError, TypeError, SyntaxError, RecursionError) as cause:
                raise DatasetError(
                    f"{path}: damaged: {cause}; convert again without --resume"
                ) from cause
            yield Episode(observations, actions, rewards, bool(terminated), bool(truncated))


def _read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Read an array; NumPy itself would make room for as much as the file announces.

    Raises:
        ValueError: If it announces more than the file has.
    """
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array is of version {version} of NumPy's format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if file.tell() + math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"an array of shape {shape} is larger than its file")
    file.seek(start)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
