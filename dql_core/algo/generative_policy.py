"""What all policies have in common that make actions of noise, and what agents ask of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.noise import UpdateNoise
from dql_core.data.transitions import Batch
from dql_core.models.actors import ActionSampler
from dql_core.models.ema import frozen_copy


@dataclass(frozen=True)
class Imitation:
    """How well the learning network leads from noise back to the data's actions.

    Attributes:
        loss: What behaviour cloning minimises, L_d, a scalar.
        clean: The clean actions that its output implies, shape (B, A), where the values are to
            guide these; else None.
    """

    loss: Tensor
    clean: Tensor | None = None


class GenerativePolicy(nn.Module, ABC):
    """A network that makes actions of noise, and its slow average.

    Attributes:
        online: The network that learns.
        average: Its exponential moving average, equal to it at the start.
        num_noises: Standard normal draws that an action needs for each of its dimensions, Z.
    """

    num_noises: int

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.online = online
        self.average = frozen_copy(online)

    @abstractmethod
    def draw_time(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw where the imitation loss of each row is taken: ``time`` of `UpdateNoise`."""

    @abstractmethod
    def imitate(
        self, batch: Batch, noise: UpdateNoise, network: nn.Module | None = None
    ) -> Imitation:
        """Put noise into the data's actions and let a network lead back, or the learning one."""

    @abstractmethod
    def sample(self, observation: Tensor, noise: Tensor, *, averaged: bool = False) -> Tensor:
        """Sample actions as `ActionSampler` does, with gradients for the learning network.

        Args:
            observation: Normalised observations, shape (B, O).
            noise: Standard normal, shape (Z, B, A).
            averaged: By the average in place of the learning network.
        """

    @abstractmethod
    def sampler(self, *, averaged: bool) -> ActionSampler:
        """Return what acts after training; it shares its network with this policy."""
