"""What acts after training, in torch: candidates are sampled, ranked and chosen by one function.

`dql_core.export.onnx_model` writes the same function as an ONNX graph; each export measures that
the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dql_core.algo.agent import Agent
from dql_core.algo.losses import pessimistic
from dql_core.config import DETERMINISTIC_AGENTS, TrainConfig
from dql_core.models.actors import ActionSampler, DiffusionSampler
from dql_core.models.critic import CriticEnsemble
from dql_core.models.sampler import Held
from dql_core.normalize import Normalizer
from dql_core.runtime.mode import ModeSeeker
from dql_core.runtime.policy import (
    MIN_SPREAD,
    Choice,
    Committed,
    Decision,
    Noise,
    Selection,
    draw_noise,
    resolve_choice,
)
from dql_core.spec import PolicySpec


class PolicyGraph(nn.Module):
    r"""Normalise, sample K candidates, rank them by the critics, choose, restore units.

    The choice is :math:`\arg\max_k \; (Q_k - \max_j Q_j) / (\tau \sigma) + g_k` with
    :math:`\sigma` the standard deviation of Q over the candidates. With Gumbel noise g this is a
    draw from a softmax whose temperature :math:`\tau` does not depend on the scale of rewards;
    with g = 0 it is the best candidate. As in the paper's code, :math:`\sigma = 1` takes the
    softmax of the raw Q.

    An action may be a chunk of H, one after the other: the networks have its H * A numbers as one
    action, and outside it has the shape (H, A).

    Args:
        sampler: Samples the candidates.
        critic: Ranks the candidates; without one the Q values are zeros.
        normalizer: Units of the networks.
        temperature: tau above.
        raw_temperature: Leave the spread of Q out of the temperature.
        lower_bound: How the critics rank together: `dql_core.algo.losses.pessimistic`.
        horizon: Actions of a decision, H.
    """

    observation_mean: Tensor
    observation_std: Tensor
    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        sampler: ActionSampler,
        critic: CriticEnsemble | None,
        normalizer: Normalizer,
        *,
        temperature: float,
        raw_temperature: bool = False,
        lower_bound: float | None = None,
        horizon: int = 1,
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.critic = critic
        self.temperature = temperature
        self.raw_temperature = raw_temperature
        self.lower_bound = lower_bound
        self.horizon = horizon
        for name in ("observation_mean", "observation_std", "action_low", "action_high"):
            self.register_buffer(name, torch.tensor(getattr(normalizer, name)))

    def noise_shape(self, num_candidates: int) -> tuple[int, int, int]:
        """Shape of the noise of one decision, (Z, K, H * A)."""
        return self.sampler.num_noises, num_candidates, self.horizon * len(self.action_low)

    def forward(
        self,
        observation: Tensor,
        noise: Tensor,
        selection_noise: Tensor,
        committed: Tensor | None = None,
        committed_weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose an action for one raw observation, or for each of V.

        Args:
            observation: Shape (O,), or (V, O).
            noise: Standard normal, shape (Z, K, H * A), or (Z, V, K, H * A).
            selection_noise: Added to the candidates' scores, shape (K,), or (V, K).
            committed: What a chunk goes on from, in its own units, shape (H, A).
            committed_weight: How firmly each step of that is held, shape (H,).

        Returns:
            The action in its own units and within its bounds, (A,) or (V, A); Q values, (K,) or
            (V, K); candidates, (K, A) or (V, K, A). Of chunks (H, A) takes the place of A.
        """
        normalized = (observation - self.observation_mean) / self.observation_std
        if observation.ndim == 1:
            # One row serves all candidates: what depends on it alone is computed once.
            rows = normalized[None]
        else:
            rows = normalized.repeat_interleave(noise.shape[2], dim=0)  # (V * K, O)
        held = None
        if committed is not None and committed_weight is not None:
            held = self._held(committed, committed_weight)
        sampled = self._sample(rows, noise.flatten(1, -2), held)  # ([V *] K, H * A)
        q_values = self._rank(rows, sampled).reshape(selection_noise.shape)
        shape = len(sampled), self.horizon, len(self.action_low)
        restored = self._restore(sampled.reshape(shape)).flatten(1)
        candidates = restored.reshape(*selection_noise.shape, -1)
        choice = (self.scores(q_values) + selection_noise).argmax(dim=-1)
        # Indexing by a tensor would read it on the host.
        action = candidates.take_along_dim(choice[..., None, None], dim=-2).squeeze(-2)
        if self.horizon == 1:
            return action, q_values, candidates
        action, candidates = (
            each.reshape(*each.shape[:-1], *shape[1:]) for each in (action, candidates)
        )
        return action, q_values, candidates

    def decide(
        self,
        observation: NDArray[np.float32],
        noise: Noise,
        committed: Committed | None = None,
    ) -> Decision:
        """Choose as `forward` does, in numpy's arrays."""
        device = self.action_low.device
        with torch.no_grad():
            inputs = (
                torch.tensor(array, device=device)
                for array in (observation, *noise, *(committed or ()))
            )
            outputs = self(*inputs)
        arrays = (output.cpu().numpy() for output in outputs)
        return Decision(*arrays) if self.horizon == 1 else Decision.of_chunk(*arrays)

    def scores(self, q_values: Tensor) -> Tensor:
        """Return the logits of the choice, shape (..., K)."""
        advantages = (q_values - q_values.amax(dim=-1, keepdim=True)) / self.temperature
        if self.raw_temperature:
            return advantages
        spread = q_values.std(dim=-1, correction=0, keepdim=True)
        return advantages / spread.clamp(min=MIN_SPREAD)

    def _rank(self, observation: Tensor, sampled: Tensor) -> Tensor:
        if self.critic is None:
            return torch.zeros_like(sampled[:, 0])
        values: Tensor = self.critic(observation.expand(len(sampled), -1), sampled)  # (E, [V *] K)
        return pessimistic(values, self.lower_bound)

    def _sample(self, observation: Tensor, noise: Tensor, held: Held | None) -> Tensor:
        if held is None:
            return self.sampler(observation, noise)
        if isinstance(self.sampler, DiffusionSampler):
            sampled = self.sampler(observation, noise, held)
        else:  # in a single call of a network, what is free knows nothing of what is held
            sampled = self.sampler(observation, noise)
        return held.applied(sampled)

    def _held(self, committed: Tensor, weight: Tensor) -> Held:
        """Bring what is committed, (H, A), to the units of the networks, with its weights (H,)."""
        half_range = (self.action_high - self.action_low) * 0.5
        centre = (self.action_high + self.action_low) * 0.5
        # Of a field that can be one number only, any other is beyond it.
        divisor = half_range.clamp(min=torch.finfo(torch.float32).tiny)
        actions = ((committed - centre) / divisor).clamp(-1.0, 1.0)
        of_each = weight[:, None].expand_as(actions)
        return Held((of_each * actions).reshape(1, -1), (1.0 - of_each).reshape(1, -1))

    def _restore(self, sampled: Tensor) -> Tensor:
        half_range = (self.action_high - self.action_low) * 0.5
        centre = (self.action_high + self.action_low) * 0.5
        # Rounding may step over the bounds by a bit.
        return (sampled * half_range + centre).clamp(self.action_low, self.action_high)


