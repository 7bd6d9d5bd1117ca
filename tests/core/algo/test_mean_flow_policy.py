"""Agents with a policy of one network call: what they learn, and that all else takes them."""

from typing import Any

import pytest
import torch

from dql_core.algo.agent import measured
from dql_core.algo.bc import DiffusionBC
from dql_core.algo.execution import CapturedUpdate, compiler_missing
from dql_core.algo.generative_agent import GenerativeAgent
from dql_core.config import TrainConfig
from dql_core.errors import ConfigError
from dql_core.models.mean_flow import AverageVelocity
from dql_core.strict_yaml import parse
from examples import bandit
from tests.core.algo.naive import A, B, O, make_agent, make_batch, make_config, moved, snapshot


def make(**sections: Any) -> Any:
    policy = {"kind": "mean_flow", "depth": 2} | sections.pop("policy", {})
    return make_agent(make_config(policy=policy, **sections))


def test_an_update_moves_every_tensor_and_reports_finite_losses() -> None:
    agent = make()
    before = {name: snapshot(module) for name, module in agent.modules.items()}
    losses = agent.update(make_batch())
    for name, module in agent.modules.items():
        assert moved(before[name], module) == set(before[name]), name
    assert all(value.isfinite() for value in measured(losses).values())


def test_an_action_takes_one_draw_and_one_call() -> None:
    agent = make()
    assert agent.acting_sampler.num_noises == 1
    noise = agent.noise.draw(B)
    assert noise.policy.shape == noise.target.shape == (1, B, A)
    assert noise.time.shape == (B, 2)
    action = agent.acting_sampler(torch.zeros(1, O), 9.0 * noise.policy)
    assert action.abs().max() == 1.0


def test_without_guidance_it_is_imitation_alone() -> None:
    guided = make(policy={"eta": 0.0})
    torch.manual_seed(0)
    config = make_config(policy={"kind": "mean_flow", "depth": 2})
    imitator = DiffusionBC(config, O, A, torch.Generator().manual_seed(1))
    for seed in range(3):
        noise = guided.noise.draw(B)
        losses = guided.update(make_batch(seed), noise)
        assert torch.equal(losses.imitation, imitator.update(make_batch(seed), noise).imitation)
    assert not moved(snapshot(guided.policy), imitator.policy)


def test_an_update_on_fixed_memory_is_the_plain_one_to_the_bit() -> None:
    captured, plain = make(), make()
    captured._learn = CapturedUpdate(captured._learn_from, capture=False)
    for seed in range(5):
        losses, expected = captured.update(make_batch(seed)), plain.update(make_batch(seed))
        assert torch.equal(losses.imitation, expected.imitation)
    for name, module in plain.modules.items():
        assert not moved(snapshot(module), captured.modules[name])


@pytest.mark.slow
@pytest.mark.skipif(compiler_missing() is not None, reason="nothing can be compiled")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")
def test_a_compiled_update_is_the_plain_one() -> None:
    compiled, plain = (make(run={"execution": how}) for how in ("compiled", "eager"))
    assert compiled.execution.compiles
    for seed in range(3):
        losses, expected = compiled.update(make_batch(seed)), plain.update(make_batch(seed))
        torch.testing.assert_close(losses.imitation, expected.imitation, atol=1e-5, rtol=1e-4)
    for name, module in plain.modules.items():
        for key, value in module.state_dict().items():
            mine = compiled.modules[name].state_dict()[key]
            torch.testing.assert_close(mine, value, atol=2e-5, rtol=1e-4, msg=f"{name}.{key}")


def bandit_config(agent: str, steps: int, **policy: Any) -> TrainConfig:
    """The bandit's settings for a mean flow, on small networks."""
    config = bandit.settings(agent, steps)  # type: ignore[arg-type]
    changed = config.policy.model_copy(update={"kind": "mean_flow", **policy})
    return config.model_copy(update={"policy": changed})


@pytest.mark.slow
def test_imitation_keeps_the_four_modes_in_one_step() -> None:
    torch.set_num_threads(1)
    agent = bandit.train(bandit_config("diffusion_bc", 4000), bandit.record())
    assert isinstance(agent, GenerativeAgent)
    assert isinstance(agent.acting_sampler, AverageVelocity)
    share = bandit.near(bandit.act(agent, 5000))
    # What is between modes is little, though a continuous function of noise must pass there.
    assert share.sum() >= 0.8
    assert share.min() > 0.17
    assert share.max() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("best", [0, 3])
def test_the_values_lead_it_to_the_best_corner(best: int) -> None:
    torch.set_num_threads(1)
    agent = bandit.train(bandit_config("diffusion_ql", 1200, eta=1.5), bandit.record(best))
    share = bandit.near(bandit.act(agent, 5000))
    assert share[best] >= 0.8


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"policy": {"policy_gradient": "one_step"}}, "is a single step already: set chain"),
        ({"agent": "td3_bc"}, "td3_bc does not go with policy.kind: mean_flow, which makes"),
    ],
)
def test_what_a_mean_flow_cannot_be_is_refused_in_one_line(
    document: dict[str, Any], message: str
) -> None:
    document = {**document, "policy": {"kind": "mean_flow", **document.get("policy", {})}}
    with pytest.raises(ConfigError, match=message) as caught:
        parse(document, TrainConfig, "run.yaml", ConfigError)
    assert "\n" not in str(caught.value)
