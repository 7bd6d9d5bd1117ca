"""What the agents have in common whose policy makes actions of noise, of one kind or another."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dql_core.algo.agent import BaseAgent, LossesT_co
from dql_core.algo.diffusion_policy import DiffusionPolicy
from dql_core.algo.generative_policy import GenerativePolicy
from dql_core.algo.mean_flow_policy import MeanFlowPolicy
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.config import DETERMINISTIC_AGENTS, PolicyKind, TrainConfig
from dql_core.data.transitions import Batch
from dql_core.errors import counted
from dql_core.models.actors import ActionSampler
from dql_core.models.ema import MovingAverage

POLICIES: dict[PolicyKind, Callable[[TrainConfig, int, int], GenerativePolicy]] = {
    "diffusion": DiffusionPolicy,
    "mean_flow": MeanFlowPolicy,
}
# With more of the untrained network in its average, a policy does not act as it has learned.
MUCH_UNTRAINED = 0.1


class GenerativeAgent(BaseAgent[LossesT_co]):
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


def untrained_share(config: TrainConfig, steps: int) -> float:
    """Return how much of the policy that acts is the network that training began with.

    Of the average, that is what no update has replaced: few updates hardly move it.

    Args:
        config: Of the training.
        steps: Updates taken.
    """
    policy = config.policy
    if config.agent in DETERMINISTIC_AGENTS or config.selection.weights == "online":
        return 0.0
    first = policy.ema_every * math.ceil(policy.ema_start / policy.ema_every)
    moves = len(range(first, steps, policy.ema_every))
    return float((1 - policy.ema_rate) ** moves)


def untrained_remark(config: TrainConfig, steps: int) -> str:
    """Return a line on an average that is in large part untrained; empty if it is not."""
    share, policy = untrained_share(config, steps), config.policy
    if share <= MUCH_UNTRAINED:
        return ""
    return (
        f"after {counted(steps, 'update')} the average that acts is {share:.0%} the network that "
        f"training began with (policy.ema_rate {policy.ema_rate:g}, every {policy.ema_every} "
        f"updates): train longer, or with selection.weights=online"
    )
