"""What acts after training: from an observation and noise to an action, whatever the policy is."""

from __future__ import annotations

import itertools
from typing import Protocol

from torch import Tensor, nn

from dql_core.models.denoiser import Denoiser
from dql_core.models.layers import hidden_layers
from dql_core.models.sampler import Held, ReverseProcess


class ActionSampler(Protocol):
    """A module that samples actions as a pure function.

    Attributes:
        num_noises: Standard normal draws that an action needs for each of its dimensions, Z.
    """

    num_noises: int

    def __call__(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Sample actions in [-1, 1], shape (B, A).

        Args:
            observation: Normalised observations, shape (B, O), or (1, O) for all rows.
            noise: Standard normal, shape (Z, B, A).
        """


class DiffusionSampler(nn.Module):
    """A denoiser and the reverse process that makes actions with it; shares the denoiser."""

    def __init__(self, denoiser: Denoiser, process: ReverseProcess) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = process
        self.num_noises = process.num_noises

    def forward(self, observation: Tensor, noise: Tensor, held: Held | None = None) -> Tensor:
        """Run the reverse process; see `ActionSampler`, and of ``held`` `ReverseProcess`."""
        return self.process.sample(self.denoiser, observation, noise, held)


class DeterministicActor(nn.Module):
    """The network of TD3+BC: an MLP from the observation to an action in [-1, 1].

    Attributes:
        num_noises: 1, so that whatever calls a sampler can call this; the draw is not used.
    """

    num_noises = 1

    def __init__(
        self, observation_size: int, action_size: int, width: int = 256, depth: int = 3
    ) -> None:
        super().__init__()
        sizes = [observation_size, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.last = nn.Linear(width, action_size)

    def action(self, observation: Tensor) -> Tensor:
        """Return the action for normalised observations: (B, O) -> (B, A)."""
        squashed: Tensor = self.last(hidden_layers(observation, self.hidden)).tanh()
        return squashed

    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return an action for each row of ``noise``, shape (1, B, A); see `ActionSampler`."""
        return self.action(observation).expand(noise.shape[1:])
