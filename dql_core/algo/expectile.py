r"""Critics that see no action but the data's (implicit Q-learning, arXiv 2110.06169).

A state's value is an expectile of the values of the data's actions there, and stands for the next
action in the critics' targets. With a policy that imitates, and candidates ranked by these
critics, it is IDQL (arXiv 2304.10573).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dql_core.algo.critics import Critics, Targets
from dql_core.algo.losses import expectile_loss
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.critic import StateValue


class ExpectileCritics(Critics):
    """The action values of an agent, and the state values that they are learned from.

    Attributes:
        value: The state values.
    """

    def __init__(
        self, config: TrainConfig, observation_size: int, action_size: int, device: torch.device
    ) -> None:
        """Build the networks; torch's global generator seeds them."""
        super().__init__(config, observation_size, action_size, device)
        critic = config.critic
        self.value = StateValue(
            observation_size, critic.width, critic.depth, layer_norm=critic.layer_norm
        ).to(device)
        self.modules["value"] = self.value
        self.optimizers["value"] = Optimizer(self.value.parameters(), critic, config.run)
        self._expectile = critic.expectile

    def value_loss(self, batch: Batch) -> Tensor:
        """Return what the state values minimise: expectile regression on the slow critics."""
        with torch.no_grad():
            q_values = self.estimate(self.target(batch.observation, batch.action).float())
        return expectile_loss(self.value(batch.observation).float(), q_values, self._expectile)

    @torch.no_grad()
    def targets(
        self, batch: Batch, sample: Callable[[Tensor, Tensor], Tensor], noise: Tensor
    ) -> Targets:
        """Return the bootstrapped values of a batch; no action is sampled for them."""
        value = self.value(batch.next_observation).float()
        return self._bounded(batch.reward + self._discount * batch.bootstrap * value)

    def state_values(
        self, observation: Tensor, sample: Callable[[Tensor, Tensor], Tensor], noise: Tensor
    ) -> Tensor:
        """Return the state values; no action is sampled for them."""
        values: Tensor = self.value(observation)
        return values
