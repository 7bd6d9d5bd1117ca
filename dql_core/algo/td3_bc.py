r"""TD3+BC (Fujimoto, Gu: A Minimalist Approach to Offline RL, arXiv 2106.06860).

The baseline with one action for each observation: where the data shows two good ways, it averages
them. Its critics are those of Diffusion-QL; its policy is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dql_core.algo.acceleration import Acceleration
from dql_core.algo.critics import Critics
from dql_core.algo.losses import critic_loss, td3_bc_loss
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimization import Descent
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.networks.action_sampler import ActionSampler
from dql_core.networks.actor import DeterministicActor
from dql_core.networks.critic import TwinCritic
from dql_core.networks.ema import MovingAverage, frozen_copy


@dataclass(frozen=True)
class TD3BCLosses:
    """What an update minimised and measured, scalars on the device; names become metrics.

    Attributes:
        imitation: Squared distance to the data's actions, of the last update of the policy.
        critic: Squared error of both critics.
        q_data: Mean value of the data's actions.
        q_magnitude: Mean absolute value of the data's actions.
        q_target: Mean target of the critics.
    """

    imitation: Tensor
    critic: Tensor
    q_data: Tensor
    q_magnitude: Tensor
    q_target: Tensor


class TD3BC:
    """All networks of the algorithm and the update that trains them.

    Attributes:
        step: Updates taken so far.
        actor: The policy.
        critics: Twin critics and their slow copies.
        noise: Source of the updates' randomness.
        modules: Every network by name: all there is to save of them.
        descents: Every optimiser by name.
        acceleration: How its updates are run.
    """

    def __init__(
        self,
        config: TrainConfig,
        observation_size: int,
        action_size: int,
        generator: torch.Generator,
    ) -> None:
        """Build the networks on the generator's device; torch's global generator seeds them."""
        device, policy = generator.device, config.policy
        self.step = 0
        self.actor = DeterministicActor(
            observation_size, action_size, policy.width, policy.depth
        ).to(device)
        self._target_actor = frozen_copy(self.actor)
        self._average = MovingAverage(self._target_actor, self.actor, config.critic.tau)
        self.critics = Critics(config, observation_size, action_size, device)
        self.noise = NoiseSource(generator, 1, 1, action_size, num_target_samples=1)
        self._last = _LastLosses(device)
        self.modules: dict[str, nn.Module] = {
            "actor": self.actor,
            "target_actor": self._target_actor,
            "last_losses": self._last,
            **self.critics.modules,
        }
        self.descents = {
            "policy": Descent(
                self.actor.parameters(), policy.learning_rate, policy.gradient_clip, config.run
            ),
            "critic": self.critics.descent,
        }
        self._config = config
        self.acceleration = Acceleration(config.run, device)
        self._target = self.acceleration.function(self._compute_target)
        self._critic_losses = self.acceleration.function(self._compute_critic_losses)
        self._policy_losses = self.acceleration.function(self._compute_policy_losses)

    @property
    def acting_sampler(self) -> ActionSampler:
        """What acts after training: the policy itself, which TD3+BC does not average."""
        return self.actor

    @property
    def target_sampler(self) -> ActionSampler:
        """What takes the next actions in the critics' targets, before they are smoothed."""
        return self._target_actor

    @property
    def ranking_critic(self) -> TwinCritic | None:
        """None: there is one action only."""
        return None

    def update(self, batch: Batch, noise: UpdateNoise | None = None) -> TD3BCLosses:
        """Improve the critics and, every few updates, the policy and the slow copies.

        Args:
            batch: B transitions.
            noise: Everything random in the update; drawn from `noise` by default.
        """
        if noise is None:
            noise = self.noise.draw(len(batch.reward))
        for descent in self.descents.values():
            descent.schedule(self.step)
        target = self._target(batch, noise.target[0])
        loss_critic, q_data, q_magnitude = self._critic_losses(batch, target)
        self.descents["critic"].descend(loss_critic)
        self.step += 1
        if self.step % self._config.td3.policy_every == 0:
            loss_policy, imitation = self._policy_losses(batch)
            self.descents["policy"].descend(loss_policy)
            self._last.imitation.copy_(imitation.detach())
            self._average.move()
            self.critics.average.move()
        return TD3BCLosses(
            imitation=self._last.imitation.clone(),
            critic=loss_critic.detach(),
            q_data=q_data.detach(),
            q_magnitude=q_magnitude.detach(),
            q_target=target.mean(),
        )

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Squared distance to the data's actions, a scalar, without learning."""
        return functional.mse_loss(self.actor.action(batch.observation), batch.action)

    @torch.no_grad()
    def _compute_target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrapped values of smoothed next actions, shape (B,)."""
        td3 = self._config.td3
        limit = td3.target_noise_clip
        smoothing = (td3.target_noise * noise).clamp(-limit, limit)
        action = self._target_actor.action(batch.next_observation).float()
        return self.critics.bootstrapped(batch, (action + smoothing).clamp(-1.0, 1.0))

    def _compute_critic_losses(
        self, batch: Batch, target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q_values = self.critics.online(batch.observation, batch.action).float()
        return critic_loss(q_values, target), q_values.mean(), q_values.abs().mean()

    def _compute_policy_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        action = self.actor.action(batch.observation).float()
        q_values = self.critics.online(batch.observation, action).float()
        return td3_bc_loss(action, batch.action, q_values, self._config.td3.alpha)


class _LastLosses(nn.Module):
    """What the last update of the policy minimised: zero before it, which is after the critics'.

    A module, so that a checkpoint keeps it and a resumed run tells the same losses.
    """

    imitation: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("imitation", torch.zeros((), device=device))
