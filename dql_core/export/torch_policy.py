"""A policy that acts straight from a checkpoint, without an export."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dql_core.algo.agent import Agent
from dql_core.config import TrainConfig
from dql_core.export.graph import PolicyGraph
from dql_core.normalize import Normalizer
from dql_core.runtime.choice import Choice, resolve_choice
from dql_core.runtime.noise import draw_noise
from dql_core.runtime.policy import Decision
from dql_core.spec import PolicySpec


def policy_graph(agent: Agent, config: TrainConfig, normalizer: Normalizer) -> PolicyGraph:
    """Assemble the acting function of a trained agent; it shares the agent's weights."""
    return PolicyGraph(
        agent.acting_sampler,
        agent.ranking_critic,
        normalizer,
        temperature=config.selection.temperature,
        raw_temperature=config.selection.temperature_scale == "raw",
    )


def default_choice(agent: Agent, config: TrainConfig) -> Choice:
    """How a trained agent chooses unless the caller wants otherwise."""
    configured = Choice(config.selection.num_candidates, config.selection.rule)
    return resolve_choice(configured, agent.ranking_critic is not None)


class TorchPolicy:
    """Samples actions from an agent's own networks; keeps no state.

    Attributes:
        spec: What observation and action mean.
        choice: How many candidates it samples and how it chooses one.
    """

    def __init__(self, graph: PolicyGraph, spec: PolicySpec, choice: Choice) -> None:
        self.spec = spec
        self.choice = choice
        self._graph = graph

    def reset(self) -> None:
        """Begin a new episode; nothing is carried from one to the next."""

    def act(self, observation: NDArray[np.float32], rng: np.random.Generator) -> Decision:
        """Sample an action for a raw observation, shape (O,)."""
        steps, _, width = self._graph.noise_shape
        shape = (steps, self.choice.num_candidates, width)
        return self._graph.decide(observation, draw_noise(rng, shape, self.choice.selection))
