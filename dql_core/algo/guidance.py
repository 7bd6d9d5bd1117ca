r"""Guidance that costs no more imitation than it may.

In :math:`L_d + \eta L_q` the pull of the values stays as it is while imitation gets good: on few
demonstrations, which a policy imitates closely, it outweighs what the data asks for, and the more
so the more dimensions an action has, over which L_d is a mean. A twin of the policy that only
imitates shows how well the data can be imitated; where the policy imitates worse than that by more
than a factor, the weight of the values falls until it does not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.models.ema import frozen_copy

# How far the logarithm of the weight moves in an update, relative to that of what is too much.
RATE = 0.01
# Not 0, from which the logarithm would never come back.
SMALLEST_WEIGHT = 1e-4
SMALLEST_LOSS = torch.finfo(torch.float32).tiny


class GuidanceLimit(nn.Module):
    """The weight of the values, and the twin by which it is set.

    Attributes:
        imitator: A twin of the policy's network that only imitates.
        log_weight: Logarithm of what multiplies eta, at most 0, a scalar.
        optimizer: Moves the twin.
    """

    log_weight: Tensor

    def __init__(self, online: nn.Module, config: TrainConfig, ratio: float) -> None:
        """Begin with a copy of the policy's network, and with the whole weight.

        Args:
            online: The policy's network.
            config: The policy's learning rate is the twin's.
            ratio: The largest ratio of the policy's imitation loss to the twin's.
        """
        super().__init__()
        self.imitator = frozen_copy(online).requires_grad_(True)
        device = next(online.parameters()).device
        self.register_buffer("log_weight", torch.zeros((), device=device))
        self.optimizer = Optimizer(self.imitator.parameters(), config.policy, config.run)
        self._log_ratio = math.log(ratio)

    @property
    def weight(self) -> Tensor:
        """What multiplies eta, a scalar from `SMALLEST_WEIGHT` to 1."""
        return self.log_weight.exp()

    @torch.no_grad()
    def follow(self, imitation: Tensor, alone: Tensor) -> None:
        """Move the weight after an update.

        Args:
            imitation: L_d of the policy, a scalar.
            alone: L_d of the twin, of the same noise.
        """
        # Actions that never change can be imitated without any error.
        ratio = imitation.clamp(min=SMALLEST_LOSS) / alone.clamp(min=SMALLEST_LOSS)
        too_much = ratio.log() - self._log_ratio
        moved = self.log_weight - RATE * too_much
        self.log_weight.copy_(moved.clamp(math.log(SMALLEST_WEIGHT), 0.0))
