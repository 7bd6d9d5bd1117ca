"""What must hold before a dataset is worth an hour of training; each breach is one line."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.errors import DatasetError
from dql_core.spec import PolicySpec

# Rounding of a recorded bound is not a breach of it; relative to the action's range.
BOUND_TOLERANCE = 1e-5


def require_finite(dataset: LoadedDataset) -> None:
    """Refuse NaN and infinity.

    Raises:
        DatasetError: Naming the episode, step and field of the first one.
    """
    for index, episode in enumerate(dataset.episodes):
        for kind in ("observations", "actions", "rewards"):
            values = getattr(episode, kind)
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                field = _field_name(dataset.spec, kind, bad[0])
                raise DatasetError(
                    f"{dataset.source}: {field} is {values[tuple(bad[0])]} in episode {index} at "
                    f"step {bad[0][0]} ({len(bad)} such values in this episode); drop the episode "
                    f"or mend the recording"
                )


def require_rewards(dataset: LoadedDataset) -> None:
    """Refuse a dataset in which nothing was ever rewarded: no value can be learned from it.

    Raises:
        DatasetError: If every reward is 0.
    """
    if not any(np.any(episode.rewards != 0) for episode in dataset.episodes):
        raise DatasetError(
            f"{dataset.source}: every reward is 0 and diffusion_ql learns from rewards; name a "
            f"reward in the contract and convert again, or imitate with agent: diffusion_bc"
        )


def within_bounds(dataset: LoadedDataset, *, clip: bool) -> LoadedDataset:
    """Return a dataset whose actions lie within the bounds of its spec.

    Args:
        dataset: The dataset.
        clip: Clip actions beyond the bounds instead of refusing them.

    Raises:
        DatasetError: If actions are beyond the bounds and are not to be clipped; names the worst.
    """
    low, high = dataset.spec.action_low, dataset.spec.action_high
    actions = np.concatenate([episode.actions for episode in dataset.episodes])
    excess = np.maximum(low - actions, actions - high)  # (M, A)
    beyond = excess > BOUND_TOLERANCE * (high - low)
    if beyond.any() and not clip:
        raise DatasetError(_beyond_bounds(dataset, actions, excess, beyond))
    episodes = tuple(_clipped(episode, low, high) for episode in dataset.episodes)
    return dataclasses.replace(dataset, episodes=episodes)


def _beyond_bounds(
    dataset: LoadedDataset,
    actions: NDArray[np.float32],
    excess: NDArray[np.float32],
    beyond: NDArray[np.bool_],
) -> str:
    row, column = np.unravel_index(np.argmax(excess), excess.shape)
    field = dataset.spec.action[int(column)]
    return (
        f"{dataset.source}: {int(beyond.any(axis=1).sum())} of {len(actions)} actions are beyond "
        f"their bounds, the farthest is {field.name} = {actions[row, column]:g} outside "
        f"[{field.low:g}, {field.high:g}]; widen the contract, or set data.out_of_bounds=clip"
    )


def _clipped(episode: Episode, low: NDArray[np.float32], high: NDArray[np.float32]) -> Episode:
    return dataclasses.replace(episode, actions=np.clip(episode.actions, low, high))


def _field_name(spec: PolicySpec, kind: str, position: NDArray[np.int64]) -> str:
    if kind == "rewards":
        return "the reward"
    fields = spec.observation if kind == "observations" else spec.action
    return f"{kind.removesuffix('s')} '{fields[int(position[1])].name}'"
