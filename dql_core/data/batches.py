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
        self._table = {
            name: torch.as_tensor(array, device=device) for name, array in vars(table).items()
        }

    def draw(self) -> Batch:
        """Draw the next batch."""
        count = len(self._table["rows"])
        return self.take(torch.randint(count, (self._batch_size,), generator=self.generator))

    def take(self, index: Tensor) -> Batch:
        """Return the transitions of the given numbers, integer, shape (B,)."""
        table = self._table
        index = index.to(table["rows"].device, non_blocking=True)
        rows, next_rows = (table[name].index_select(0, index) for name in ("rows", "next_rows"))
        return Batch(
            observation=table["observations"].index_select(0, rows),
            action=table["actions"].index_select(0, index),
            reward=table["rewards"].index_select(0, index),
            next_observation=table["observations"].index_select(0, next_rows),
            bootstrap=table["bootstraps"].index_select(0, index),
        )
