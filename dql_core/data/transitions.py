"""The transitions of a dataset in the units of the networks, and random batches of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dql_core.data.dataset import LoadedDataset
from dql_core.data.reward_transforms import RewardTransform
from dql_core.data.sampling import Stratum
from dql_core.errors import DatasetError
from dql_core.normalize import Normalizer

AS_RECORDED = RewardTransform()


@dataclass(frozen=True)
class TransitionTable:
    """M transitions of N steps over R observation rows, none stored twice; R = N + episodes.

    Transition m leads from row ``rows[m]`` to row ``next_rows[m]`` of ``observations``, which is
    ``n_step`` rows further, or the last row of the episode if that comes first. That row starts
    no transition, so none crosses into the next episode. A transition of a chunk is ``horizon``
    rows long, or shorter where the task terminates within it (see `LoadedDataset.chunks`).

    Attributes:
        observations: Normalised observations of all episodes, shape (R, O), float32.
        rows: Where each transition starts, shape (M,), int64.
        next_rows: Where it leads to, shape (M,), int64.
        actions: Of all steps, in [-1, 1], and so many of the first ones again that a chunk can be
            read from any step; shape (N + H - 1, A), float32.
        rewards: Transformed rewards of the k steps between the rows, the later ones discounted:
            sum over i < k of discount^i r_i; shape (M,), float32.
        bootstraps: How much of the discounted value that follows counts: 0 where the task
            terminated, else discount^(k - 1), which is 1 for a single step; a truncation does
            not end the value. The target is rewards + discount * bootstraps * value. Shape (M,),
            float32.
        starts: Number of each transition's first step among all, shape (M,), int64; None if
            transition m starts in step m.
        horizon: Actions of a chunk, H.
    """

    observations: NDArray[np.float32]
    rows: NDArray[np.int64]
    next_rows: NDArray[np.int64]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    bootstraps: NDArray[np.float32]
    starts: NDArray[np.int64] | None = None
    horizon: int = 1

    def __len__(self) -> int:
        """Number of transitions, M."""
        return len(self.rows)


def make_transitions(
    dataset: LoadedDataset,
    normalizer: Normalizer,
    rewards: RewardTransform = AS_RECORDED,
    *,
    n_step: int = 1,
    discount: float = 1.0,
    horizon: int = 1,
) -> TransitionTable:
    """Lay the episodes of ``dataset`` out as one table, one at a time: no row is copied twice.

    Args:
        dataset: Episodes in their own units.
        normalizer: Brings observations and actions to the units of the networks.
        rewards: Brings rewards to the units of the critics.
        n_step: Steps that a transition spans, unless its episode ends before.
        discount: Weight of a reward that is one step further; matters if a transition spans more
            than one.
        horizon: Actions of a chunk: with more than 1 a transition spans so many steps, or those
            until the task terminates.
    """
    episodes, spec = dataset.episodes, dataset.spec
    lengths = np.array([len(episode) for episode in episodes])
    ends = np.cumsum(lengths)  # transition after the last of each episode
    observations = np.empty((ends[-1] + len(episodes), len(spec.observation)), dtype=np.float32)
    actions = np.empty((ends[-1] + horizon - 1, len(spec.action)), dtype=np.float32)
    single_step = np.empty(ends[-1])
    for index, (episode, end) in enumerate(zip(episodes, ends.tolist(), strict=True)):
        first = end - len(episode)
        observations[first + index : end + index + 1] = normalizer.observation(
            episode.observations
        )
        actions[first:end] = normalizer.action(episode.actions)
        single_step[first:end] = rewards(episode.rewards)
    actions[ends[-1] :] = np.resize(actions[: ends[-1]], (horizon - 1, len(spec.action)))
    starts = dataset.starts(horizon)
    rows = starts + np.repeat(np.arange(len(episodes)), lengths)[starts]
    steps = np.minimum(max(n_step, horizon), np.repeat(ends, lengths)[starts] - starts)
    return TransitionTable(
        observations=observations,
        rows=rows,
        next_rows=rows + steps,
        actions=actions,
        rewards=_summed(single_step, starts, steps, discount).astype(np.float32),
        bootstraps=_bootstraps(dataset, ends, starts + steps, steps, discount),
        starts=None if horizon == 1 else starts,
        horizon=horizon,
    )


def _summed(
    rewards: NDArray[np.float64],
    starts: NDArray[np.int64],
    steps: NDArray[np.int64],
    discount: float,
) -> NDArray[np.float64]:
    """Return the discounted sum of ``steps[m]`` rewards from step ``starts[m]`` on, shape (M,)."""
    total = rewards[starts]
    for ahead in range(1, int(steps.max())):
        spanning = np.flatnonzero(steps > ahead)
        total[spanning] += discount**ahead * rewards[starts[spanning] + ahead]
    return total


def _bootstraps(
    dataset: LoadedDataset,
    ends: NDArray[np.int64],
    reached: NDArray[np.int64],
    steps: NDArray[np.int64],
    discount: float,
) -> NDArray[np.float32]:
    terminated = np.zeros(ends[-1] + 1, dtype=bool)
    terminated[ends] = [episode.terminated for episode in dataset.episodes]
    return np.where(terminated[reached], 0.0, discount ** (steps - 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Batch:
    """B transitions in the units of the networks.

    Attributes:
        observation: Shape (B, O).
        action: In [-1, 1], shape (B, A); of a chunk all its actions, the first one first, shape
            (B, H * A).
        reward: Of the step, or of all steps that a transition spans; shape (B,).
        next_observation: Shape (B, O).
        bootstrap: How much of the discounted next value counts: 0 where the task terminated, else
            1, or less after several steps (see `TransitionTable`); shape (B,).
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    bootstrap: Tensor

    @property
    def mask(self) -> Tensor | None:
        """1 for what there is to imitate of ``action``, 0 for the rest; None if all of it."""
        return None


