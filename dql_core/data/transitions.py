"""All transitions of a dataset in the units of the networks, without a second copy of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import LoadedDataset
from dql_core.normalize import Normalizer


@dataclass(frozen=True)
class TransitionTable:
    """M transitions over R observation rows; R = M + the number of episodes.

    Transition m leads from row ``rows[m]`` to row ``rows[m] + 1`` of ``observations``. The last
    row of an episode starts no transition, so none crosses into the next episode.

    Attributes:
        observations: Normalised observations of all episodes, shape (R, O), float32.
        rows: Where each transition starts, shape (M,), int64.
        actions: In [-1, 1], shape (M, A), float32.
        rewards: Scaled rewards, shape (M,), float32.
        bootstraps: Whether a value follows: 0 where the task terminated, else 1 (a truncation
            does not end the value), shape (M,), float32.
    """

    observations: NDArray[np.float32]
    rows: NDArray[np.int64]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    bootstraps: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of transitions, M."""
        return len(self.rows)


def make_transitions(
    dataset: LoadedDataset, normalizer: Normalizer, reward_scale: float = 1.0
) -> TransitionTable:
    """Lay the episodes of ``dataset`` out as one table.

    Args:
        dataset: Episodes in their own units.
        normalizer: Brings observations and actions to the units of the networks.
        reward_scale: Multiplies every reward.
    """
    episodes = dataset.episodes
    lengths = np.array([len(episode) for episode in episodes])
    first_rows = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
    rows = [first + np.arange(n) for first, n in zip(first_rows, lengths, strict=True)]
    bootstraps = np.ones(lengths.sum(), dtype=np.float32)
    last_transitions = np.cumsum(lengths) - 1
    bootstraps[last_transitions] = [0.0 if episode.terminated else 1.0 for episode in episodes]
    rewards = np.concatenate([episode.rewards for episode in episodes]) * reward_scale
    return TransitionTable(
        observations=normalizer.observation(np.concatenate([e.observations for e in episodes])),
        rows=np.concatenate(rows).astype(np.int64),
        actions=normalizer.action(np.concatenate([episode.actions for episode in episodes])),
        rewards=rewards.astype(np.float32),
        bootstraps=bootstraps,
    )
