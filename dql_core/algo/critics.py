"""The critics, their slow copies, and the bootstrapped targets they learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dql_core.algo.losses import bootstrapped_target, critic_loss, pessimistic
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.critic import CriticEnsemble
from dql_core.models.ema import MovingAverage, frozen_copy


class Targets(NamedTuple):
    """What the critics are to learn from a batch.

    Attributes:
        values: Shape (B,).
        clipped: Share of them that were beyond what the rewards allow, a scalar.
    """

    values: Tensor
    clipped: Tensor


class CriticLoss(NamedTuple):
    """What the critics minimise, and what is measured on the way.

    Attributes:
        total: With what the state's value adds, a scalar with gradients.
        error: Squared error of the critics, summed over them, a scalar.
        q_values: Of the data's actions, shape (E, B).
    """

    total: Tensor
    error: Tensor
    q_values: Tensor


class Critics:
    """The action values of an agent.

    Attributes:
        online: The critics that learn.
        target: Their slow copy, which makes the targets.
        ranking: The critics that rank candidates after training.
        optimizers: By name: ``critic`` moves the first.
        average: Lets the second follow the first.
        num_critics: How many there are, E.
        lower_bound: Of the critics in place of their minimum, as `losses.pessimistic`.
        modules: Every network by name: all there is to save of them.
    """

    def __init__(
        self, config: TrainConfig, observation_size: int, action_size: int, device: torch.device
    ) -> None:
        """Build the networks; torch's global generator seeds them."""
        critic = config.critic
        self.online = CriticEnsemble(
            observation_size,
            action_size,
            critic.width,
            critic.depth,
            num_critics=critic.num_critics,
            layer_norm=critic.layer_norm,
            dueling=critic.dueling,
        ).to(device)
        self.target = frozen_copy(self.online)
        self.modules: dict[str, nn.Module] = {"critic": self.online, "target_critic": self.target}
        self.ranking = self.online if config.selection.critics == "online" else self.target
        if config.selection.critics == "untrained":
            self.ranking = frozen_copy(self.online)
            self.modules["untrained_critic"] = self.ranking
        self.num_critics, self.lower_bound = critic.num_critics, critic.lower_bound
        self.optimizers = {"critic": Optimizer(self.online.parameters(), critic, config.run)}
        self.average = MovingAverage(self.target, self.online, critic.tau)
        self._discount = critic.discount
        self._is_bounded = critic.bound_targets
        # Tensors, because a captured or compiled update would keep numbers as they were.
        self._low, self._high = (torch.tensor(end * torch.inf, device=device) for end in (-1, 1))

    def bound_targets(self, low: float, high: float) -> None:
        """Clip targets from now on, if ``critic.bound_targets`` says so; unbounded before."""
        self._low.fill_(low)
        self._high.fill_(high)

    def loss(self, batch: Batch, target: Tensor) -> CriticLoss:
        """Return what the critics minimise.

        Args:
            batch: B transitions.
            target: What their values should be, shape (B,).
        """
        advantages = self.online.advantages(batch.observation, batch.action).float()
        if self.online.state_value is None:
            error = critic_loss(advantages, target)
            return CriticLoss(error, error.detach(), advantages.detach())
        state_value = self.online.state_value(batch.observation).float()
        q_values = state_value.detach() + advantages
        error = critic_loss(q_values, target)
        total = error + critic_loss(state_value[None], target)
        return CriticLoss(total, error.detach(), q_values.detach())

    def estimate(self, q_values: Tensor) -> Tensor:
        """Return what the critics say together: (E, ...) -> (...)."""
        return pessimistic(q_values, self.lower_bound)

    @torch.no_grad()
    def targets(
        self, batch: Batch, sample: Callable[[Tensor, Tensor], Tensor], noise: Tensor
    ) -> Targets:
        """Return the bootstrapped values of a batch, from the slow copies alone.

        Args:
            batch: B transitions.
            sample: Takes S actions for each next observation, one row after the other: from
                (B * S, O) and the noise to (B * S, A).
            noise: Standard normal, shape (Z, B * S, A).
        """
        samples = noise.shape[1] // len(batch.reward)
        observation = batch.next_observation.repeat_interleave(samples, dim=0)
        next_q_values = self.target(observation, sample(observation, noise)).float()  # (E, B * S)
        values = bootstrapped_target(
            batch.reward,
            batch.bootstrap,
            next_q_values.unflatten(1, (-1, samples)),
            self._discount,
            self.lower_bound,
        )
        return self._bounded(values)

    def state_values(
        self, observation: Tensor, sample: Callable[[Tensor, Tensor], Tensor], noise: Tensor
    ) -> Tensor:
        """Return the value of observations under a policy: (B, O) -> (B,).

        Args:
            observation: Normalised observations.
            sample: As in `targets`, with S = 1.
            noise: As in `targets`, with S = 1.
        """
        return self.estimate(self.target(observation, sample(observation, noise)))

    def _bounded(self, values: Tensor) -> Targets:
        if not self._is_bounded:
            return Targets(values, torch.zeros_like(self._low))
        bounded = values.clamp(self._low, self._high)
        return Targets(bounded, (bounded != values).float().mean())
