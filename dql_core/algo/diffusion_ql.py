r"""Diffusion-QL (Wang, Hunt, Zhou: Diffusion Policies as an Expressive Policy Class, 2208.06193).

The policy imitates the data and climbs the critics, :math:`L = L_d + \eta L_q`; the critics learn
the values of the averaged policy. What an update draws at random comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.critics import Critics
from dql_core.algo.diffusion_policy import DiffusionPolicy, PolicyAverage
from dql_core.algo.execution import Execution
from dql_core.algo.losses import critic_loss, improvement_loss
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.models.actors import ActionSampler
from dql_core.models.critic import TwinCritic


@dataclass(frozen=True)
class QLLosses:
    """What an update minimised and measured, scalars on the device; names become metrics.

    Attributes:
        imitation: Behaviour cloning, L_d.
        improvement: Policy improvement, L_q, before its weight eta.
        critic: Squared error of both critics.
        q_data: Mean value of the data's actions.
        q_magnitude: Mean absolute value of the data's actions.
        q_target: Mean target of the critics.
    """

    imitation: Tensor
    improvement: Tensor
    critic: Tensor
    q_data: Tensor
    q_magnitude: Tensor
    q_target: Tensor


class DiffusionQL:
    """All networks of the algorithm and the update that trains them.

    Attributes:
        step: Updates taken so far.
        policy: The diffusion policy and its average.
        critics: Twin critics and their slow copies.
        noise: Source of the updates' randomness.
        modules: Every network by name: all there is to save of them.
        optimizers: Every optimiser by name.
        execution: How its updates are run.
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
        self.policy.average.requires_grad_(config.run.needless_gradients)
        self.critics = Critics(config, observation_size, action_size, device)
        self.noise = NoiseSource(
            generator,
            config.diffusion.num_diffusion_steps,
            self.policy.process.num_noises,
            action_size,
            config.critic.max_q_samples,
        )
        self.modules: dict[str, nn.Module] = {"policy": self.policy, **self.critics.modules}
        self.optimizers = {
            "policy": Optimizer(
                self.policy.online.parameters(),
                config.policy.learning_rate,
                config.policy.gradient_clip,
                config.run,
            ),
            "critic": self.critics.optimizer,
        }
        self._average = PolicyAverage(self.policy, config.policy)
        self._config = config
        self.execution = Execution(config.run, device)
        self._needless = self.critics.optimizer.parameters if config.run.needless_gradients else []
        self._learn = self.execution.update(self._learn_from)

    @property
    def acting_sampler(self) -> ActionSampler:
        """What acts after training."""
        return self.policy.sampler(averaged=self._config.selection.weights == "ema")

    @property
    def target_sampler(self) -> ActionSampler:
        """What takes the next actions in the critics' targets: the averaged policy."""
        return self.policy.sampler(averaged=True)

    @property
    def ranking_critic(self) -> TwinCritic:
        """The critics that rank candidates after training."""
        return self.critics.ranking

    def update(self, batch: Batch, noise: UpdateNoise | None = None) -> QLLosses:
        """Improve the critics, then the policy, then let the slow copies follow.

        Args:
            batch: B transitions.
            noise: Everything random in the update; drawn from `noise` by default.
        """
        if noise is None:
            noise = self.noise.draw(len(batch.reward))
        for optimizer in self.optimizers.values():
            optimizer.schedule(self.step)
        self._average.schedule(self.step)
        losses = self._learn(batch, noise)
        self.step += 1
        return losses

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Behaviour cloning, L_d, a scalar, without learning."""
        return self.policy.denoise(batch, noise).loss

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> QLLosses:
        target = self._target(batch, noise.target)
        loss_critic, q_data, q_magnitude = self._critic_losses(batch, target)
        self.optimizers["critic"].step(loss_critic)

        loss_policy, imitation, improvement = self._policy_losses(batch, noise)
        self.optimizers["policy"].step(loss_policy, self._needless)

        self._average.move()
        self.critics.average.move()
        return QLLosses(
            imitation=imitation.detach(),
            improvement=improvement.detach(),
            critic=loss_critic.detach(),
            q_data=q_data.detach(),
            q_magnitude=q_magnitude.detach(),
            q_target=target.mean(),
        )

    def _target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrapped values of the batch, shape (B,), from the slow copies alone."""
        learning = torch.set_grad_enabled(self._config.run.needless_gradients)
        with learning, self.execution.precision():
            samples = self._config.critic.max_q_samples
            observation = batch.next_observation.repeat_interleave(samples, dim=0)  # (B * S, O)
            next_action = self.policy.sample(self.policy.average, observation, noise)
            return self.critics.bootstrapped(batch, next_action).detach()

    def _critic_losses(self, batch: Batch, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squared error of the critics, and mean and mean magnitude of their values."""
        with self.execution.precision():
            q_values = self.critics.online(batch.observation, batch.action).float()
        return critic_loss(q_values, target), q_values.mean(), q_values.abs().mean()

    def _policy_losses(self, batch: Batch, noise: UpdateNoise) -> tuple[Tensor, Tensor, Tensor]:
        """The policy's loss and its two parts, L_d and L_q."""
        with self.execution.precision():
            denoised = self.policy.denoise(batch, noise)
            if self._config.policy.policy_gradient == "one_step":
                action = denoised.clean
            else:
                action = self.policy.sample(self.policy.online, batch.observation, noise.policy)
            guiding = self.critics.online.one(noise.guide, batch.observation, action)
            with torch.no_grad():
                other = self.critics.online.one(1 - noise.guide, batch.observation, action)
        improvement = improvement_loss(guiding.float(), other.float())
        return denoised.loss + self._config.policy.eta * improvement, denoised.loss, improvement
