"""A diffusion policy: the reverse chain from noise to actions, and its slow average."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dql_core.algo.generative_policy import GenerativePolicy, Imitation
from dql_core.algo.losses import imitation_loss, noised_action
from dql_core.algo.noise import UpdateNoise, diffusion_step
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.actors import DiffusionSampler
from dql_core.models.denoiser import Denoiser
from dql_core.models.sampler import make_process
from dql_core.models.schedule import NoiseSchedule


class DiffusionPolicy(GenerativePolicy):
    """Samples actions in [-1, 1] by the reverse process of a diffusion model.

    Attributes:
        schedule: Noise schedule with N steps.
        process: The reverse process.
    """

    online: Denoiser
    average: Denoiser
    alpha_bars: Tensor
    error_scale: Tensor

    def __init__(self, config: TrainConfig, observation_size: int, action_size: int) -> None:
        diffusion, policy = config.diffusion, config.policy
        schedule = NoiseSchedule.make(diffusion.schedule, diffusion.num_diffusion_steps)
        super().__init__(
            Denoiser(observation_size, action_size, schedule.num_steps, policy.width, policy.depth)
        )
        self.schedule = schedule
        self.process = make_process(
            schedule,
            sampler=diffusion.sampler,
            num_sampling_steps=diffusion.num_sampling_steps,
            variance=diffusion.variance,
            prediction=diffusion.prediction,
            clip_denoised=diffusion.clip_denoised,
        )
        self.num_noises = self.process.num_noises
        self._guides_clean = policy.policy_gradient == "one_step"
        alpha_bars = torch.tensor(schedule.alpha_bars, dtype=torch.float32)
        self.register_buffer("alpha_bars", alpha_bars, persistent=False)
        error_scale = self.process.error_scale(diffusion.loss, alpha_bars)
        self._is_scaled = bool((error_scale != 1.0).any())
        self.register_buffer("error_scale", error_scale, persistent=False)

    def draw_time(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw diffusion steps, shape (B,)."""
        return diffusion_step(self.schedule.num_steps)(batch_size, generator)

    def imitate(
        self, batch: Batch, noise: UpdateNoise, network: nn.Module | None = None
    ) -> Imitation:
        """Put noise into the data's actions and let a network predict it, or the learning one."""
        alpha_bar = self.alpha_bars[noise.time][:, None]
        noisy = noised_action(batch.action, noise.imitation, alpha_bar)
        predicted = (network or self.online)(noisy, noise.time, batch.observation)
        target = self.process.target(batch.action, noise.imitation, alpha_bar)
        clean = None
        if self._guides_clean:
            clean = self.process.clean_action(noisy, predicted, alpha_bar)
        if self._is_scaled:
            scale = self.error_scale[noise.time][:, None]
            predicted, target = scale * predicted, scale * target
        return Imitation(imitation_loss(predicted, target, batch.mask), clean)

    def sample(self, observation: Tensor, noise: Tensor, *, averaged: bool = False) -> Tensor:
        """Run the whole reverse process."""
        network = self.average if averaged else self.online
        return self.process.sample(network, observation, noise)

    def sampler(self, *, averaged: bool) -> DiffusionSampler:
        """Return what acts after training; it shares its network with this policy."""
        return DiffusionSampler(self.average if averaged else self.online, self.process)
