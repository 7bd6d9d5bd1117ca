"""The algorithms by the names that a configuration gives them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dql_core.algo.agent import Agent
from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.td3_bc import TD3BC
from dql_core.config import AgentName, TrainConfig
from dql_core.spec import PolicySpec

AGENTS: dict[AgentName, Callable[[TrainConfig, int, int, torch.Generator], Agent]] = {
    "diffusion_ql": DiffusionQL,
    "diffusion_bc": DiffusionBC,
    "td3_bc": TD3BC,
}


def make_agent(config: TrainConfig, spec: PolicySpec, generator: torch.Generator) -> Agent:
    """Build the agent that ``config`` names.

    Args:
        config: The training configuration.
        spec: Gives the widths of observation and action. To an agent a chunk is one action, of
            all its numbers.
        generator: Source of the updates' randomness, on the device of the networks. The initial
            weights come from torch's global generator.
    """
    sizes = len(spec.observation), config.policy.horizon * len(spec.action)
    return AGENTS[config.agent](config, *sizes, generator)
