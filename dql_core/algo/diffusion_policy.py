"""A diffusion policy, its slow average, and what the agents have in common that train one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dql_core.algo.agent import BaseAgent, LossesT_co
from dql_core.algo.losses import imitation_loss, noised_action
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.actors import ActionSampler, DiffusionSampler
from dql_core.models.denoiser import Denoiser
from dql_core.models.ema import MovingAverage, frozen_copy
from dql_core.models.sampler import make_process
from dql_core.models.schedule import NoiseSchedule


@dataclass(frozen=True)
class Denoised:
    """What the learning network makes of the data's actions after noise was put into them.

    Attributes:
        predicted: The network's output, shape (B, A).
        target: What it should have been, shape (B, A).
        clean: The clean action that its output implies, shape (B, A).
    """

    predicted: Tensor
    target: Tensor
    clean: Tensor

    @property
    def loss(self) -> Tensor:
        """Behaviour cloning, L_d, a scalar."""
        return imitation_loss(self.predicted, self.target)


class DiffusionPolicy(nn.Module):
    """Samples actions in [-1, 1] by the reverse process of a diffusion model.

    Attributes:
        online: The network that learns.
        average: Its exponential moving average, equal to it at the start.
        schedule: Noise schedule with N steps.
        process: The reverse process.
    """

    alpha_bars: Tensor

    def __init__(self, config: TrainConfig, observation_size: int, action_size: int) -> None:
        super().__init__()
        diffusion, policy = config.diffusion, config.policy
        self.schedule = NoiseSchedule.make(diffusion.schedule, diffusion.num_diffusion_steps)
        self.process = make_process(
            self.schedule,
            sampler=diffusion.sampler,
            num_sampling_steps=diffusion.num_sampling_steps,
            variance=diffusion.variance,
            prediction=diffusion.prediction,
            clip_denoised=diffusion.clip_denoised,
        )
        self.online = Denoiser(
            observation_size, action_size, self.schedule.num_steps, policy.width, policy.depth
        )
        self.average = frozen_copy(self.online)
        alpha_bars = torch.tensor(self.schedule.alpha_bars, dtype=torch.float32)
        self.register_buffer("alpha_bars", alpha_bars, persistent=False)

    def denoise(
        self, batch: Batch, noise: UpdateNoise, network: Denoiser | None = None
    ) -> Denoised:
        """Put noise into the data's actions and let a network predict it, or the learning one."""
        alpha_bar = self.alpha_bars[noise.step][:, None]
        noisy = noised_action(batch.action, noise.imitation, alpha_bar)
        predicted = (network or self.online)(noisy, noise.step, batch.observation)
        target = noise.imitation if self.process.prediction == "epsilon" else batch.action
        return Denoised(predicted, target, self.process.clean_action(noisy, predicted, alpha_bar))

    def sampler(self, *, averaged: bool) -> DiffusionSampler:
        """Return what acts after training; it shares its network with this policy."""
        return DiffusionSampler(self.average if averaged else self.online, self.process)


class DiffusionAgent(BaseAgent[LossesT_co]):
    """An agent whose policy is a diffusion model.

    Attributes:
        policy: The diffusion policy and its average.
    """

    def __init__(
        self,
        config: TrainConfig,
        observation_size: int,
        action_size: int,
        generator: torch.Generator,
        num_target_samples: int = 0,
        num_critics: int = 2,
    ) -> None:
        """Build the network on the generator's device; torch's global generator seeds it."""
        super().__init__(config, generator.device)
        self.policy = DiffusionPolicy(config, observation_size, action_size).to(generator.device)
        self.noise = NoiseSource(
            generator,
            config.diffusion.num_diffusion_steps,
            self.policy.process.num_noises,
            action_size,
            num_target_samples,
            num_critics,
        )
        online, average = self.policy.online, self.policy.average
        self.modules = {"policy": self.policy}
        self.optimizers = {"policy": Optimizer(online.parameters(), config.policy, config.run)}
        self._average = MovingAverage(average, online, config.policy.ema_rate)

    @property
    def acting_sampler(self) -> ActionSampler:
        """The policy of the last update or its average, as configured."""
        return self.policy.sampler(averaged=self._config.selection.weights == "ema")

    @property
    def target_sampler(self) -> ActionSampler:
        """The averaged policy."""
        return self.policy.sampler(averaged=True)

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Behaviour cloning, L_d, a scalar, without learning."""
        return self.policy.denoise(batch, noise).loss

    def _schedule(self) -> None:
        super()._schedule()
        policy = self._config.policy
        due = self.step >= policy.ema_start and self.step % policy.ema_every == 0
        self._average.rate.fill_(policy.ema_rate if due else 0.0)
