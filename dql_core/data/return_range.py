"""Which discounted returns a dataset's rewards allow, and which ones were recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.reward_transforms import RewardTransform, discounted_returns


@dataclass(frozen=True)
class ReturnRange:
    """The smallest and the largest of some discounted returns, in the units of the critics."""

    low: float
    high: float

    def __str__(self) -> str:
        """Return both in words."""
        return f"{self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Horizon:
    """How many steps a return can have.

    Attributes:
        shortest: The fewest; infinite where no episode terminates.
        longest: The most; infinite where an episode is truncated, since its value goes on.
    """

    shortest: float
    longest: float

    @classmethod
    def of(cls, dataset: LoadedDataset) -> Horizon:
        """Return that of a dataset."""
        ends = {episode.terminated for episode in dataset.episodes}
        longest = max(len(episode) for episode in dataset.episodes)
        return cls(1 if True in ends else math.inf, math.inf if False in ends else longest)

    def __str__(self) -> str:
        """Return the longest in words."""
        return "without end" if math.isinf(self.longest) else f"up to {self.longest:g} steps long"


def possible_returns(
    dataset: LoadedDataset, rewards: RewardTransform, discount: float
) -> ReturnRange:
    r"""Return what no discounted return from any state can exceed.

    The largest or smallest reward of a single step is earned in every one of H steps:
    :math:`r (1 - \gamma^H) / (1 - \gamma)`, with the longest or shortest H, whichever gives more.

    Args:
        dataset: What is learned from.
        rewards: Brings its rewards to the units of the critics.
        discount: gamma, below 1.
    """
    earned = [rewards(episode.rewards) for episode in dataset.episodes]
    horizon = Horizon.of(dataset)
    sums = [_sum(discount, steps) for steps in (horizon.shortest, horizon.longest)]
    smallest, largest = min(map(np.min, earned)), max(map(np.max, earned))
    return ReturnRange(
        low=float(min(smallest * total for total in sums)),
        high=float(max(largest * total for total in sums)),
    )


def recorded_returns(
    dataset: LoadedDataset, rewards: RewardTransform, discount: float
) -> ReturnRange:
    """Return the range of the discounted returns from any step to the end of its episode.

    Zero, with which critics begin, and every single reward are within it. A truncated episode is
    taken to go on as it went on average.

    Args:
        dataset: What is learned from.
        rewards: Brings its rewards to the units of the critics.
        discount: gamma, below 1.
    """
    ranges = [_recorded(episode, rewards, discount) for episode in dataset.episodes]
    return ReturnRange(min(each.low for each in ranges), max(each.high for each in ranges))


def _sum(discount: float, steps: float) -> float:
    """Return the sum of the first ``steps`` powers of the discount."""
    return float((1.0 - discount**steps) / (1.0 - discount))


def _recorded(episode: Episode, rewards: RewardTransform, discount: float) -> ReturnRange:
    earned = rewards(episode.rewards)
    returns = discounted_returns(earned, discount)
    if not episode.terminated:
        steps_left = np.arange(len(earned), 0, -1)
        returns = returns + discount**steps_left * earned.mean() / (1.0 - discount)
    values = np.concatenate([returns, earned, [0.0]])
    return ReturnRange(float(values.min()), float(values.max()))
