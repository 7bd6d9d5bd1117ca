"""What must hold before a dataset is worth an hour of training, and what is unusual about it."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dql_core.config import TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.data.reward_transforms import RewardTransform, discounted_returns, fit_rewards
from dql_core.data.sampling import weight_findings
from dql_core.errors import DatasetError
from dql_core.normalize import divisors, smallest_step

# Rounding of a recorded bound is not a breach of it; relative to the action's range.
BOUND_TOLERANCE = 1e-5
# Discounted returns that a network of ordinary weights reaches soon, by size.
USUAL_VALUES = (1e-2, 1e3)
WANTED_VALUE = 1e2
# Where fewer of all chunks have all their actions, this is worth a warning.
FEWEST_WHOLE_CHUNKS = 0.1
FLOAT32 = np.finfo(np.float32)
# Rewards that differ by no more than this share of their size are taken as equal.
EQUAL_REWARDS = 0.02
# Of smaller ones no power of ten makes rewards of an ordinary size.
SMALLEST_REWARD = sys.float_info.min


@dataclass(frozen=True)
class Finding:
    """One line on the data, which is no reason to refuse it.

    Attributes:
        text: What, how much, and what to do.
        is_warning: False for a mere fact.
    """

    text: str
    is_warning: bool = True


def reward_range(dataset: LoadedDataset) -> tuple[float, float]:
    """Return the smallest and the largest reward."""
    rewards = [episode.rewards for episode in dataset.episodes]
    return float(min(each.min() for each in rewards)), float(max(each.max() for each in rewards))


def are_equal(low: float, high: float) -> bool:
    """Whether rewards from ``low`` to ``high`` are taken as equal."""
    return high - low <= max(EQUAL_REWARDS * max(-low, high), SMALLEST_REWARD)


def equal_text(low: float, high: float) -> str:
    """Return what every reward is, where `are_equal` takes them as equal."""
    return f"{low:.4g}" if low == high else f"about {low:.4g}"


def check_dataset(
    dataset: LoadedDataset, config: TrainConfig
) -> tuple[LoadedDataset, tuple[Finding, ...]]:
    """Check everything that training relies on.

    Returns:
        The dataset with its actions within their bounds, and what is unusual about it.

    Raises:
        DatasetError: If it cannot be learned from.
    """
    require_finite(dataset)
    findings = list(_constant_dimensions(dataset))
    if config.data.normalize_observations:
        findings += _nearly_constant_observations(dataset)
    findings += _short_episodes(dataset, config)
    if config.policy.horizon > 1:
        findings += _chunks(dataset, config.policy.horizon)
    findings += (Finding(*each) for each in weight_findings(dataset, config.data))
    if config.learns_values:
        if not any(np.any(episode.rewards != 0) for episode in dataset.episodes):
            raise DatasetError(
                f"{dataset.source}: every reward is 0 and {config.agent} learns from rewards; "
                f"name a reward in the contract and convert again, or imitate with "
                f"agent: diffusion_bc"
            )
        rewards = fit_rewards(dataset, config.data)
        findings += _reward_scale(dataset, rewards, config.critic.discount)
    bounded, clipped = _within_bounds(dataset, clip=config.data.out_of_bounds == "clip")
    return bounded, (*findings, *clipped)


def require_finite(dataset: LoadedDataset) -> None:
    """Refuse NaN and infinity.

    Raises:
        DatasetError: Naming the episode, step and field of the first one.
    """
    fields = {"observations": dataset.spec.observation, "actions": dataset.spec.action}
    for index, episode in enumerate(dataset.episodes):
        for kind in ("observations", "actions", "rewards"):
            values = getattr(episode, kind)
            bad = np.argwhere(~np.isfinite(values))
            if not len(bad):
                continue
            step, *column = (int(position) for position in bad[0])
            name = f" '{fields[kind][column[0]].name}'" if column else ""
            what = f"{kind[:-1]}{name}" if column else "the reward"
            raise DatasetError(
                f"{dataset.source}: {what} is {values[tuple(bad[0])]} in episode {index} at "
                f"step {step} ({len(bad)} such values in this episode); drop the episode or "
                f"correct the recording"
            )


def _within_bounds(
    dataset: LoadedDataset, *, clip: bool
) -> tuple[LoadedDataset, tuple[Finding, ...]]:
    """Return a dataset whose actions lie within the bounds, and a finding if any was clipped."""
    low, high = dataset.spec.action_low, dataset.spec.action_high
    count, worst = 0, (-np.inf, 0, np.float32(0))  # excess in ranges, column, value
    for episode in dataset.episodes:
        excess = np.maximum(low - episode.actions, episode.actions - high) / (high - low)
        count += int((excess > BOUND_TOLERANCE).any(axis=1).sum())
        row, column = np.unravel_index(np.argmax(excess), excess.shape)
        worst = max(worst, (excess[row, column], int(column), episode.actions[row, column]))
    if worst[0] <= 0:
        return dataset, ()
    field = dataset.spec.action[worst[1]]
    text = (
        f"{count} of {dataset.num_transitions} actions are beyond their bounds, the farthest is "
        f"{field.name} = {worst[2]:g} outside [{field.low:g}, {field.high:g}]"
    )
    if count and not clip:
        raise DatasetError(
            f"{dataset.source}: {text}; widen the bounds (contract, --low and --high of "
            f"'dql import'), or set data.out_of_bounds=clip"
        )
    episodes = tuple(
        dataclasses.replace(episode, actions=np.clip(episode.actions, low, high))
        for episode in dataset.episodes
    )
    findings = (Finding(f"{text}: clipped"),) if count else ()
    return dataclasses.replace(dataset, episodes=episodes), findings


def _constant_dimensions(dataset: LoadedDataset) -> Iterator[Finding]:
    """Find fields that never change; the normaliser only centres them, so they do no harm."""
    for kind, fields, consequence in (
        ("observations", dataset.spec.observation, "a policy cannot know what other values mean"),
        ("actions", dataset.spec.action, "a policy can only repeat them"),
    ):
        low, high = _extremes([getattr(episode, kind) for episode in dataset.episodes])
        constant = np.flatnonzero(low == high)
        if len(constant):
            names = ", ".join(f"'{fields[index].name}' = {low[index]:g}" for index in constant)
            yield Finding(
                f"{len(constant)} of {len(fields)} {kind} never change ({names}): {consequence}"
            )


def _nearly_constant_observations(dataset: LoadedDataset) -> Iterator[Finding]:
    """Find observations that move by less than the normaliser would magnify to 1, a line each."""
    rows = [episode.observations[:-1] for episode in dataset.episodes]
    low, high = _extremes(rows)
    # From the lowest value, so that nothing cancels; an episode at a time, for the memory.
    sums = np.zeros((2, len(low)))
    for each in rows:
        above = each.astype(np.float64) - low
        sums += above.sum(axis=0), np.square(above).sum(axis=0)
    mean, mean_square = sums / sum(map(len, rows))
    std = np.sqrt(np.maximum(mean_square - mean**2, 0.0))
    fields, magnitude = dataset.spec.observation, np.maximum(np.abs(low), np.abs(high))
    used, step = divisors(fields, std, magnitude), smallest_step(magnitude)
    for index in np.flatnonzero((std < used) & (low != high)):
        field, unit = fields[index], fields[index].unit and f" {fields[index].unit}"
        change = (
            f"observation '{field.name}' hardly changes: {low[index]:.9g} to {high[index]:.9g}"
            f"{unit}, standard deviation {std[index]:.2g}; it is divided by {used[index]:.2g}, "
            f"so that noise is not magnified"
        )
        if std[index] < step[index]:
            yield Finding(f"{change}; float32 rounds it: give an 'offset' in the contract")
        else:
            yield Finding(
                f"{change}; if these changes matter, give narrow 'low' and 'high', or a 'scale', "
                f"in the contract"
            )


def _extremes(
    rows: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return smallest and largest value of each field, both shape (n,)."""
    low: NDArray[np.float32] = np.min([each.min(axis=0) for each in rows], axis=0)
    high: NDArray[np.float32] = np.max([each.max(axis=0) for each in rows], axis=0)
    return low, high


