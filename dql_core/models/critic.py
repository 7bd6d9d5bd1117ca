"""The critics: E independent MLPs held as one batched module."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dql_core.models.layers import batched_affine, mish


class CriticEnsemble(nn.Module):
    """E action-value networks on [observation, action], evaluated in batched products.

    Each critic is initialised and trained as if it were alone; only the arithmetic is shared.

    Args:
        observation_size: O.
        action_size: A.
        width: Units of each hidden layer.
        depth: Number of hidden layers.
        num_critics: E.
        layer_norm: Normalise each hidden layer before its activation, without learned scale; it
            keeps values bounded for actions that the data never showed.
        dueling: A state's value, `state_value`, is learned apart, and the networks learn what it
            leaves, A in Q = V + A, which then depends on the action no more than the data asks.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        width: int = 256,
        depth: int = 3,
        *,
        num_critics: int = 2,
        layer_norm: bool = False,
        dueling: bool = False,
    ) -> None:
        super().__init__()
        self.num_critics = num_critics
        sizes = [observation_size + action_size, *[width] * depth, 1]
        self.layers = nn.ModuleList(
            _BatchedLinear(num_critics, size, next_size)
            for size, next_size in itertools.pairwise(sizes)
        )
        self.layer_norm = layer_norm
        self.state_value: StateValue | None = None
        if dueling:
            self.state_value = StateValue(observation_size, width, depth, layer_norm=layer_norm)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Estimate the return of ``action`` by each critic, shape (E, B).

        No gradient reaches `state_value`.

        Args:
            observation: Normalised observations, shape (B, O).
            action: Actions in the normalised space, shape (B, A).
        """
        return self._with_state_value(observation, self.advantages(observation, action))

    def advantages(self, observation: Tensor, action: Tensor) -> Tensor:
        """Estimate what `state_value` leaves of the return, or all of it without one, (E, B).

        Args:
            observation: As in `forward`.
            action: As in `forward`.
        """
        inputs = torch.cat([observation, action], dim=-1)
        return self._values(self._weights(), inputs.expand(self.num_critics, *inputs.shape))

    def each(self, observation: Tensor, action: Tensor) -> Tensor:
        """Estimate the return of actions of its own by each critic, shape (E, B).

        Args:
            observation: As in `forward`.
            action: Actions in the normalised space, shape (E, B, A).
        """
        shared = observation.expand(self.num_critics, *observation.shape)
        values = self._values(self._weights(), torch.cat([shared, action], dim=-1))
        return self._with_state_value(observation, values)

    def one(self, index: Tensor, observation: Tensor, action: Tensor) -> Tensor:
        """Estimate the return with a single critic, at the price of one, shape (B,).

        Args:
            index: Which one, integer, shape ().
            observation: As in `forward`.
            action: As in `forward`.
        """
        chosen = index.reshape(1)
        layers = [
            (layer.weight.index_select(0, chosen), layer.bias.index_select(0, chosen))
            for layer in self._layers()
        ]
        inputs = torch.cat([observation, action], dim=-1)
        return self._with_state_value(observation, self._values(layers, inputs[None]).squeeze(0))

    def _with_state_value(self, observation: Tensor, advantages: Tensor) -> Tensor:
        if self.state_value is None:
            return advantages
        with torch.no_grad():
            state_value: Tensor = self.state_value(observation)
        return state_value + advantages

    def _weights(self) -> list[tuple[Tensor, Tensor]]:
        return [(layer.weight, layer.bias) for layer in self._layers()]

    def _layers(self) -> Iterable[_BatchedLinear]:
        return cast("Iterable[_BatchedLinear]", self.layers)

    def _values(self, layers: list[tuple[Tensor, Tensor]], features: Tensor) -> Tensor:
        """Evaluate critics with the given weights and biases on inputs of each.

        Args:
            layers: Weights (E, in, out) and biases (E, 1, out).
            features: Shape (E, B, O + A).

        Returns:
            Shape (E, B).
        """
        *hidden, last = layers
        for weight, bias in hidden:
            features = batched_affine(features, weight, bias)
            if self.layer_norm:
                features = functional.layer_norm(features, features.shape[-1:])
            features = mish(features)
        return batched_affine(features, *last).squeeze(-1)


class StateValue(nn.Module):
    """The value of an observation: a critic that sees no action.

    Args:
        observation_size: O.
        width: As in `CriticEnsemble`, and so are the others.
    """

    def __init__(
        self, observation_size: int, width: int = 256, depth: int = 3, *, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.network = CriticEnsemble(
            observation_size, 0, width, depth, num_critics=1, layer_norm=layer_norm
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Estimate the return from normalised observations: (B, O) -> (B,)."""
        values: Tensor = self.network(observation, observation[:, :0])
        return values.squeeze(0)


class _BatchedLinear(nn.Module):
    """E linear layers side by side, each with torch's default initialisation."""

    def __init__(self, num_critics: int, in_size: int, out_size: int) -> None:
        super().__init__()
        bound = in_size**-0.5
        self.weight = nn.Parameter(torch.empty(num_critics, in_size, out_size))
        self.bias = nn.Parameter(torch.empty(num_critics, 1, out_size))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
