"""A diffusion policy, and what the agents have in common that train one or another kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dql_core.algo.agent import BaseAgent, LossesT_co
from dql_core.algo.generative_policy import GenerativePolicy, Imitation
from dql_core.algo.losses import imitation_loss, noised_action
from dql_core.algo.mean_flow_policy import MeanFlowPolicy
from dql_core.algo.noise import NoiseSource, UpdateNoise, diffusion_step
from dql_core.algo.optimizer import Optimizer
from dql_core.config import PolicyKind, TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.actors import ActionSampler, DiffusionSampler
from dql_core.models.denoiser import Denoiser
from dql_core.models.ema import MovingAverage
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
        target = noise.imitation if self.process.prediction == "epsilon" else batch.action
        loss = imitation_loss(predicted, target)
        if not self._guides_clean:
            return Imitation(loss)
        return Imitation(loss, self.process.clean_action(noisy, predicted, alpha_bar))

    def sample(self, observation: Tensor, noise: Tensor, *, averaged: bool = False) -> Tensor:
        """Run the whole reverse process."""
        network = self.average if averaged else self.online
        return self.process.sample(network, observation, noise)

    def sampler(self, *, averaged: bool) -> DiffusionSampler:
        """Return what acts after training; it shares its network with this policy."""
        return DiffusionSampler(self.average if averaged else self.online, self.process)


POLICIES: dict[PolicyKind, Callable[[TrainConfig, int, int], GenerativePolicy]] = {
    "diffusion": DiffusionPolicy,
    "mean_flow": MeanFlowPolicy,
}


class DiffusionAgent(BaseAgent[LossesT_co]):
    """An agent whose policy makes actions of noise: by a diffusion model or a mean flow.

    Attributes:
        policy: The policy and its average.
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
        policy = POLICIES[config.policy.kind](config, observation_size, action_size)
        self.policy = policy.to(generator.device)
        self.noise = NoiseSource(
            generator,
            self.policy.draw_time,
            self.policy.num_noises,
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
        return self.policy.imitate(batch, noise).loss

    def _schedule(self) -> None:
        super()._schedule()
        policy = self._config.policy
        due = self.step >= policy.ema_start and self.step % policy.ema_every == 0
        self._average.rate.fill_(policy.ema_rate if due else 0.0)