def _short_episodes(dataset: LoadedDataset, config: TrainConfig) -> Iterator[Finding]:
    """Find episodes that were cut before a transition of ``n_step`` steps fits into them."""
    needed = max(config.data.n_step, 2) if config.learns_values else 2
    lengths = [len(episode) for episode in dataset.episodes if not episode.terminated]
    short = [length for length in lengths if length < needed]
    if short:
        yield Finding(
            f"{len(short)} of {len(dataset.episodes)} episodes end without a termination after "
            f"fewer than {needed} transitions (the shortest after {min(short)}): see how the "
            f"recording is cut into episodes"
        )


def _chunks(dataset: LoadedDataset, horizon: int) -> Iterator[Finding]:
    """Count chunks of actions, and those that are whole; find episodes into which none fits.

    Raises:
        DatasetError: If none is whole: of its last actions none would be imitated.
    """
    lengths = [len(episode) for episode in dataset.episodes]
    if max(lengths) < horizon:
        raise DatasetError(
            f"{dataset.source}: the longest episode has {max(lengths)} steps, and a chunk of "
            f"policy.horizon: {horizon} fits into none: lower it, or record longer episodes"
        )
    recorded = dataset.chunks(horizon)[1]
    number, cut = len(recorded), int((recorded < horizon).sum())
    share = f"; {cut:,} are cut short by a termination" if cut else ""
    is_seldom_whole = number - cut < FEWEST_WHOLE_CHUNKS * number
    remedy = "; the last actions of a chunk are learned from few: lower policy.horizon"
    yield Finding(
        f"a chunk of policy.horizon: {horizon} begins in {number:,} of "
        f"{sum(lengths):,} steps: in all but the last {horizon - 1} of an episode that was "
        f"truncated{share}{remedy if is_seldom_whole else ''}",
        is_warning=is_seldom_whole,
    )
    cut_off = [len(episode) for episode in dataset.episodes if not episode.terminated]
    short = [length for length in cut_off if length < horizon]
    if short:
        yield Finding(
            f"{len(short)} of {len(lengths)} episodes were truncated before a chunk of "
            f"policy.horizon: {horizon} was over (the shortest has {min(short)} steps): nothing "
            f"is learned of their {sum(short)} steps"
        )


