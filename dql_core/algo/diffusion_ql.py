r"""Diffusion-QL (Wang, Hunt, Zhou: Diffusion Policies as an Expressive Policy Class, 2208.06193).

The policy imitates the data and climbs the critics, :math:`L = L_d + \eta L_q`; the critics learn
the values of the averaged policy. What an update draws at random comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from dql_core.algo.critics import Critics, Targets
from dql_core.algo.expectile import ExpectileCritics
from dql_core.algo.generative_agent import GenerativeAgent
from dql_core.algo.guidance import GuidanceLimit
from dql_core.algo.losses import improvement_loss
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
        guidance: Weight of the values in the policy's loss, if anything keeps it below eta.
        imitation_alone: L_d of the twin that only imitates, if there is one.
        value: Expectile loss of the state values, if there are any.
    """

    imitation: Tensor
    improvement: Tensor
    critic: Tensor
    q_data: Tensor
    q_magnitude: Tensor
    q_target: Tensor
    targets_clipped: Tensor
    guidance: Tensor | None = None
    imitation_alone: Tensor | None = None
    value: Tensor | None = None


class DiffusionQL(GenerativeAgent[QLLosses]):
    """All networks of the algorithm and the update that trains them.

    Attributes:
        critics: The critics and their slow copies.
        limit: Keeps guidance from spoiling imitation; None if nothing does.
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
        self.limit: GuidanceLimit | None = None
        ratio = config.policy.max_imitation_ratio
        if config.policy.eta > 0 and ratio is not None:
            self.limit = GuidanceLimit(self.policy.online, config, ratio)
            self.modules["guidance"] = self.limit
            self.optimizers["imitator"] = self.limit.optimizer

    def lone_imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor | None:
        """Return the imitation loss of the twin, if there is one."""
        if self.limit is None:
            return None
        return self.policy.imitate(batch, noise, self.limit.imitator).loss

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> QLLosses:
        """Improve the critics, then the policy, then let the slow copies follow."""
        if not isinstance(self.critics, ExpectileCritics):
            return self._learn_from_values(batch, noise)
        with self.execution.precision():
            loss = self.critics.value_loss(batch)
        self.optimizers["value"].step(loss)
        losses = self._learn_from_values(batch, noise)
        return replace(losses, value=loss.detach())

    def _learn_from_values(self, batch: Batch, noise: UpdateNoise) -> QLLosses:
        target = self._target(batch, noise.target)
        with self.execution.precision():
            loss_critic = self.critics.loss(batch, target.values)
        self.optimizers["critic"].step(loss_critic.total)

        # Imitation is a mean over all actions of a chunk, and is to weigh as their sum.
        eta = self._config.policy.eta / self._config.policy.horizon
        guidance = eta * self.limit.weight if self.limit else None
        imitation, improvement = self._policy_losses(batch, noise)
        loss = imitation
        if eta > 0:
            loss = imitation + (eta if guidance is None else guidance) * improvement
        self.optimizers["policy"].step(loss)
        alone = self._imitate_alone(batch, noise, imitation.detach())

        self._average.move()
        self.critics.average.move()
        return QLLosses(
            imitation=imitation.detach(),
            improvement=improvement.detach(),
            critic=loss_critic.error,
            q_data=loss_critic.q_values.mean(),
            q_magnitude=loss_critic.q_values.abs().mean(),
            q_target=target.values.mean(),
            targets_clipped=target.clipped,
            guidance=guidance,
            imitation_alone=alone,
        )

    def _target(self, batch: Batch, noise: Tensor) -> Targets:
        """Bootstrapped values of the averaged policy's next actions."""
        with self.execution.precision():
            sample = partial(self.policy.sample, averaged=True)
            return self.critics.targets(batch, sample, noise)

    def _imitate_alone(self, batch: Batch, noise: UpdateNoise, imitation: Tensor) -> Tensor | None:
        """Let the twin imitate, and its loss limit the weight of the values from now on."""
        if self.limit is None:
            return None
        with self.execution.precision():
            loss = self.policy.imitate(batch, noise, self.limit.imitator).loss
        self.limit.optimizer.step(loss)
        self.limit.follow(*self.execution.ranks.mean_of_each([imitation, loss.detach()]))
        return loss.detach()

    def _policy_losses(self, batch: Batch, noise: UpdateNoise) -> tuple[Tensor, Tensor]:
        """The two parts of the policy's loss, L_d and L_q."""
        with self.execution.precision():
            imitation = self.policy.imitate(batch, noise)
            # Without guidance L_q is measured, which takes no gradients.
            with torch.set_grad_enabled(self._config.policy.eta > 0):
                action = imitation.clean
                if action is None:
                    action = self.policy.sample(batch.observation, noise.policy)
                guiding, other = self._guidance(batch.observation, action, noise.guide)
        return imitation.loss, improvement_loss(guiding, other, self.execution.ranks.mean)

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
