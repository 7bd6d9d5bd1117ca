"""Held-out episodes in the units of the evaluation's networks, and what was earned in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.data.checks import are_equal, equal_text, require_finite, reward_range
from dql_core.data.dataset import LoadedDataset
from dql_core.data.return_range import ReturnRange, possible_returns
from dql_core.data.reward_transforms import discounted_returns
from dql_core.data.transitions import AS_RECORDED, make_transitions
from dql_core.errors import DatasetError
from dql_core.normalize import Normalizer

# An action field that barely moves must not be magnified; a share of its range.
SMALLEST_ACTION_STD = 1e-3
# Discounted returns of larger ones may be more than float32 holds.
LARGEST_REWARD = 1e33


@dataclass(frozen=True)
class Recording:
    """M transitions of E episodes over R observation rows; R = M + E.

    Attributes:
        dataset: The episodes in their own units.
        discount: Weight of a reward that is one step further.
        observations: Standardised, shape (R, O).
        rows: Where each transition starts, shape (M,); it leads to the row after.
        actions: Standardised, shape (M, A).
        action_mean: Shape (A,).
        action_std: Shape (A,), positive.
        rewards: As recorded, shape (M,).
        continues: 0 where the task terminated, else 1: what follows counts, also after a
            truncation; shape (M,).
        following: Number of the next transition, shape (M,); -1 at the end of an episode, after
            which nothing is recorded.
        episodes: Number of each transition's episode, shape (M,).
        firsts: Number of each episode's first transition, shape (E,).
        returns: Discounted return from each transition to the end of its episode, shape (M,).
        tails: How much of the value of the episode's last recorded transition is missing from
            it, 0 where the task terminated: discount^(steps to it); shape (M,).
        possible: What no discounted return can exceed.
    """

    dataset: LoadedDataset
    discount: float
    observations: NDArray[np.float32]
    rows: NDArray[np.int64]
    actions: NDArray[np.float32]
    action_mean: NDArray[np.float32]
    action_std: NDArray[np.float32]
    rewards: NDArray[np.float64]
    continues: NDArray[np.float32]
    following: NDArray[np.int64]
    episodes: NDArray[np.int64]
    firsts: NDArray[np.int64]
    returns: NDArray[np.float64]
    tails: NDArray[np.float64]
    possible: ReturnRange

    def __len__(self) -> int:
        """Number of transitions, M."""
        return len(self.rows)

    @property
    def episodes_of_rows(self) -> NDArray[np.int64]:
        """Number of each observation row's episode, shape (R,)."""
        numbers: NDArray[np.int64] = np.repeat(
            np.arange(len(self.firsts)), np.bincount(self.episodes) + 1
        )
        return numbers

    @property
    def expected(self) -> NDArray[np.float64]:
        """Returns, shape (M,), where a truncated episode goes on as it went."""
        means = np.array([np.mean(episode.rewards) for episode in self.dataset.episodes])
        going_on = means[self.episodes] / (1.0 - self.discount)
        expected: NDArray[np.float64] = self.returns + self.tails * going_on
        return expected

    def standardized(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring actions, shape (..., A), to the units of the networks."""
        return (actions - self.action_mean) / self.action_std

    def raw_observations(self) -> NDArray[np.float32]:
        """All observations in their own units, shape (R, O)."""
        return np.concatenate([episode.observations for episode in self.dataset.episodes])


def require_rewards(dataset: LoadedDataset) -> None:
    """Refuse episodes by whose rewards no policy is better than another.

    Equal rewards say something only where the task terminates, sooner or later.

    Raises:
        DatasetError: If every reward is 0, or all are equal and no episode terminates; if one is
            beyond `LARGEST_REWARD`.
    """
    low, high = reward_range(dataset)
    if (largest := max(-low, high)) > LARGEST_REWARD:
        raise DatasetError(
            f"{dataset.source}: rewards are up to {largest:.3g} in size, of which no values can "
            f"be fitted (at most {LARGEST_REWARD:g}); scale them where they are recorded, or give "
            f"it others with 'dql relabel'"
        )
    if low == high == 0:
        raise DatasetError(
            f"{dataset.source}: every reward is 0, by which no policy is better than another; "
            f"give it rewards with 'dql relabel'"
        )
    if are_equal(low, high) and not any(each.terminated for each in dataset.episodes):
        raise DatasetError(
            f"{dataset.source}: every reward is {equal_text(low, high)} and no episode "
            f"terminates, by which no policy is better than another; give it rewards that differ "
            f"with 'dql relabel'"
        )


def lay_out(dataset: LoadedDataset, discount: float) -> Recording:
    """Lay held-out episodes out.

    Args:
        dataset: The episodes.
        discount: From 0 to below 1.

    Raises:
        DatasetError: If a number is not finite.
    """
    require_finite(dataset)
    lengths = np.array([len(episode) for episode in dataset.episodes])
    before_last = np.concatenate([episode.observations[:-1] for episode in dataset.episodes])
    table = make_transitions(dataset, Normalizer.fit(before_last, dataset.spec))
    actions = np.concatenate([episode.actions for episode in dataset.episodes])
    smallest = SMALLEST_ACTION_STD * (dataset.spec.action_high - dataset.spec.action_low)
    mean, std = actions.mean(axis=0), np.maximum(actions.std(axis=0), smallest)
    is_last = np.zeros(len(table), dtype=bool)
    is_last[np.cumsum(lengths) - 1] = True
    returns, tails = _returns(dataset, discount)
    return Recording(
        dataset=dataset,
        discount=discount,
        observations=table.observations,
        rows=table.rows,
        actions=(actions - mean) / std,
        action_mean=mean,
        action_std=std,
        rewards=np.concatenate([episode.rewards for episode in dataset.episodes]).astype(float),
        continues=table.bootstraps,
        following=np.where(is_last, -1, np.arange(len(table)) + 1),
        episodes=np.repeat(np.arange(len(lengths)), lengths),
        firsts=np.cumsum(lengths) - lengths,
        returns=returns,
        tails=tails,
        possible=possible_returns(dataset, AS_RECORDED, discount),
    )


def _returns(
    dataset: LoadedDataset, discount: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recorded returns, and how much of the last transition's value they lack.

    A truncated episode's last reward is a part of that value.
    """
    returns, tails = [], []
    for episode in dataset.episodes:
        rewards = np.asarray(episode.rewards, dtype=np.float64).copy()
        steps_left = np.arange(len(episode) - 1, -1, -1)
        if not episode.terminated:
            rewards[-1] = 0.0
        returns.append(discounted_returns(rewards, discount))
        tails.append(discount**steps_left * (not episode.terminated))
    return np.concatenate(returns), np.concatenate(tails)