def _reward_scale(
    dataset: LoadedDataset, rewards: RewardTransform, discount: float
) -> Iterator[Finding]:
    """Report the size of rewards and values; find sizes that critics learn badly."""
    learned = [rewards(episode.rewards) for episode in dataset.episodes]
    every = np.concatenate(learned)
    with np.errstate(over="ignore"):
        largest = max(np.abs(discounted_returns(one, discount)).max() for one in learned)
    if largest and not FLOAT32.tiny <= largest <= FLOAT32.max:
        raise DatasetError(
            f"{dataset.source}: discounted returns are up to {largest:.3g}, as learned, which "
            f"float32 cannot hold: bring them nearer to 1 by data.reward_scale, or scale the "
            f"rewards where they are recorded"
        )
    returns = np.array([of_episode.sum() for of_episode in learned])
    yield Finding(
        f"rewards, as learned: {np.abs(every).mean():.3g} a step on average (absolute), returns "
        f"{returns.mean():.4g} on average ({returns.min():.4g} to {returns.max():.4g}), "
        f"discounted returns up to {largest:.3g} (absolute)",
        is_warning=False,
    )
    if every.min() == every.max():
        yield Finding(
            f"every reward is {every[0]:g}, as learned: values say no more than how long an "
            f"episode lasts"
        )
    if not USUAL_VALUES[0] <= largest <= USUAL_VALUES[1]:
        factor = 10.0 ** round(math.log10(WANTED_VALUE / largest)) if largest else 1.0
        yield Finding(
            f"discounted returns are up to {largest:.3g}, which critics learn badly (usual are "
            f"{USUAL_VALUES[0]:g} to {USUAL_VALUES[1]:g}): multiply data.reward_scale by "
            f"{factor:g}, or set data.reward_transform"
        )
