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
        reward: Shape (B,).
        next_observation: Shape (B, O).
        bootstrap: 1 where a value follows, 0 where the task terminated, shape (B,).
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
        """Copy ``table`` to ``device`` once."""
        self.generator = generator
        self._batch_size = batch_size
        self._observations = torch.tensor(table.observations, device=device)
        self._rows = torch.tensor(table.rows, device=device)
        self._actions = torch.tensor(table.actions, device=device)
        self._rewards = torch.tensor(table.rewards, device=device)
        self._bootstraps = torch.tensor(table.bootstraps, device=device)

    def draw(self) -> Batch:
        """Draw the next batch."""
        index = torch.randint(len(self._rows), (self._batch_size,), generator=self.generator)
        index = index.to(self._rows.device, non_blocking=True)
        row = self._rows[index]
        return Batch(
            observation=self._observations[row],
            action=self._actions[index],
            reward=self._rewards[index],
            next_observation=self._observations[row + 1],
            bootstrap=self._bootstraps[index],
        )
