"""Values that run away: the most frequent failure of the method, told as soon as it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.rewards import RewardTransform, discounted_returns, fit_rewards


@dataclass(frozen=True)
class ValueLimit:
    """How large values may be.

    Attributes:
        largest_return: Largest absolute discounted return that the data allows.
        factor: How many times that the mean |Q| may be.
    """

    largest_return: float
    factor: float

    @property
    def limit(self) -> float:
        """The mean |Q| beyond which values are no estimates any more."""
        return self.factor * self.largest_return

    def alarm(self, q_magnitude: float) -> str:
        """Return the line that tells of values beyond the limit."""
        return (
            f"mean |Q| is {q_magnitude:.3g}, the data allows returns up to "
            f"{self.largest_return:.3g}: the critics are diverging; stop, and set "
            f"critic.layer_norm=true, lower policy.eta or data.reward_scale, or set "
            f"critic.max_q_samples=1 (validation.divergence_factor is {self.factor:g})"
        )


def value_limit(config: TrainConfig, dataset: LoadedDataset) -> ValueLimit:
    """Measure what values the data allows, in the units of the critics.

    Args:
        config: The training configuration.
        dataset: The training data.
    """
    rewards = fit_rewards(dataset, config.data)
    discount = config.critic.discount
    largest = max(_largest_return(each, rewards, discount) for each in dataset.episodes)
    return ValueLimit(largest, config.validation.divergence_factor)


def _largest_return(episode: Episode, rewards: RewardTransform, discount: float) -> float:
    """Largest absolute return of an episode; one that was cut goes on as it went on average."""
    earned = rewards(episode.rewards)
    returns = discounted_returns(earned, discount)
    if not episode.terminated:
        steps_left = np.arange(len(earned), 0, -1)
        returns = returns + discount**steps_left * earned.mean() / (1.0 - discount)
    return float(max(np.abs(returns).max(), np.abs(earned).max()))
