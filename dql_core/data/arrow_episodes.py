"""Episodes of a Minari dataset that is stored as Arrow or Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from gymnasium.spaces import Box, Dict, Space, Tuple
from minari.dataset.episode_data import EpisodeData
from minari.dataset.minari_dataset import MinariDataset
from numpy.typing import NDArray

ARROW_FORMATS = ("arrow", "parquet")


def iterate_arrow_episodes(dataset: MinariDataset, data_format: str) -> Iterator[EpisodeData]:
    """Read the episodes one after the other, without their infos.

    Minari's own reader takes the first record batch for the whole episode, so that it loses all
    that follows the 32,768th row of a longer one.

    Args:
        dataset: Its spaces hold Boxes, alone or in Dicts and Tuples.
        data_format: One of `ARROW_FORMATS`.
    """
    for index in dataset.episode_indices.tolist():
        folder = Path(dataset.storage.data_path) / str(index)
        files = pa.dataset.dataset(folder, format=data_format, ignore_prefixes=["metadata"])
        columns = files.to_table().combine_chunks()
        # Rows are observations: the last one has no action, and Minari pads it.
        flags = {
            name: columns[name].to_numpy()[:-1]
            for name in ("rewards", "terminations", "truncations")
        }
        yield EpisodeData(
            id=index,
            observations=_decode(dataset.observation_space, columns["observations"].chunk(0)),
            actions=_decode(dataset.action_space, columns["actions"].chunk(0)[:-1]),
            infos={},
            **flags,
        )


def _decode(space: Space[Any], column: pa.Array) -> Any:
    if isinstance(space, Dict):
        return {key: _decode(part, column.field(key)) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_decode(part, column.field(str(i))) for i, part in enumerate(space.spaces))
    assert isinstance(space, Box)
    values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return np.reshape(values, (len(column), *space.shape))
