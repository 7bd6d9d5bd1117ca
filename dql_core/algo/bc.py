"""Diffusion-BC: the same diffusion policy, imitating the data and nothing more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.diffusion_policy import DiffusionPolicy, PolicyAverage
from dql_core.algo.execution import Execution
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.models.actors import ActionSampler
from dql_core.models.critic import TwinCritic


@dataclass(frozen=True)
class BCLosses:
    """What an update minimised, scalars on the device; names become metrics.

    Attributes:
        imitation: Behaviour cloning, L_d.
    """

    imitation: Tensor


class DiffusionBC:
    """A diffusion policy trained by behaviour cloning.

    Attributes:
        step: Updates taken so far.
        policy: The diffusion policy and its average.
        noise: Source of the updates' randomness.
        modules: Every network by name: all there is to save of them.
        optimizers: Every optimiser by name.
        execution: How its updates are run.
        critics: None: imitation knows no values.
    """

    critics = None

    def __init__(
        self,
        config: TrainConfig,
        observation_size: int,
        action_size: int,
        generator: torch.Generator,
    ) -> None:
        """Build the network on the generator's device; torch's global generator seeds it."""
        self.step = 0
        self.policy = DiffusionPolicy(config, observation_size, action_size).to(generator.device)
        self.noise = NoiseSource(
            generator,
            config.diffusion.num_diffusion_steps,
            self.policy.process.num_noises,
            action_size,
            num_target_samples=0,
        )
        self.modules: dict[str, nn.Module] = {"policy": self.policy}
        self.optimizers = {
            "policy": Optimizer(
                self.policy.online.parameters(),
                config.policy.learning_rate,
                config.policy.gradient_clip,
                config.run,
            )
        }
        self._average = PolicyAverage(self.policy, config.policy)
        self._config = config
        self.execution = Execution(config.run, generator.device)
        self._learn = self.execution.update(self._learn_from)

    @property
    def acting_sampler(self) -> ActionSampler:
        """What acts after training."""
        return self.policy.sampler(averaged=self._config.selection.weights == "ema")

    @property
    def target_sampler(self) -> ActionSampler:
        """The averaged policy."""
        return self.policy.sampler(averaged=True)

    @property
    def ranking_critic(self) -> TwinCritic | None:
        """None: imitation knows no values to rank candidates by."""
        return None

    def update(self, batch: Batch, noise: UpdateNoise | None = None) -> BCLosses:
        """Improve the policy, then let its average follow.

        Args:
            batch: B transitions.
            noise: Everything random in the update; drawn from `noise` by default.
        """
        if noise is None:
            noise = self.noise.draw(len(batch.reward))
        self.optimizers["policy"].schedule(self.step)
        self._average.schedule(self.step)
        losses = self._learn(batch, noise)
        self.step += 1
        return losses

    def _learn_from(self, batch: Batch, noise: UpdateNoise) -> BCLosses:
        with self.execution.precision():
            loss = self.imitation_loss(batch, noise)
        self.optimizers["policy"].step(loss)
        self._average.move()
        return BCLosses(imitation=loss.detach())

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Behaviour cloning, L_d, a scalar."""
        return self.policy.denoise(batch, noise).loss
