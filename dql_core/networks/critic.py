"""The critics: E independent MLPs held as one batched module."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from dql_core.networks.mish import mish


class TwinCritic(nn.Module):
    """E = 2 action-value networks on [observation, action], evaluated in batched products.

    Each critic is initialised and trained as if it stood alone; only the arithmetic is shared.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        width: int = 256,
        depth: int = 3,
        *,
        layer_norm: bool = False,
        num_critics: int = 2,
    ) -> None:
        """Build the critics.

        Args:
            observation_size: O.
            action_size: A.
            width: Units of each hidden layer.
            depth: Number of hidden layers.
            layer_norm: Normalise each hidden layer before its activation, without learned scale;
                it keeps values bounded for actions that the data never showed.
            num_critics: E.
        """
        super().__init__()
        sizes = [observation_size + action_size, *[width] * depth, 1]
        self.layers = nn.ModuleList(
            _BatchedLinear(num_critics, size, next_size)
            for size, next_size in itertools.pairwise(sizes)
        )
        self.layer_norm = layer_norm
        self.num_critics = num_critics

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Estimate the return of ``action``.

        Args:
            observation: Normalised observations, shape (B, O).
            action: Actions in the normalised space, shape (B, A).

        Returns:
            Shape (E, B).
        """
        inputs = torch.cat([observation, action], dim=-1)
        features = inputs.expand(self.num_critics, *inputs.shape)  # (E, B, O + A)
        *hidden, last = self.layers
        for layer in hidden:
            features = layer(features)
            if self.layer_norm:
                features = functional.layer_norm(features, features.shape[-1:])
            features = mish(features)
        values: Tensor = last(features)
        return values.squeeze(-1)


class _BatchedLinear(nn.Module):
    """E linear layers side by side, each with torch's default initialisation."""

    def __init__(self, num_critics: int, in_size: int, out_size: int) -> None:
        super().__init__()
        bound = in_size**-0.5
        self.weight = nn.Parameter(torch.empty(num_critics, in_size, out_size))
        self.bias = nn.Parameter(torch.empty(num_critics, 1, out_size))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        """Apply layer e to ``features[e]``: (E, B, in) -> (E, B, out)."""
        return torch.baddbmm(self.bias, features, self.weight)
