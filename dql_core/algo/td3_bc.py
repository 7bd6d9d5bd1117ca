r"""TD3+BC (Fujimoto, Gu: A Minimalist Approach to Offline RL, arXiv 2106.06860).

The baseline with one action for each observation: where the data shows two good ways, it averages
them. Its critics are those of Diffusion-QL; its policy is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dql_core.algo.critics import Critics
from dql_core.algo.execution import Execution
from dql_core.algo.losses import critic_loss, td3_bc_loss
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.models.actors import ActionSampler, DeterministicActor
from dql_core.models.critic import TwinCritic
from dql_core.models.ema import MovingAverage, frozen_copy


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
        self.optimizers = {
            "policy": Optimizer(
                self.actor.parameters(), policy.learning_rate, policy.gradient_clip, config.run
            ),
            "critic": self.critics.optimizer,
        }
        self._config = config
        self.execution = Execution(config.run, device)
        self._learn_values = self.execution.function(self._learn_values_from)
        self._learn_policy = self.execution.function(self._learn_policy_from)

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
        for optimizer in self.optimizers.values():
            optimizer.schedule(self.step)
        values = self._learn_values(batch, noise)
        self.step += 1
        if self.step % self._config.td3.policy_every == 0:
            self._learn_policy(batch)
        return TD3BCLosses(self._last.imitation.clone(), *values)

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Squared distance to the data's actions, a scalar, without learning."""
        return functional.mse_loss(self.actor.action(batch.observation), batch.action)

    def _learn_values_from(self, batch: Batch, noise: UpdateNoise) -> tuple[Tensor, ...]:
        """Improve the critics; returns their losses in the order of `TD3BCLosses`."""
        target = self._target(batch, noise.target[0])
        with self.execution.precision():
            q_values = self.critics.online(batch.observation, batch.action).float()
        loss = critic_loss(q_values, target)
        self.optimizers["critic"].step(loss)
        values = q_values.detach()
        return loss.detach(), values.mean(), values.abs().mean(), target.mean()

    def _learn_policy_from(self, batch: Batch) -> None:
        """Improve the policy and let the slow copies follow."""
        with self.execution.precision():
            action = self.actor.action(batch.observation).float()
            q_values = self.critics.online(batch.observation, action).float()
        loss, imitation = td3_bc_loss(action, batch.action, q_values, self._config.td3.alpha)
        self.optimizers["policy"].step(loss)
        self._last.imitation.copy_(imitation.detach())
        self._average.move()
        self.critics.average.move()

    @torch.no_grad()
    def _target(self, batch: Batch, noise: Tensor) -> Tensor:
        """Bootstrapped values of smoothed next actions, shape (B,)."""
        td3 = self._config.td3
        limit = td3.target_noise_clip
        smoothing = (td3.target_noise * noise).clamp(-limit, limit)
        with self.execution.precision():
            action = self._target_actor.action(batch.next_observation).float()
            return self.critics.bootstrapped(batch, (action + smoothing).clamp(-1.0, 1.0))


class _LastLosses(nn.Module):
    """What the last update of the policy minimised: zero before it, which is after the critics'.

    A module, so that a checkpoint keeps it and a resumed run tells the same losses.
    """

    imitation: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("imitation", torch.zeros((), device=device))
