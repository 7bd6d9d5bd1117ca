"""What is odd about a dataset and yet no reason to refuse it; each finding is one line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dql_core.data.dataset import LoadedDataset
from dql_core.data.rewards import RewardTransform, discounted_returns
from dql_core.normalize import CONSTANT_STD

# Discounted returns that a network of ordinary weights reaches soon, by size.
USUAL_VALUES = (1e-2, 1e3)
WANTED_VALUE = 1e2


@dataclass(frozen=True)
class Finding:
    """One line on the data.

    Attributes:
        text: What, how much, and what to do.
        is_warning: False for a mere fact.
    """

    text: str
    is_warning: bool = True


def constant_dimensions(dataset: LoadedDataset) -> Iterator[Finding]:
    """Find fields that never change; the normaliser only centres them, so they do no harm."""
    for kind, fields, consequence in (
        ("observations", dataset.spec.observation, "a policy cannot know what other values mean"),
        ("actions", dataset.spec.action, "a policy can only repeat them"),
    ):
        low = np.full(len(fields), np.inf)
        high = -low
        for episode in dataset.episodes:
            values = getattr(episode, kind)
            low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        constant = np.flatnonzero(high - low <= CONSTANT_STD)
        if len(constant):
            names = ", ".join(f"'{fields[index].name}' = {low[index]:g}" for index in constant)
            yield Finding(
                f"{len(constant)} of {len(fields)} {kind} never change ({names}): {consequence}"
            )


def short_episodes(dataset: LoadedDataset, n_step: int) -> Iterator[Finding]:
    """Find episodes that were cut before a transition of ``n_step`` steps fits into them."""
    needed = max(n_step, 2)
    lengths = [len(episode) for episode in dataset.episodes if not episode.terminated]
    short = [length for length in lengths if length < needed]
    if short:
        yield Finding(
            f"{len(short)} of {len(dataset.episodes)} episodes end without a termination after "
            f"fewer than {needed} transitions (the shortest after {min(short)}): see how the "
            f"recording is cut into episodes"
        )


def reward_scale(
    dataset: LoadedDataset, rewards: RewardTransform, discount: float
) -> Iterator[Finding]:
    """Tell the size of rewards and values; find sizes that critics learn badly.

    Args:
        dataset: Rewards as recorded.
        rewards: Makes of them what the critics learn.
        discount: Weight of the value of the next observation.
    """
    learned = [rewards(episode.rewards) for episode in dataset.episodes]
    every = np.concatenate(learned)
    returns = np.array([of_episode.sum() for of_episode in learned])
    largest = max(np.abs(discounted_returns(one, discount)).max() for one in learned)
    yield Finding(
        f"rewards, as learned: {np.abs(every).mean():.3g} a step on average (absolute), returns "
        f"{returns.mean():.4g} on average ({returns.min():.4g} to {returns.max():.4g}), "
        f"discounted returns up to {largest:.3g} (absolute)",
        is_warning=False,
    )
    if every.min() == every.max():
        yield Finding(
            f"every reward is {every[0]:g}, as learned: values tell no more than how long an "
            f"episode lasts"
        )
    if not USUAL_VALUES[0] <= largest <= USUAL_VALUES[1]:
        factor = 10.0 ** round(math.log10(WANTED_VALUE / largest)) if largest else 1.0
        yield Finding(
            f"discounted returns are up to {largest:.3g}, which critics learn badly (usual are "
            f"{USUAL_VALUES[0]:g} to {USUAL_VALUES[1]:g}): multiply data.reward_scale by "
            f"{factor:g}, or set data.reward_transform"
        )
