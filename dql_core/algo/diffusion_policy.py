"""A diffusion policy: the learning network, its slow average, and the process they share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dql_core.algo.losses import imitation_loss, noised_action
from dql_core.algo.noise import UpdateNoise
from dql_core.config import TrainConfig
from dql_core.data.batches import Batch
from dql_core.diffusion.sampler import sample
from dql_core.diffusion.schedule import NoiseSchedule
from dql_core.networks.denoiser import Denoiser
from dql_core.networks.ema import frozen_copy, move_towards


class DiffusionPolicy(nn.Module):
    """Samples actions in [-1, 1] by the reverse process of a diffusion model.

    Attributes:
        online: The network that learns.
        average: Its exponential moving average, equal to it at the start.
        schedule: Noise schedule with N steps.
    """

    alpha_bars: Tensor

    def __init__(self, config: TrainConfig, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.schedule = NoiseSchedule.make(
            config.diffusion.schedule, config.diffusion.num_diffusion_steps
        )
        self.online = Denoiser(
            observation_size,
            action_size,
            self.schedule.num_steps,
            config.policy.width,
            config.policy.depth,
        )
        self.average = frozen_copy(self.online)
        alpha_bars = torch.tensor(self.schedule.alpha_bars, dtype=torch.float32)
        self.register_buffer("alpha_bars", alpha_bars, persistent=False)
        self._config = config

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Return how badly the policy tells the noise in the data's actions, a scalar."""
        alpha_bar = self.alpha_bars[noise.step]
        noisy = noised_action(batch.action, noise.imitation, alpha_bar)
        return imitation_loss(self.online(noisy, noise.step, batch.observation), noise.imitation)

    def sample(self, denoiser: Denoiser, observation: Tensor, noise: Tensor) -> Tensor:
        """Sample actions with one of the two networks.

        Args:
            denoiser: `online` or `average`.
            observation: Shape (B, O).
            noise: Shape (N, B, A).

        Returns:
            Shape (B, A); differentiable through the whole chain.
        """
        diffusion = self._config.diffusion
        return sample(
            denoiser,
            self.schedule,
            observation,
            noise,
            variance=diffusion.variance,
            clip_denoised=diffusion.clip_denoised,
        )

    def move_average(self, step: int) -> None:
        """Let the average follow after the update number ``step`` (from 1)."""
        if step % self._config.policy.ema_every == 0:
            move_towards(self.average, self.online, self._config.policy.ema_rate)
