"""Diffusion-BC: the same diffusion policy, imitating the data and nothing more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.diffusion_policy import DiffusionPolicy
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimization import Descent
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.networks.critic import TwinCritic
from dql_core.networks.denoiser import Denoiser


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
        descents: Every optimiser by name.
    """

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
            generator, config.diffusion.num_diffusion_steps, action_size, num_target_samples=0
        )
        self.modules: dict[str, nn.Module] = {"policy": self.policy}
        self.descents = {
            "policy": Descent(
                self.policy.online.parameters(),
                config.policy.learning_rate,
                config.policy.gradient_clip,
                config.run.learning_rate_decay,
                config.run.steps,
            )
        }
        self._config = config

    @property
    def acting_denoiser(self) -> Denoiser:
        """The network that acts after training."""
        use_average = self._config.selection.weights == "ema"
        return self.policy.average if use_average else self.policy.online

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
        imitation = self.policy.imitation_loss(batch, noise)
        self.descents["policy"].descend(imitation, self.step)
        self.step += 1
        self.policy.move_average(self.step)
        return BCLosses(imitation=imitation.detach())
