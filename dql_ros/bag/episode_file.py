"""Episodes of one bag in a file, one after the other, until the dataset is put together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from dql_core.data.dataset import Episode


def write_episode(file: IO[bytes], episode: Episode) -> None:
    """Append an episode: four arrays in NumPy's own format."""
    ended = np.array([episode.terminated, episode.truncated])
    for array in (episode.observations, episode.actions, episode.rewards, ended):
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def read_episodes(path: Path) -> Iterator[Episode]:
    """Yield the episodes of a file in their order, one in memory at a time."""
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            arrays = [np.lib.format.read_array(file, allow_pickle=False) for _ in range(4)]
            observations, actions, rewards, (terminated, truncated) = arrays
            yield Episode(observations, actions, rewards, bool(terminated), bool(truncated))
