"""Switches of the configuration that an update does not show by itself: what acts and what ranks.

Those that change the update are compared with the naive one in test_diffusion_ql.py.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.training.deviation_measures import NeedlessDiffusionQL
from dql_core.algo.agent import measured
from dql_core.algo.diffusion_policy import DiffusionPolicy
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.policy_graph import policy_graph
from dql_core.algo.registry import AGENTS
from dql_core.config import DETERMINISTIC_AGENTS, AgentName, TrainConfig
from dql_core.models.actors import DiffusionSampler
from dql_core.models.denoiser import Denoiser
from dql_core.normalize import Normalizer
from tests.core.algo.naive import A, O, make_agent, make_batch, make_config, moved, snapshot


def learned(**sections: Any) -> DiffusionQL:
    """Return an agent after a few updates."""
    agent = make_agent(make_config(**sections))
    for _ in range(3):
        agent.update(make_batch())
    return agent


def scores(q_values: Tensor, **selection: Any) -> Tensor:
    config = make_config(selection=selection)
    normalizer = Normalizer.for_actions_only(O, [-1.0] * A, [1.0] * A)
    return policy_graph(make_agent(config), config, normalizer).scores(q_values)


def test_gradients_that_nothing_uses_change_no_bit() -> None:
    for samples in (1, 3):
        lean = learned(critic={"max_q_samples": samples})
        torch.manual_seed(0)
        wasteful = NeedlessDiffusionQL(lean._config, O, A, torch.Generator().manual_seed(1))
        for _ in range(3):
            wasteful.update(make_batch())
        for name, module in lean.modules.items():
            assert not moved(snapshot(module), wasteful.modules[name]), name


def test_the_policy_or_its_average_acts() -> None:
    averaged, online = (learned(selection={"weights": which}) for which in ("ema", "online"))
    noise = torch.randn(online.acting_sampler.num_noises, 4, A)
    for agent, network in ((averaged, averaged.policy.average), (online, online.policy.online)):
        action = agent.acting_sampler(torch.zeros(1, O), noise)
        assert isinstance(agent.policy, DiffusionPolicy)
        assert isinstance(network, Denoiser)
        expected = agent.policy.process.sample(network, torch.zeros(1, O), noise)
        assert torch.equal(action, expected)
    assert moved(snapshot(online.policy.online), online.policy.average)


def test_which_critics_rank_does_not_change_what_is_learned() -> None:
    agents = {
        which: learned(selection={"critics": which}) for which in ("target", "online", "untrained")
    }
    assert agents["target"].ranking_critic is agents["target"].critics.target
    assert agents["online"].ranking_critic is agents["online"].critics.online
    for agent in agents.values():
        assert not moved(snapshot(agents["target"].policy), agent.policy)
        assert not moved(snapshot(agents["target"].critics.online), agent.critics.online)


def test_untrained_critics_are_the_initial_ones_and_stay_them() -> None:
    agent = learned(selection={"critics": "untrained"})
    initial = make_agent(make_config()).critics.online
    assert not moved(snapshot(initial), agent.critics.ranking)
    assert moved(snapshot(initial), agent.critics.target)
    assert agent.modules["untrained_critic"] is agent.ranking_critic


def test_a_relative_temperature_does_not_know_the_scale_of_the_rewards() -> None:
    q_values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    small, large = scores(q_values), scores(1000 * q_values - 7)
    torch.testing.assert_close(small, large, atol=1e-3, rtol=1e-4)
    deviation = q_values.std(correction=0)
    torch.testing.assert_close(small.softmax(0), (q_values / deviation).softmax(0))


def test_a_raw_temperature_is_the_papers_softmax_of_the_values_themselves() -> None:
    q_values = torch.randn(50, generator=torch.Generator().manual_seed(0))
    for temperature in (1.0, 4.0):
        raw = scores(q_values, temperature_scale="raw", temperature=temperature)
        torch.testing.assert_close(raw.softmax(0), (q_values / temperature).softmax(0))


def test_bfloat16_learns_nearly_the_same_with_float32_weights() -> None:
    sections = {"policy": {"width": 32}, "critic": {"width": 32}}
    full = make_agent(make_config(**sections))
    reduced = make_agent(make_config(**sections, run={"precision": "bfloat16"}))
    losses = [measured(agent.update(make_batch())) for agent in (full, reduced)]
    for name, loss in losses[0].items():
        assert losses[1][name].dtype == torch.float32
        torch.testing.assert_close(losses[1][name], loss, atol=0.02, rtol=0.02, msg=name)
    assert losses[0]["imitation"] != losses[1]["imitation"]
    for module in reduced.modules.values():
        assert {value.dtype for value in module.parameters()} == {torch.float32}
    for optimizer in reduced.optimizers.values():
        assert {value.dtype for value in optimizer.state_dict().values()} == {torch.float32}
    close = [
        torch.linalg.vector_norm(mine - reference)
        for mine, reference in zip(
            reduced.policy.online.parameters(), full.policy.online.parameters(), strict=True
        )
    ]
    assert max(close) < 0.01


@pytest.mark.parametrize("agent", AGENTS)
def test_the_configuration_knows_what_each_agent_learns(agent: AgentName) -> None:
    config = make_config().model_copy(update={"agent": agent})
    built = AGENTS[agent](config, O, A, torch.Generator())
    assert config.learns_values == (built.critics is not None)
    is_diffusion = isinstance(built.acting_sampler, DiffusionSampler)
    assert (agent not in DETERMINISTIC_AGENTS) == is_diffusion


@pytest.mark.parametrize("agent", AGENTS)
def test_the_seed_of_the_weights_and_the_generator_decide_everything(agent: AgentName) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        config = TrainConfig.model_validate({**make_config().model_dump(), "agent": agent})
        built = AGENTS[agent](config, O, A, torch.Generator().manual_seed(seed))
        for _ in range(4):
            built.update(make_batch())
        return snapshot(nn.ModuleDict(built.modules))

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
