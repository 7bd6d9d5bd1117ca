"""The paper's reward tunings, all of which are a factor and an offset, and sums of rewards."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import LoadedDataset
from dql_core.data_config import DataConfig
from dql_core.errors import DatasetError

Rewards = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RewardTransform:
    """Rewards as the critics learn them: ``factor * reward + offset``.

    What was measured on the training data applies to held-out data as well.
    """

    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, rewards: Rewards) -> NDArray[np.float64]:
        """Transform rewards of any shape."""
        return rewards.astype(np.float64) * self.factor + self.offset


def fit_rewards(dataset: LoadedDataset, config: DataConfig) -> RewardTransform:
    """Measure what the configured transform needs (`utils/data_sampler.py` of the paper's code).

    Args:
        dataset: The training data.
        config: Its `reward_transform`, `reward_boundaries` and `reward_scale`.

    Raises:
        DatasetError: If the transform divides by a spread and the data has none.
    """
    factor, offset = _transform(dataset, config)
    return RewardTransform(factor * config.reward_scale, offset * config.reward_scale)


def discounted_returns(rewards: Rewards, discount: float) -> NDArray[np.float64]:
    """Return the discounted sum of an episode's rewards from each step to its end, shape (T,)."""
    backwards = accumulate(rewards[::-1].tolist(), lambda later, now: now + discount * later)
    return np.array(list(backwards), dtype=np.float64)[::-1]


def _transform(dataset: LoadedDataset, config: DataConfig) -> tuple[float, float]:
    if config.reward_transform == "normalize":
        rewards = np.concatenate([episode.rewards for episode in dataset.episodes])
        # The unbiased standard deviation, as torch's default is.
        std = float(rewards.std(ddof=1, dtype=np.float64)) if len(rewards) > 1 else 0.0
        mean = rewards.mean(dtype=np.float64)
        if not std > 0:
            raise DatasetError(
                f"{dataset.source}: every reward is {mean:g} and data.reward_transform=normalize "
                f"divides by their spread; set it to none"
            )
        return 1 / std, -mean / std
    if config.reward_transform == "iql_locomotion":
        return 1000 / _range_of_returns(dataset, config), 0.0
    fixed = {
        "none": (1.0, 0.0),
        "iql_antmaze": (1.0, -1.0),
        "cql_antmaze": (4.0, -2.0),  # 4 (r - 0.5)
        "antmaze": (2.0, -0.5),  # 2 (r - 0.25)
    }
    return fixed[config.reward_transform]


def _range_of_returns(dataset: LoadedDataset, config: DataConfig) -> float:
    returns = _returns(dataset, config.reward_boundaries == "termination")
    distance = max(returns) - min(returns) if returns else 0.0
    if not distance > 0:
        found = "no episode terminates" if not returns else f"every return is {returns[0]:g}"
        raise DatasetError(
            f"{dataset.source}: data.reward_transform=iql_locomotion divides by the range of the "
            f"returns and {found} (data.reward_boundaries={config.reward_boundaries}, "
            f"{len(dataset.episodes)} episodes); set another transform or boundary"
        )
    return distance


def _returns(dataset: LoadedDataset, only_terminations: bool) -> list[float]:
    returns, running = [], 0.0
    for episode in dataset.episodes:
        running += float(episode.rewards.sum(dtype=np.float64))
        if episode.terminated or not only_terminations:
            returns.append(running)
            running = 0.0
    return returns  # what runs on after the last termination counts for nothing there
