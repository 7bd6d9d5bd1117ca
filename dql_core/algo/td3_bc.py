r"""TD3+BC (Fujimoto, Gu: A Minimalist Approach to Offline RL, arXiv 2106.06860).

The baseline with one action for each observation: where the data shows two good ways, it averages
them. Its critics are those of Diffusion-QL; its policy is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.agent import BaseAgent
from dql_core.algo.critics import Critics
from dql_core.algo.losses import imitation_loss, td3_bc_loss
from dql_core.algo.noise import NoiseSource, UpdateNoise, diffusion_step
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.actors import ActionSampler, DeterministicActor
from dql_core.models.ema import MovingAverage, frozen_copy


@dataclass(frozen=True)
class TD3BCLosses:
    """What an update minimised and measured, as `QLLosses`.

    Attributes:
        imitation: Squared distance to the data's actions, of the last update of the policy.
    """

    imitation: Tensor
    critic: Tensor
    q_data: Tensor
    q_magnitude: Tensor
    q_target: Tensor
    targets_clipped: Tensor


class TD3BC(BaseAgent[TD3BCLosses]):
    """All networks of the algorithm and the update that trains them.

    Attributes:
        actor: The policy.
        critics: The critics and their slow copies.
    """

    critics: Critics
    ranking_critic = None  # there is one action only

    def __init__(
        self,
        config: TrainConfig,
        observation_size: int,
        action_size: int,
        generator: torch.Generator,
    ) -> None:
        """Build the networks on the generator's device; torch's global generator seeds them."""
        super().__init__(config, generator.device)
        device, policy = generator.device, config.policy
        self.actor = DeterministicActor(
            observation_size, action_size, policy.width, policy.depth
        ).to(device)
        self._target_actor = frozen_copy(self.actor)
        self._average = MovingAverage(self._target_actor, self.actor, config.critic.tau)
        self.critics = Critics(config, observation_size, action_size, device)
        self.noise = NoiseSource(
            generator, diffusion_step(1), 1, action_size, num_target_samples=1
        )
        self._last = _LastLosses(device)
        self.modules = {
            "actor": self.actor,
            "target_actor": self._target_actor,
            "last_losses": self._last,
            **self.critics.modules,
        }
        self.optimizers = {
            "policy": Optimizer(self.actor.parameters(), policy, config.run),
            **self.critics.optimizers,
        }
        self._learn = self._learn_from  # of its two parts, the second is left out at times
        self._learn_values = self.execution.function(self._learn_values_from)
        self._learn_policy = self.execution.function(self._learn_policy_from)

    @property
    def acting_sampler(self) -> ActionSampler:
        """The policy itself, which TD3+BC does not average."""
        return self.actor

    @property
    def target_sampler(self) -> ActionSampler:
        """The slow copy of the policy, whose actions are not smoothed yet."""
        return self._target_actor

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Squared distance to the data's actions, a scalar, without learning."""
        return imitation_loss(self.actor.action(batch.observation), batch.action, batch.mask)

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> TD3BCLosses:
        """Improve the critics and, every few updates, the policy and the slow copies."""
        values = self._learn_values(batch, noise)
        if (self.step + 1) % self._config.td3.policy_every == 0:
            self._learn_policy(batch)
        return TD3BCLosses(self._last.imitation.clone(), *values)

    def _learn_values_from(self, batch: Batch, noise: UpdateNoise) -> tuple[Tensor, ...]:
        """Improve the critics; returns their losses in the order of `TD3BCLosses`."""
        with self.execution.precision():
            target = self.critics.targets(batch, self._smoothed_action, noise.target)
            loss = self.critics.loss(batch, target.values)
        self.optimizers["critic"].step(loss.total)
        values = loss.q_values
        measures = values.mean(), values.abs().mean(), target.values.mean(), target.clipped
        return loss.error, *measures

    def _learn_policy_from(self, batch: Batch) -> None:
        """Improve the policy and let the slow copies follow."""
        with self.execution.precision():
            action = self.actor.action(batch.observation).float()
            q_values = self.critics.online(batch.observation, action).float()
        if self.critics.lower_bound is not None:
            q_values = self.critics.estimate(q_values)[None]
        # Imitation is a mean over all actions of a chunk, and is to weigh as their sum.
        alpha = self._config.td3.alpha / self._config.policy.horizon
        mean = self.execution.ranks.mean
        loss, imitation = td3_bc_loss(action, batch.action, q_values, alpha, mean, batch.mask)
        self.optimizers["policy"].step(loss)
        self._last.imitation.copy_(mean(imitation.detach()))
        self._average.move()
        self.critics.average.move()

    def _smoothed_action(self, observation: Tensor, noise: Tensor) -> Tensor:
        """Actions of the slow copy with a little noise: (B, O) and (1, B, A) -> (B, A)."""
        td3 = self._config.td3
        limit = td3.target_noise_clip
        smoothing = (td3.target_noise * noise[0]).clamp(-limit, limit)
        action = self._target_actor.action(observation).float()
        return (action + smoothing).clamp(-1.0, 1.0)


class _LastLosses(nn.Module):
    """What the last update of the policy minimised: zero before it, which is after the critics'.

    A module, so that a checkpoint keeps it and a resumed run reports the same losses.
    """

    imitation: Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("imitation", torch.zeros((), device=device))