class TorchPolicy:
    """Samples actions from an agent's own networks; keeps no state.

    As in a bundle, observations are moved to the nearest that the training data has.

    Attributes:
        spec: What observation and action mean.
        choice: How many candidates it samples and how it chooses one.
        horizon: Actions of a decision, H.
    """

    def __init__(
        self, graph: PolicyGraph, spec: PolicySpec, choice: Choice, normalizer: Normalizer
    ) -> None:
        self.spec = spec
        self.choice = choice
        self.horizon = graph.horizon
        self._graph = graph
        self._normalizer = normalizer
        self._seek = ModeSeeker.of(
            choice, spec, graph.temperature, raw_temperature=graph.raw_temperature
        )

    def reset(self) -> None:
        """Begin a new episode; nothing is carried from one to the next."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        """Sample an action, or a chunk of them, for a raw observation, shape (O,).

        Args:
            observation: Shape (O,).
            rng: Source of all randomness.
            committed: What a chunk goes on from; a policy of one action takes no notice of it.
        """
        return self._decide(observation, self._draw(rng), committed)

    def act_for_each(
        self, observations: NDArray[np.float32], rngs: Sequence[np.random.Generator]
    ) -> NDArray[np.float32]:
        """Sample an action for each of V raw observations at once.

        Args:
            observations: Shape (V, O).
            rngs: The source of the noise of each.

        Returns:
            Shape (V, A), or chunks of them, (V, H, A).
        """
        decision = self.decide_for_each(observations, rngs)
        return decision.action if self.horizon == 1 else decision.chunk

    def decide_for_each(
        self, observations: NDArray[np.float32], rngs: Sequence[np.random.Generator]
    ) -> Decision:
        """Decide on each of V raw observations at once.

        Args:
            observations: Shape (V, O).
            rngs: The source of the noise of each.

        Returns:
            Actions, shape (V, A); Q values, (V, K); candidates, (V, K, A), or of chunks
            (V, K, H, A).
        """
        steps, selection = zip(*map(self._draw, rngs), strict=True)
        return self._decide(observations, Noise(np.stack(steps, axis=1), np.stack(selection)))

    def _decide(
        self,
        observations: NDArray[np.float32],
        noise: Noise,
        committed: Committed | None = None,
    ) -> Decision:
        held = committed if self.horizon > 1 else None
        decision = self._graph.decide(self._normalizer.bounded(observations), noise, held)
        return decision if self._seek is None else self._seek(decision)

    def _draw(self, rng: np.random.Generator) -> Noise:
        shape = self._graph.noise_shape(self.choice.num_candidates)
        return draw_noise(rng, shape, self.choice.selection)


def policy_graph(agent: Agent, config: TrainConfig, normalizer: Normalizer) -> PolicyGraph:
    """Assemble the acting function of a trained agent; it shares the agent's weights."""
    graph = PolicyGraph(
        agent.acting_sampler,
        agent.ranking_critic,
        normalizer,
        temperature=config.selection.temperature,
        raw_temperature=config.selection.temperature_scale == "raw",
        lower_bound=config.critic.lower_bound,
        horizon=config.policy.horizon,
    )
    return graph.to(agent.noise.generator.device)


def agent_choice(
    agent: Agent,
    config: TrainConfig,
    num_candidates: int | None = None,
    selection: Selection | None = None,
) -> Choice:
    """How a trained agent chooses: as configured, unless the caller wants otherwise.

    Args:
        agent: The agent.
        config: Its configuration.
        num_candidates: The caller's K, if any.
        selection: The caller's rule, if any.

    Raises:
        ConfigError: If it cannot choose in this way.
    """
    has_critic, default = agent.ranking_critic is not None, Choice(1, "first")
    if config.agent not in DETERMINISTIC_AGENTS:
        rule = config.selection.rule or ("mode" if has_critic else "first")
        default = Choice(config.selection.num_candidates, rule)
        # A stated mode is refused of too few candidates; only a default gives way to them.
        if config.selection.rule == "mode" and num_candidates is None:
            selection = selection or "mode"
    return resolve_choice(default, has_critic, num_candidates, selection)


def torch_policy(
    agent: Agent, config: TrainConfig, normalizer: Normalizer, spec: PolicySpec
) -> TorchPolicy:
    """Return a policy that acts as a trained agent is configured to."""
    graph = policy_graph(agent, config, normalizer)
    return TorchPolicy(graph, spec, agent_choice(agent, config), normalizer)
