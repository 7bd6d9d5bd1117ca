"""What a run remembers of its dataset, to know it again."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dql_core.data.dataset import LoadedDataset


def dataset_facts(dataset: LoadedDataset) -> dict[str, Any]:
    """Return size, returns and fingerprint of a dataset as JSON."""
    returns = [float(episode.rewards.sum()) for episode in dataset.episodes]
    return {
        "source": dataset.source,
        "episodes": len(returns),
        "transitions": dataset.num_transitions,
        "mean_return": float(np.mean(returns)),
        "std_return": float(np.std(returns)),
        "sha256": fingerprint(dataset),
    }


def fingerprint(dataset: LoadedDataset) -> str:
    """SHA-256 of all that is learned from, in the order of the episodes."""
    digest = hashlib.sha256()
    for episode in dataset.episodes:
        for array in (episode.observations, episode.actions, episode.rewards):
            digest.update(np.ascontiguousarray(array).data)
        digest.update(f"{len(episode)} {episode.terminated}".encode())
    return digest.hexdigest()