@dataclass(frozen=True)
class ChunkBatch(Batch):
    """B transitions of chunks.

    Attributes:
        recorded: 1 for recorded actions, 0 for those behind a termination, in whose place are
            actions of other chunks: any have the same value there, and none is to be imitated.
            Shape (B, H * A).
    """

    recorded: Tensor

    @property
    def mask(self) -> Tensor:
        """What is recorded."""
        return self.recorded


class BatchSampler:
    """Draws with replacement; its generator's state is all there is to resume from.

    Args:
        table: What is drawn from.
        batch_size: B.
        generator: Source of the indices.
        device: Where batches are to be.
        strata: How often what is drawn; if there is none, all equally often.
        dropout: At which share of the transitions that are drawn some fields are 0 in both
            observations, which is their mean.
        dropped: Positions of these fields.

    Attributes:
        generator: Source of the indices, on the CPU whatever the device is.
    """

    def __init__(
        self,
        table: TransitionTable,
        batch_size: int,
        generator: torch.Generator,
        device: str,
        strata: Sequence[Stratum] = (),
        dropout: float = 0.0,
        dropped: Sequence[int] = (),
    ) -> None:
        """Bring ``table`` to ``device`` once; on the CPU its arrays are used as they are."""
        self.generator = generator
        self._dropout = dropout
        self._is_dropped = torch.zeros(table.observations.shape[1], dtype=torch.bool)
        self._is_dropped[list(dropped)] = True
        self._batch_size = batch_size
        self._strata = tuple(strata)
        self._table = {
            name: torch.as_tensor(array, device=device)
            for name, array in vars(table).items()
            if isinstance(array, np.ndarray)
        }
        self._actions = _windows(self._table["actions"], table.horizon)
        self._place = torch.arange(table.horizon, device=device)
        self._place = self._place.repeat_interleave(table.actions.shape[1])  # (H * A,)
        self._horizon = table.horizon

    def draw(self) -> Batch:
        """Draw the next batch."""
        if self._strata:
            index = torch.cat([each.draw(self.generator) for each in self._strata])
        else:
            count = len(self._table["rows"])
            index = torch.randint(count, (self._batch_size,), generator=self.generator)
        batch = self.take(index)
        if self._dropout:
            is_hit = torch.rand(len(index), generator=self.generator) < self._dropout
            mask = (is_hit[:, None] & self._is_dropped).to(batch.observation.device)
            for observation in (batch.observation, batch.next_observation):
                observation.masked_fill_(mask, 0.0)
        return batch

    def spread(self, most: int) -> Batch:
        """Return at most ``most`` transitions, evenly spread over all; draws nothing."""
        count = len(self._table["rows"])
        return self.take(torch.arange(0, count, -(-count // most)))

    def take(self, index: Tensor) -> Batch:
        """Return the transitions of the given numbers, integer, shape (B,)."""
        table = self._table
        index = index.to(table["rows"].device, non_blocking=True)
        steps = table["starts"].index_select(0, index) if "starts" in table else index
        rows, next_rows = (table[name].index_select(0, index) for name in ("rows", "next_rows"))
        batch = Batch(
            observation=table["observations"].index_select(0, rows),
            action=self._actions.index_select(0, steps),
            reward=table["rewards"].index_select(0, index),
            next_observation=table["observations"].index_select(0, next_rows),
            bootstrap=table["bootstraps"].index_select(0, index),
        )
        if self._horizon == 1:
            return batch
        is_recorded = self._place < (next_rows - rows)[:, None]
        action = torch.where(is_recorded, batch.action, batch.action.roll(1, 0))
        recorded = is_recorded.to(action.dtype)
        return ChunkBatch(**{**vars(batch), "action": action}, recorded=recorded)


def _windows(actions: Tensor, horizon: int) -> Tensor:
    """Return each step's action and those that follow it, (N - H + 1, H * A), without a copy."""
    count, size = actions.shape
    return actions.contiguous().as_strided((count - horizon + 1, horizon * size), (size, 1))


def split_episodes(
    dataset: LoadedDataset, share: float, seed: int
) -> tuple[LoadedDataset, LoadedDataset | None]:
    """Split a dataset by whole episodes, the same way at each call with the same ``seed``.

    Transitions of one episode resemble each other, so a split within episodes would measure on
    what was learned from.

    Args:
        dataset: Episodes in their stored order, which both parts keep.
        share: Share of the episodes to hold out, in [0, 1); at least one is held out and at
            least one stays if it is not 0.
        seed: Seeds the choice of the held-out episodes.

    Returns:
        The episodes to learn from and the held-out ones; ``None`` if ``share`` is 0.

    Raises:
        DatasetError: If there is only one episode to split.
    """
    if share == 0:
        return dataset, None
    count = len(dataset.episodes)
    if count < 2:
        raise DatasetError(
            f"{dataset.source}: holds one episode and validation.held_out is {share:g}; "
            f"whole episodes are held out, so at least two are needed: record more, or set it to 0"
        )
    num_held_out = min(max(round(share * count), 1), count - 1)
    chosen = np.random.default_rng(seed).permutation(count)
    held_out, learned = np.sort(chosen[:num_held_out]), np.sort(chosen[num_held_out:])
    return _part(dataset, learned), _part(dataset, held_out)


def _part(dataset: LoadedDataset, indices: NDArray[np.int64]) -> LoadedDataset:
    episodes = tuple(dataset.episodes[index] for index in indices)
    return dataclasses.replace(dataset, episodes=episodes)
