r"""Diffusion-QL (Wang, Hunt, Zhou: Diffusion Policies as an Expressive Policy Class, 2208.06193).

The policy imitates the data and climbs the critics, :math:`L = L_d + \eta L_q`; the critics learn
the values of the averaged policy. What an update draws at random comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dql_core.algo.critics import Critics, Targets
from dql_core.algo.diffusion_policy import DiffusionAgent
from dql_core.algo.expectile import ExpectileCritics
from dql_core.algo.losses import critic_loss, improvement_loss
from dql_core.algo.noise import UpdateNoise
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch


@dataclass(frozen=True)
class QLLosses:
    """What an update minimised and measured, scalars on the device; names become metrics.

    Attributes:
        imitation: Behaviour cloning, L_d.
        improvement: Policy improvement, L_q, before its weight eta.
        critic: Squared error of the critics, summed over them.
        q_data: Mean value of the data's actions.
        q_magnitude: Mean absolute value of the data's actions.
        q_target: Mean target of the critics.
        targets_clipped: Share of the targets that were clipped to what the rewards allow.
    """

    imitation: Tensor
    improvement: Tensor
    critic: Tensor
    q_data: Tensor
    q_magnitude: Tensor
    q_target: Tensor
    targets_clipped: Tensor


@dataclass(frozen=True)
class ExpectileLosses(QLLosses):
    """Likewise, with what the state values minimised.

    Attributes:
        value: Expectile loss of the state values.
    """

    value: Tensor


class DiffusionQL(DiffusionAgent[QLLosses]):
    """All networks of the algorithm and the update that trains them.

    Attributes:
        critics: The critics and their slow copies.
    """

    critics: Critics

    def __init__(
        self,
        config: TrainConfig,
        observation_size: int,
        action_size: int,
        generator: torch.Generator,
    ) -> None:
        """Build the networks on the generator's device; torch's global generator seeds them."""
        sizes = observation_size, action_size
        critic = config.critic
        is_expectile = critic.kind == "expectile"
        num_target_samples = 0 if is_expectile else critic.max_q_samples
        super().__init__(config, *sizes, generator, num_target_samples, critic.num_critics)
        make_critics = ExpectileCritics if is_expectile else Critics
        self.critics = make_critics(config, *sizes, generator.device)
        self.modules |= self.critics.modules
        self.optimizers |= self.critics.optimizers

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> QLLosses:
        """Improve the critics, then the policy, then let the slow copies follow."""
        if not isinstance(self.critics, ExpectileCritics):
            return self._learn_from_values(batch, noise)
        with self.execution.precision():
            loss = self.critics.value_loss(batch)
        self.optimizers["value"].step(loss)
        losses = self._learn_from_values(batch, noise)
        return ExpectileLosses(**vars(losses), value=loss.detach())

    def _learn_from_values(self, batch: Batch, noise: UpdateNoise) -> QLLosses:
        target = self._target(batch, noise.target)
        loss_critic, q_data, q_magnitude = self._critic_losses(batch, target.values)
        self.optimizers["critic"].step(loss_critic)

        loss_policy, imitation, improvement = self._policy_losses(batch, noise)
        self.optimizers["policy"].step(loss_policy)

        self._average.move()
        self.critics.average.move()
        return QLLosses(
            imitation=imitation.detach(),
            improvement=improvement.detach(),
            critic=loss_critic.detach(),
            q_data=q_data.detach(),
            q_magnitude=q_magnitude.detach(),
            q_target=target.values.mean(),
            targets_clipped=target.clipped,
        )

    def _target(self, batch: Batch, noise: Tensor) -> Targets:
        """Bootstrapped values of the averaged policy's next actions."""
        with self.execution.precision():
            sample = partial(self.policy.process.sample, self.policy.average)
            return self.critics.targets(batch, sample, noise)

    def _critic_losses(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squared error of the critics, and mean and mean magnitude of their values."""
        with self.execution.precision():
            q_values = self.critics.online(batch.observation, batch.action).float()
        return critic_loss(q_values, target), q_values.mean(), q_values.abs().mean()

    def _policy_losses(self, batch: Batch, noise: UpdateNoise) -> tuple[Tensor, Tensor, Tensor]:
        """The policy's loss and its two parts, L_d and L_q."""
        eta = self._config.policy.eta
        with self.execution.precision():
            denoised = self.policy.denoise(batch, noise)
            # Without guidance L_q is measured, which takes no gradients.
            with torch.set_grad_enabled(eta > 0):
                if self._config.policy.policy_gradient == "one_step":
                    action = denoised.clean
                else:
                    sample = partial(self.policy.process.sample, self.policy.online)
                    action = sample(batch.observation, noise.policy)
                guiding, other = self._guidance(batch.observation, action, noise.guide)
        improvement = improvement_loss(guiding, other)
        if eta == 0:
            return denoised.loss, denoised.loss, improvement
        return denoised.loss + eta * improvement, denoised.loss, improvement

    def _guidance(
        self, observation: Tensor, action: Tensor, guide: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values of the policy's actions: what it climbs, and what divides that, both (B,)."""
        online = self.critics.online
        if self.critics.lower_bound is not None:
            values = self.critics.estimate(online(observation, action).float())
            return values, values.detach()
        guiding = online.one(guide, observation, action)
        with torch.no_grad():
            other = online.one((guide + 1) % self.critics.num_critics, observation, action)
        return guiding.float(), other.float()
