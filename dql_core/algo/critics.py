"""Twin critics, their slow copies, and the bootstrapped targets they learn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dql_core.algo.losses import bootstrapped_target
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.models.critic import TwinCritic
from dql_core.models.ema import MovingAverage, frozen_copy


class Critics:
    """The action values of an agent.

    Attributes:
        online: The critics that learn.
        target: Their slow copy, which makes the targets.
        ranking: The critics that rank candidates after training.
        optimizer: Optimiser of the first.
        average: Lets the second follow the first.
        modules: Every network by name: all there is to save of them.
    """

    def __init__(
        self, config: TrainConfig, observation_size: int, action_size: int, device: torch.device
    ) -> None:
        """Build the networks; torch's global generator seeds them."""
        critic = config.critic
        self.online = TwinCritic(
            observation_size, action_size, critic.width, critic.depth, layer_norm=critic.layer_norm
        ).to(device)
        self.target = frozen_copy(self.online)
        self.target.requires_grad_(config.run.needless_gradients)
        self.modules: dict[str, nn.Module] = {"critic": self.online, "target_critic": self.target}
        self.ranking = self.online if config.selection.critics == "online" else self.target
        if config.selection.critics == "untrained":
            self.ranking = frozen_copy(self.online)
            self.modules["untrained_critic"] = self.ranking
        self.optimizer = Optimizer(
            self.online.parameters(), critic.learning_rate, critic.gradient_clip, config.run
        )
        self.average = MovingAverage(self.target, self.online, critic.tau)
        self._discount = critic.discount

    def bootstrapped(self, batch: Batch, next_action: Tensor) -> Tensor:
        """Return the targets of a batch.

        Args:
            batch: B transitions.
            next_action: S actions for each next observation, one row after the other, shape
                (B * S, A).

        Returns:
            Shape (B,).
        """
        samples = len(next_action) // len(batch.reward)
        observation = batch.next_observation.repeat_interleave(samples, dim=0)
        next_q_values = self.target(observation, next_action).float()  # (E, B * S)
        return bootstrapped_target(
            batch.reward,
            batch.bootstrap,
            next_q_values.unflatten(1, (-1, samples)),
            self._discount,
        )
