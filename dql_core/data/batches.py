"""Random batches of transitions, drawn from tensors that already are on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dql_core.data.transitions import TransitionTable


@dataclass(frozen=True)
class Batch:
    """B transitions in the units of the networks.

    Attributes:
        observation: Shape (B, O).
        action: In [-1, 1], shape (B, A).
        reward: Of the step, or of all steps that an n-step transition spans; shape (B,).
        next_observation: Shape (B, O).
        bootstrap: How much of the discounted next value counts: 0 where the task terminated, else
            1, or less after several steps (see `TransitionTable`); shape (B,).
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    bootstrap: Tensor


class BatchSampler:
    """Draws uniformly with replacement; its generator's state is all there is to resume from.

    Attributes:
        generator: Source of the indices, on the CPU whatever the device is.
    """

    def __init__(
        self, table: TransitionTable, batch_size: int, generator: torch.Generator, device: str
    ) -> None:
        """Bring ``table`` to ``device`` once; on the CPU its arrays are used as they are."""
        self.generator = generator
        self._batch_size = batch_size
        self._observations = torch.as_tensor(table.observations, device=device)
        self._rows = torch.as_tensor(table.rows, device=device)
        self._next_rows = torch.as_tensor(table.next_rows, device=device)
        self._actions = torch.as_tensor(table.actions, device=device)
        self._rewards = torch.as_tensor(table.rewards, device=device)
        self._bootstraps = torch.as_tensor(table.bootstraps, device=device)

    def draw(self) -> Batch:
        """Draw the next batch."""
        index = torch.randint(len(self._rows), (self._batch_size,), generator=self.generator)
        index = index.to(self._rows.device, non_blocking=True)
        rows = self._rows.index_select(0, index)
        next_rows = self._next_rows.index_select(0, index)
        return Batch(
            observation=self._observations.index_select(0, rows),
            action=self._actions.index_select(0, index),
            reward=self._rewards.index_select(0, index),
            next_observation=self._observations.index_select(0, next_rows),
            bootstrap=self._bootstraps.index_select(0, index),
        )
