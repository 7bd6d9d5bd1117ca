"""What acts after training: from an observation and noise to an action, whatever the policy is."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from dql_core.diffusion.sampler import ReverseProcess
from dql_core.networks.denoiser import Denoiser


class ActionSampler(Protocol):
    """A module that samples actions as a pure function.

    Attributes:
        action_size: A.
        num_noises: Standard normal draws that an action needs for each of its dimensions, S.
        deterministic: Whether all samples for an observation are equal.
    """

    action_size: int
    num_noises: int
    deterministic: bool

    def __call__(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Sample actions.

        Args:
            observation: Normalised observations, shape (B, O), or (1, O) for all rows.
            noise: Standard normal, shape (S, B, A).

        Returns:
            Actions in [-1, 1], shape (B, A).
        """


class DiffusionSampler(nn.Module):
    """A denoiser and the reverse process that makes actions with it; shares the denoiser."""

    deterministic = False

    def __init__(self, denoiser: Denoiser, process: ReverseProcess) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = process
        self.action_size = denoiser.action_size
        self.num_noises = process.num_noises

    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Run the reverse process; see `ActionSampler`."""
        return self.process.sample(self.denoiser, observation, noise)
