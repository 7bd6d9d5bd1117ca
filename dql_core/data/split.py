"""Held-out episodes: what training never sees, to measure on."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import LoadedDataset
from dql_core.errors import DatasetError


def split_episodes(
    dataset: LoadedDataset, share: float, seed: int
) -> tuple[LoadedDataset, LoadedDataset | None]:
    """Split a dataset by whole episodes, the same way at each call with the same ``seed``.

    Transitions of one episode resemble each other, so a split within episodes would measure on
    what was learned from.

    Args:
        dataset: Episodes in their stored order, which both parts keep.
        share: Share of the episodes to hold out, in [0, 1); at least one is held out and at
            least one stays if it is not 0.
        seed: Seeds the choice of the held-out episodes.

    Returns:
        The episodes to learn from and the held-out ones; ``None`` if ``share`` is 0.

    Raises:
        DatasetError: If there is only one episode to split.
    """
    if share == 0:
        return dataset, None
    count = len(dataset.episodes)
    if count < 2:
        raise DatasetError(
            f"{dataset.source}: holds one episode and validation.held_out is {share:g}; "
            f"whole episodes are held out, so at least two are needed: set it to 0"
        )
    num_held_out = min(max(round(share * count), 1), count - 1)
    chosen = np.random.default_rng(seed).permutation(count)
    held_out, learned = np.sort(chosen[:num_held_out]), np.sort(chosen[num_held_out:])
    return _part(dataset, learned), _part(dataset, held_out)


def _part(dataset: LoadedDataset, indices: NDArray[np.int64]) -> LoadedDataset:
    episodes = tuple(dataset.episodes[index] for index in indices)
    return dataclasses.replace(dataset, episodes=episodes)
