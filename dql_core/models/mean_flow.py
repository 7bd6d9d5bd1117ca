r"""Mean flow: one network call from noise to an action (Geng et al., arXiv 2505.13447).

On the straight path :math:`z_t = (1 - t) a + t \epsilon` from an action to noise, the network
learns the average velocity :math:`u(z_t, r, t)` over the span of time from r to t. So
:math:`a = \epsilon - u(\epsilon, 0, 1)`, in one step. What it learns from is the mean flow
identity (equation 6), :math:`u = v - (t - r)\, \mathrm{d}u / \mathrm{d}t` with
:math:`v = \epsilon - a`; the total derivative is taken along the path, where r rests.

All actions are in the normalised space, where the bounds are [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dql_core.models.layers import affine, mish, mish_slope

# Inputs of the network that are time: t and t - r. Both grow as t does.
TIME_SIZE = 2
# Share of a batch that learns an average over a span; the others have r = t.
SPAN_SHARE = 0.5


class AverageVelocity(nn.Module):
    """An MLP on [point of the path, t, t - r, observation]; as a function it samples actions.

    The first layer is one matrix: of a decision its part on the observation is computed once.

    Args:
        observation_size: O.
        action_size: A.
        width: Units of each hidden layer.
        depth: Number of hidden layers.

    Attributes:
        num_noises: 1: one draw for each action dimension.
    """

    num_noises = 1

    def __init__(
        self, observation_size: int, action_size: int, width: int = 256, depth: int = 3
    ) -> None:
        super().__init__()
        self.action_size = action_size
        self.first = nn.Linear(action_size + TIME_SIZE + observation_size, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, action_size)

    def forward(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Go from noise to actions in one step; see `dql_core.models.actors.ActionSampler`."""
        start, action, weight = noise[0], self.action_size, self.first.weight
        time = weight[:, action : action + TIME_SIZE].sum(dim=1)  # t = 1 and t - r = 1
        context = affine(observation, weight[:, action + TIME_SIZE :], self.first.bias + time)
        velocity = self._layers(affine(start, weight[:, :action], context))[-1]
        return (start - velocity).clamp(-1.0, 1.0)

    def velocity(self, point: Tensor, span: Tensor, observation: Tensor) -> Tensor:
        """Return the average velocity, shape (B, A).

        Args:
            point: Where the path is at the span's end, shape (B, A).
            span: r and t, shape (B, 2), from 0, the action, to 1, noise.
            observation: Normalised observations, shape (B, O).
        """
        return self._layers(self._entering(point, span, observation))[-1]

    def velocity_and_rate(
        self, point: Tensor, span: Tensor, observation: Tensor, direction: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the average velocity, and how fast it changes with t along the path.

        The rate is a forward-mode derivative, layer by layer beside the values; a compiler and a
        CUDA graph see plain operations. It has no gradients.

        Args:
            point: As in `velocity`.
            span: As in `velocity`.
            observation: As in `velocity`.
            direction: Velocity of the path in the first S of the rows, shape (S, A).

        Returns:
            Shapes (B, A) and (S, A).
        """
        entering = self._layers(self._entering(point, span, observation))
        count = len(direction)
        with torch.no_grad():
            moving = torch.cat([direction, torch.ones_like(span[:count])], dim=1)
            weight = self.first.weight[:, : self.action_size + TIME_SIZE]
            rate = functional.linear(moving, weight)
            for before, layer in zip(entering, (*self.hidden, self.last), strict=False):
                slope = mish_slope(before[:count].float())
                rate = functional.linear(slope * rate, layer.get_parameter("weight"))
        return entering[-1], rate

    def _entering(self, point: Tensor, span: Tensor, observation: Tensor) -> Tensor:
        """Return what enters the first activation, shape (B, width)."""
        end = span[:, 1:]
        inputs = torch.cat([point, end, end - span[:, :1], observation], dim=1)
        return affine(inputs, self.first.weight, self.first.bias)

    def _layers(self, entering: Tensor) -> list[Tensor]:
        """Return what enters each activation, and the output last."""
        outputs = [entering]
        for layer in (*self.hidden, self.last):
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            outputs.append(affine(mish(outputs[-1]), weight, bias))
        return outputs


def num_spans(batch_size: int) -> int:
    """Return how many of a batch's rows learn an average over a span of time."""
    return math.ceil(SPAN_SHARE * batch_size)


def draw_spans(batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw r and t of each row, shape (B, 2): uniform and r <= t, the first `num_spans` r < t."""
    times = torch.rand(batch_size, 2, generator=generator, device=generator.device)
    spans = times.sort(dim=1).values
    count = num_spans(batch_size)
    return torch.cat([spans[:count], spans[count:, 1:].expand(-1, 2)])
