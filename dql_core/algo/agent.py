"""What every algorithm offers to the training loop, the checkpoint and the export."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from dql_core.algo.bc import DiffusionBC
from dql_core.algo.critics import Critics
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.execution import Execution
from dql_core.algo.noise import NoiseSource, UpdateNoise
from dql_core.algo.optimizer import Optimizer
from dql_core.algo.td3_bc import TD3BC
from dql_core.config import AgentName, TrainConfig
from dql_core.data.batches import Batch
from dql_core.models.actors import ActionSampler
from dql_core.models.critic import TwinCritic
from dql_core.spec import PolicySpec


class Losses(Protocol):
    """A frozen dataclass of scalar tensors whose field names become metrics."""

    @property
    def imitation(self) -> Tensor:
        """Behaviour cloning, which every agent does."""


class Agent(Protocol):
    """An algorithm with all its state.

    Attributes:
        step: Updates taken so far.
        noise: Source of the updates' randomness.
        modules: Every network by name.
        optimizers: Every optimiser by name.
        execution: How its updates are run.
    """

    step: int
    noise: NoiseSource
    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    execution: Execution

    @property
    def critics(self) -> Critics | None:
        """The action values, if the algorithm learns any."""

    @property
    def target_sampler(self) -> ActionSampler:
        """What takes the next actions in the critics' targets."""

    @property
    def acting_sampler(self) -> ActionSampler:
        """What acts after training."""

    @property
    def ranking_critic(self) -> TwinCritic | None:
        """The critics that rank candidates after training, if the algorithm has any."""

    def update(self, batch: Batch) -> Losses:
        """Learn from one batch."""

    def imitation_loss(self, batch: Batch, noise: UpdateNoise) -> Tensor:
        """Return what behaviour cloning minimises, a scalar, without learning."""


AGENTS: dict[AgentName, type[DiffusionQL] | type[DiffusionBC] | type[TD3BC]] = {
    "diffusion_ql": DiffusionQL,
    "diffusion_bc": DiffusionBC,
    "td3_bc": TD3BC,
}


def make_agent(config: TrainConfig, spec: PolicySpec, generator: torch.Generator) -> Agent:
    """Build the agent that ``config`` names.

    Args:
        config: The training configuration.
        spec: Gives the widths of observation and action.
        generator: Source of the updates' randomness, on the device of the networks. The initial
            weights come from torch's global generator.
    """
    sizes = len(spec.observation), len(spec.action)
    return AGENTS[config.agent](config, *sizes, generator)
