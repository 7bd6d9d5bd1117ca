"""A policy of one network call: the mean flow from noise to actions, and its slow average."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dql_core.algo.generative_policy import GenerativePolicy, Imitation
from dql_core.algo.losses import imitation_loss, mean_flow_target
from dql_core.algo.noise import UpdateNoise
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.mean_flow import AverageVelocity, draw_spans, num_spans


class MeanFlowPolicy(GenerativePolicy):
    """Samples actions in [-1, 1] by one step of a mean flow (`dql_core.models.mean_flow`)."""

    online: AverageVelocity
    average: AverageVelocity
    num_noises = AverageVelocity.num_noises

    def __init__(self, config: TrainConfig, observation_size: int, action_size: int) -> None:
        policy = config.policy
        super().__init__(
            AverageVelocity(observation_size, action_size, policy.width, policy.depth)
        )

    def draw_time(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw spans of time, shape (B, 2)."""
        return draw_spans(batch_size, generator)

    def imitate(
        self, batch: Batch, noise: UpdateNoise, network: nn.Module | None = None
    ) -> Imitation:
        """Let average velocities agree with the paths from the data's actions to the noise."""
        learning = cast("AverageVelocity", network or self.online)
        span, velocity = noise.time, noise.imitation - batch.action
        point = batch.action + span[:, 1:] * velocity
        count = num_spans(len(point))
        predicted, rate = learning.velocity_and_rate(
            point, span, batch.observation, velocity[:count]
        )
        # Where r = t, the target is the path's own velocity.
        average = mean_flow_target(velocity[:count], rate, span[:count])
        target = torch.cat([average, velocity[count:]])
        # Not weighted as in the paper: a weight that falls with the error would let go of what the
        # values have led far from the data.
        return Imitation(imitation_loss(predicted, target, batch.mask))

    def sample(self, observation: Tensor, noise: Tensor, *, averaged: bool = False) -> Tensor:
        """Sample actions in one call of the network."""
        actions: Tensor = self.sampler(averaged=averaged)(observation, noise)
        return actions

    def sampler(self, *, averaged: bool) -> AverageVelocity:
        """Return what acts after training: the network itself."""
        return self.average if averaged else self.online
