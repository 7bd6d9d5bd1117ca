"""What must hold before a dataset is worth an hour of training; each breach is one line.

What is odd about a dataset and yet no reason to refuse it; each finding is one line.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.config import TrainConfig
from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.reward_transforms import RewardTransform, discounted_returns, fit_rewards
from dql_core.errors import DatasetError
from dql_core.normalize import CONSTANT_STD
from dql_core.spec import PolicySpec

# Rounding of a recorded bound is not a breach of it; relative to the action's range.
BOUND_TOLERANCE = 1e-5
# Discounted returns that a network of ordinary weights reaches soon, by size.
USUAL_VALUES = (1e-2, 1e3)
WANTED_VALUE = 1e2


def check_dataset(
    dataset: LoadedDataset, config: TrainConfig
) -> tuple[LoadedDataset, tuple[Finding, ...]]:
    """Check everything that training relies on.

    Returns:
        The dataset with its actions within their bounds, and what is odd about it.

    Raises:
        DatasetError: If it cannot be learned from.
    """
    require_finite(dataset)
    findings = [*constant_dimensions(dataset), *short_episodes(dataset, config.data.n_step)]
    if config.agent != "diffusion_bc":
        require_rewards(dataset, config.agent)
        rewards = fit_rewards(dataset, config.data)
        findings += reward_scale(dataset, rewards, config.critic.discount)
    bounded, clipped = within_bounds(dataset, clip=config.data.out_of_bounds == "clip")
    return bounded, (*findings, *clipped)


def require_finite(dataset: LoadedDataset) -> None:
    """Refuse NaN and infinity.

    Raises:
        DatasetError: Naming the episode, step and field of the first one.
    """
    for index, episode in enumerate(dataset.episodes):
        for kind in ("observations", "actions", "rewards"):
            values = getattr(episode, kind)
            finite = np.isfinite(values)
            if not finite.all():
                bad = np.argwhere(~finite)
                field = _field_name(dataset.spec, kind, bad[0])
                raise DatasetError(
                    f"{dataset.source}: {field} is {values[tuple(bad[0])]} in episode {index} at "
                    f"step {bad[0][0]} ({len(bad)} such values in this episode); drop the episode "
                    f"or mend the recording"
                )


def require_rewards(dataset: LoadedDataset, agent: str) -> None:
    """Refuse a dataset in which nothing was ever rewarded: no value can be learned from it.

    Raises:
        DatasetError: If every reward is 0.
    """
    if not any(np.any(episode.rewards != 0) for episode in dataset.episodes):
        raise DatasetError(
            f"{dataset.source}: every reward is 0 and {agent} learns from rewards; name a "
            f"reward in the contract and convert again, or imitate with agent: diffusion_bc"
        )


def within_bounds(
    dataset: LoadedDataset, *, clip: bool
) -> tuple[LoadedDataset, tuple[Finding, ...]]:
    """Return a dataset whose actions lie within the bounds of its spec.

    Args:
        dataset: The dataset.
        clip: Clip actions beyond the bounds instead of refusing them.

    Returns:
        The dataset, and a finding if anything was clipped.

    Raises:
        DatasetError: If actions are beyond the bounds and are not to be clipped; names the worst.
    """
    low, high = dataset.spec.action_low, dataset.spec.action_high
    count, worst = 0, (-np.inf, 0, np.float32(0))  # excess in ranges, column, value
    for episode in dataset.episodes:
        excess = np.maximum(low - episode.actions, episode.actions - high) / (high - low)
        count += int((excess > BOUND_TOLERANCE).any(axis=1).sum())
        row, column = np.unravel_index(np.argmax(excess), excess.shape)
        worst = max(worst, (excess[row, column], int(column), episode.actions[row, column]))
    if worst[0] <= 0:
        return dataset, ()
    told = _beyond_bounds(dataset, count, *worst[1:])
    if count and not clip:
        raise DatasetError(
            f"{dataset.source}: {told}; widen the bounds (contract, --low and --high of "
            f"'dql import'), or set data.out_of_bounds=clip"
        )
    episodes = tuple(_clipped(episode, low, high) for episode in dataset.episodes)
    findings = (Finding(f"{told}: clipped"),) if count else ()
    return dataclasses.replace(dataset, episodes=episodes), findings


def _beyond_bounds(dataset: LoadedDataset, count: int, column: int, value: np.float32) -> str:
    field = dataset.spec.action[column]
    return (
        f"{count} of {dataset.num_transitions} actions are beyond their bounds, the farthest is "
        f"{field.name} = {value:g} outside [{field.low:g}, {field.high:g}]"
    )


def _clipped(episode: Episode, low: NDArray[np.float32], high: NDArray[np.float32]) -> Episode:
    return dataclasses.replace(episode, actions=np.clip(episode.actions, low, high))


def _field_name(spec: PolicySpec, kind: str, position: NDArray[np.int64]) -> str:
    if kind == "rewards":
        return "the reward"
    fields = spec.observation if kind == "observations" else spec.action
    return f"{kind.removesuffix('s')} '{fields[int(position[1])].name}'"


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
