"""Plain eager PyTorch, to compare with: what choosing an action costs in the paper's code.

Written straight from the paper's equations, operation by operation, with random weights, since
the time does not depend on them. Nothing here runs a robot.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dql_core.models.schedule import NoiseSchedule


class PlainSelection:
    """Action selection of the paper's code: all candidates in one batch, equal observations.

    Called with one candidate it samples it only; with more, the smaller of two critics' values
    decides by a softmax.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        *,
        policy: tuple[int, int],
        critic: tuple[int, int],
        num_steps: int,
    ) -> None:
        """Build the networks.

        Args:
            observation_size: O.
            action_size: A.
            policy: Width and depth of the policy's network.
            critic: Width and depth of each critic.
            num_steps: Reverse steps N.
        """
        self._action_size = action_size
        self._step_net = nn.Sequential(nn.Linear(16, 32), nn.Mish(), nn.Linear(32, 16))
        self._noise_net = _network(action_size + 16 + observation_size, *policy, action_size)
        self._critics = [_network(observation_size + action_size, *critic, 1) for _ in range(2)]
        schedule = NoiseSchedule.make("vp", num_steps)
        self._alpha_bars, self._clean_weight, self._noisy_weight, variance = (
            torch.tensor(values, dtype=torch.float32)[:, None]
            for values in (
                schedule.alpha_bars,
                schedule.clean_weight,
                schedule.noisy_weight,
                np.maximum(schedule.posterior_variance, 1e-20),
            )
        )
        self._log_variance = variance.log()

    @torch.no_grad()
    def __call__(
        self, observation: NDArray[np.float32], num_candidates: int
    ) -> NDArray[np.float32]:
        """Choose an action for one observation, shape (O,)."""
        row = torch.tensor(observation.reshape(1, -1))
        repeated = torch.repeat_interleave(row, repeats=num_candidates, dim=0)
        action = self._sample(repeated)
        if num_candidates > 1:
            pair = torch.cat([repeated, action], dim=1)
            first, second = (critic(pair) for critic in self._critics)
            probabilities = functional.softmax(torch.min(first, second).flatten(), dim=0)
            action = action[torch.multinomial(probabilities, 1)]
        chosen: NDArray[np.float32] = action.cpu().numpy().flatten()
        return chosen

    def _sample(self, observation: Tensor) -> Tensor:
        count = len(observation)
        action = torch.randn(count, self._action_size)
        for index in reversed(range(len(self._alpha_bars))):
            step = torch.full((count,), index, dtype=torch.long)
            inputs = [action, self._step_net(_embedding(step)), observation]
            noise = self._noise_net(torch.cat(inputs, dim=1))
            inverse = 1.0 / self._alpha_bars[step]
            clean = torch.sqrt(inverse) * action - torch.sqrt(inverse - 1) * noise
            clean.clamp_(-1.0, 1.0)
            mean = self._clean_weight[step] * clean + self._noisy_weight[step] * action
            moving = (step != 0).float()[:, None]
            spread = (0.5 * self._log_variance[step]).exp()
            action = mean + moving * spread * torch.randn_like(action)
        return action.clamp_(-1.0, 1.0)


def _network(in_size: int, width: int, depth: int, out_size: int) -> nn.Sequential:
    sizes = [in_size, *[width] * depth]
    hidden = [
        module
        for size, next_size in itertools.pairwise(sizes)
        for module in (nn.Linear(size, next_size), nn.Mish())
    ]
    return nn.Sequential(*hidden, nn.Linear(width, out_size))


def _embedding(step: Tensor, size: int = 16) -> Tensor:
    half = size // 2
    frequency = torch.exp(torch.arange(half) * -(math.log(10_000) / (half - 1)))
    phase = step[:, None] * frequency[None, :]
    return torch.cat((phase.sin(), phase.cos()), dim=-1)
