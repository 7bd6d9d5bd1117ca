r"""Diffusion-QL (Wang, Hunt, Zhou: Diffusion Policies as an Expressive Policy Class, 2208.06193).

The policy imitates the data and climbs the critics, :math:`L = L_d + \eta L_q`; the critics learn
the values of the averaged policy. What an update draws at random comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.diffusion_policy import DiffusionPolicy
from dql_core.algo.losses import bootstrapped_target, critic_loss, improvement_loss
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimization import Descent
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.networks.critic import TwinCritic
from dql_core.networks.denoiser import Denoiser
from dql_core.networks.ema import frozen_copy, move_towards


@dataclass(frozen=True)
class QLLosses:
    """What an update minimised and measured, scalars on the device; names become metrics.

    Attributes:
        imitation: Behaviour cloning, L_d.
        improvement: Policy improvement, L_q, before its weight eta.
        critic: Squared error of both critics.
        q_data: Mean value of the data's actions.
        q_target: Mean target of the critics.
    """

    imitation: Tensor
    improvement: Tensor
    critic: Tensor
    q_data: Tensor
    q_target: Tensor


class DiffusionQL:
    """All networks of the algorithm and the update that trains them.

    Attributes:
        step: Updates taken so far.
        policy: The diffusion policy and its average.
        critic: Twin critics.
        target_critic: Their slow copy, which makes the targets and ranks candidates.
        noise: Source of the updates' randomness.
        modules: Every network by name: all there is to save of them.
        descents: Every optimiser by name.
    """

    def __init__(
        self,
        config: TrainConfig,
        observation_size: int,
        action_size: int,
        generator: torch.Generator,
    ) -> None:
        """Build the networks on the generator's device; torch's global generator seeds them."""
        device = generator.device
        self.step = 0
        self.policy = DiffusionPolicy(config, observation_size, action_size).to(device)
        self.critic = TwinCritic(
            observation_size,
            action_size,
            config.critic.width,
            config.critic.depth,
            layer_norm=config.critic.layer_norm,
        ).to(device)
        self.target_critic = frozen_copy(self.critic)
        self.noise = NoiseSource(
            generator,
            config.diffusion.num_diffusion_steps,
            action_size,
            config.critic.max_q_samples,
        )
        self.modules: dict[str, nn.Module] = {
            "policy": self.policy,
            "critic": self.critic,
            "target_critic": self.target_critic,
        }
        decay, steps = config.run.learning_rate_decay, config.run.steps
        self.descents = {
            "policy": Descent(
                self.policy.online.parameters(),
                config.policy.learning_rate,
                config.policy.gradient_clip,
                decay,
                steps,
            ),
            "critic": Descent(
                self.critic.parameters(),
                config.critic.learning_rate,
                config.critic.gradient_clip,
                decay,
                steps,
            ),
        }
        self._config = config

    @property
    def acting_denoiser(self) -> Denoiser:
        """The network that acts after training."""
        use_average = self._config.selection.weights == "ema"
        return self.policy.average if use_average else self.policy.online

    @property
    def ranking_critic(self) -> TwinCritic:
        """The critics that rank candidates after training."""
        return self.target_critic

    def update(self, batch: Batch, noise: UpdateNoise | None = None) -> QLLosses:
        """Improve the critics, then the policy, then let the slow copies follow.

        Args:
            batch: B transitions.
            noise: Everything random in the update; drawn from `noise` by default.
        """
        if noise is None:
            noise = self.noise.draw(len(batch.reward))

        target = self._target(batch, noise.target)
        q_values = self.critic(batch.observation, batch.action)
        loss_critic = critic_loss(q_values, target)
        self.descents["critic"].descend(loss_critic, self.step)

        imitation = self.policy.imitation_loss(batch, noise)
        action = self.policy.sample(self.policy.online, batch.observation, noise.policy)
        improvement = improvement_loss(self.critic(batch.observation, action), noise.guide)
        loss_policy = imitation + self._config.policy.eta * improvement
        self.descents["policy"].descend(loss_policy, self.step)

        self.step += 1
        self.policy.move_average(self.step)
        move_towards(self.target_critic, self.critic, self._config.critic.tau)
        return QLLosses(
            imitation=imitation.detach(),
            improvement=improvement.detach(),
            critic=loss_critic.detach(),
            q_data=q_values.detach().mean(),
            q_target=target.mean(),
        )

    @torch.no_grad()
    def _target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrapped values of the batch, shape (B,), from the slow copies alone."""
        samples = self._config.critic.max_q_samples
        observation = batch.next_observation.repeat_interleave(samples, dim=0)  # (B * S, O)
        action = self.policy.sample(self.policy.average, observation, noise)
        next_q_values = self.target_critic(observation, action)  # (E, B * S)
        return bootstrapped_target(
            batch.reward,
            batch.bootstrap,
            next_q_values.unflatten(1, (-1, samples)),
            self._config.critic.discount,
        )
