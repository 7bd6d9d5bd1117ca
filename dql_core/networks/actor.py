"""The policy's network of TD3+BC: one action for each observation."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import cast

from torch import Tensor, nn

from dql_core.networks.affine import affine
from dql_core.networks.mish import mish


class DeterministicActor(nn.Module):
    """An MLP from the observation to an action in [-1, 1].

    Attributes:
        action_size: A.
        num_noises: 1, so that whatever calls a sampler can call this; the draw is not used.
        deterministic: True.
    """

    num_noises = 1
    deterministic = True

    def __init__(
        self, observation_size: int, action_size: int, width: int = 256, depth: int = 3
    ) -> None:
        super().__init__()
        self.action_size = action_size
        sizes = [observation_size, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.last = nn.Linear(width, action_size)

    def action(self, observation: Tensor) -> Tensor:
        """Return the action for normalised observations: (B, O) -> (B, A)."""
        features = observation
        for layer in cast("Iterable[nn.Linear]", self.hidden):
            features = mish(affine(features, layer.weight, layer.bias))
        squashed: Tensor = self.last(features).tanh()
        return squashed

    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Return an action for each row of ``noise``, shape (1, B, A); see `ActionSampler`."""
        return self.action(observation).expand(noise.shape[1:])
