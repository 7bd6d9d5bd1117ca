"""The policy's network: predicts the noise in an action, given observation and diffusion step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dql_core.models.layers import affine, hidden_layers, mish
from dql_core.models.sampler import StepPrediction

EMBEDDING_SIZE = 16


class Denoiser(nn.Module):
    """An MLP on [noisy action, step embedding, observation] (arXiv 2208.06193, appendix).

    The first layer is one matrix, applied in three parts: the observation's part is computed once
    a chain and the step's part once for all N steps.

    Args:
        observation_size: O.
        action_size: A.
        num_steps: N; steps are the integers 0 ... N - 1.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        num_steps: int,
        width: int = 256,
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.action_size = action_size
        self.step_embedding = nn.Sequential(
            nn.Linear(EMBEDDING_SIZE, 2 * EMBEDDING_SIZE),
            nn.Mish(),
            nn.Linear(2 * EMBEDDING_SIZE, EMBEDDING_SIZE),
        )
        self.first = nn.Linear(action_size + EMBEDDING_SIZE + observation_size, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, action_size)
        # Follows from N, so it is no part of the state.
        self.register_buffer("sinusoids", sinusoids(num_steps, EMBEDDING_SIZE), persistent=False)

    def forward(self, action: Tensor, step: Tensor, observation: Tensor) -> Tensor:
        """Predict the noise, shape (B, A).

        Args:
            action: Noisy actions in the normalised space, shape (B, A).
            step: Diffusion steps, integer, shape (B,) or ().
            observation: Normalised observations, shape (B, O).
        """
        return self._trunk(action, self._observation_part(observation) + self._step_part()[step])

    def condition(self, observation: Tensor) -> StepPrediction:
        """Return the noise prediction of (action (B, A), step) for ``observation`` (B, O)."""
        context = self._observation_part(observation)
        step_part = self._step_part()

        def predict(action: Tensor, step: int) -> Tensor:
            return self._trunk(action, context + step_part[step])

        return predict

    def _observation_part(self, observation: Tensor) -> Tensor:
        weight = self.first.weight[:, self.action_size + EMBEDDING_SIZE :]
        return affine(observation, weight, self.first.bias)  # (B, width)

    def _step_part(self) -> Tensor:
        weight = self.first.weight[:, self.action_size : self.action_size + EMBEDDING_SIZE]
        return functional.linear(self.step_embedding(self.sinusoids), weight)  # (N, width)

    def _trunk(self, action: Tensor, context: Tensor) -> Tensor:
        weight = self.first.weight[:, : self.action_size]
        features = hidden_layers(mish(affine(action, weight, context)), self.hidden)
        return affine(features, self.last.weight, self.last.bias)


def sinusoids(num_steps: int, size: int) -> Tensor:
    """Transformer position embedding of the steps 0 ... N - 1, shape (N, size)."""
    half = size // 2
    frequency = torch.exp(-math.log(10_000.0) / (half - 1) * torch.arange(half))
    phase = torch.arange(num_steps)[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=-1)
