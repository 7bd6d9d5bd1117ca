"""Guidance that costs no more imitation than it may."""

import math
from typing import Any

import pytest
import torch

from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.guidance import RATE, SMALLEST_WEIGHT, GuidanceLimit
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.errors import ConfigError
from dql_core.presets import as_saved
from dql_core.strict_yaml import parse
from tests.core.algo.naive import (
    A,
    B,
    O,
    make_agent,
    make_batch,
    make_config,
    naive_update,
    require_equal_updates,
)

UPDATES = 500


def limit_of(agent: DiffusionQL) -> GuidanceLimit:
    assert agent.limit is not None
    return agent.limit


@pytest.mark.parametrize("policy_gradient", ["chain", "one_step"])
def test_values_are_followed_with_eta_times_the_weight(policy_gradient: str) -> None:
    policy = {"policy_gradient": policy_gradient}
    limited = make_agent(make_config(policy={**policy, "eta": 2.0, "max_imitation_ratio": 1.1}))
    limit_of(limited).log_weight.fill_(math.log(0.25))
    plain = make_config(policy={**policy, "eta": 0.5, "max_imitation_ratio": None})
    naive, batch = make_agent(plain), make_batch()
    noise = limited.noise.draw(B)
    losses = limited.update(batch, noise)
    naive_update(naive, batch, noise, plain)
    assert losses.guidance == pytest.approx(0.5)
    twin = limited.modules.pop("guidance")
    require_equal_updates(limited, naive)
    assert twin is limited.limit


def test_the_twin_learns_as_diffusion_bc_does() -> None:
    config = make_config(policy={"max_imitation_ratio": 1.1, "eta": 5.0})
    agent = make_agent(config)
    torch.manual_seed(0)
    alone = DiffusionBC(config, O, A, torch.Generator().manual_seed(1))
    for seed in range(5):
        batch, noise = make_batch(seed), agent.noise.draw(B)
        losses, theirs = agent.update(batch, noise), alone.update(batch, noise)
        torch.testing.assert_close(losses.imitation_alone, theirs.imitation)
    twin = limit_of(agent).imitator.state_dict()
    for name, weight in alone.policy.online.state_dict().items():
        torch.testing.assert_close(twin[name], weight, msg=name)
    drawn = agent.noise.draw(B)
    torch.testing.assert_close(
        agent.lone_imitation_loss(batch, drawn), alone.imitation_loss(batch, drawn)
    )


@pytest.mark.parametrize(
    ("ratio", "before", "after"),
    [
        (1.5 * math.e, 0.5, 0.5 * math.exp(-RATE)),
        (1.5 / math.e, 0.5, 0.5 * math.exp(RATE)),
        (1.0, 1.0, 1.0),
        (9.0, SMALLEST_WEIGHT, SMALLEST_WEIGHT),
    ],
    ids=["too much", "less", "whole", "smallest"],
)
def test_the_weight_falls_where_imitation_suffers_and_returns(
    ratio: float, before: float, after: float
) -> None:
    config = make_config(policy={"max_imitation_ratio": 1.5})
    limit = limit_of(make_agent(config))
    limit.log_weight.fill_(math.log(before))
    limit.follow(torch.tensor(0.02 * ratio), torch.tensor(0.02))
    assert limit.weight.item() == pytest.approx(after)


@pytest.mark.parametrize(("imitation", "alone"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)])
def test_a_loss_of_zero_leaves_a_weight(imitation: float, alone: float) -> None:
    limit = limit_of(make_agent(make_config(policy={"max_imitation_ratio": 1.5})))
    limit.follow(torch.tensor(imitation), torch.tensor(alone))
    assert SMALLEST_WEIGHT <= limit.weight.item() <= 1.0
    assert (limit.weight.item() < 1.0) == (imitation > alone)


def imitating(eta: float, ratio: float | None) -> DiffusionQL:
    """Return what learned one action for an observation, against critics that want another.

    The critics do not learn: a steep slope that no data supports.
    """
    config = make_config(
        run={"steps": UPDATES, "learning_rate_decay": "constant"},
        policy={"width": 16, "learning_rate": 1e-2, "eta": eta, "max_imitation_ratio": ratio},
        critic={"learning_rate": 1e-12, "tau": 1e-6},
    )
    agent = make_agent(config)
    generator = torch.Generator().manual_seed(5)
    for _ in range(UPDATES):
        observation = torch.randn(32, O, generator=generator)
        action = observation[:, :A].tanh() * 0.7
        zeros = torch.zeros(32)
        agent.update(Batch(observation, action, zeros, observation, zeros))
    return agent


def loss_of(agent: DiffusionQL) -> float:
    generator = torch.Generator().manual_seed(6)
    observation = torch.randn(2048, O, generator=generator)
    zeros = torch.zeros(2048)
    batch = Batch(observation, observation[:, :A].tanh() * 0.7, zeros, observation, zeros)
    with torch.no_grad():
        return agent.imitation_loss(batch, agent.noise.draw(2048)).item()


@pytest.mark.slow
def test_what_was_imitated_survives_critics_that_are_wrong() -> None:
    imitated, spoiled, limited = imitating(0.0, None), imitating(20.0, None), imitating(20.0, 1.2)
    assert loss_of(spoiled) > 10.0 * loss_of(imitated)
    assert loss_of(limited) < 5.0 * loss_of(imitated)
    assert limit_of(limited).weight < 0.5


def test_nothing_is_limited_where_nothing_guides() -> None:
    agent = make_agent(make_config(policy={"eta": 0.0, "max_imitation_ratio": 1.1}))
    assert agent.limit is None
    losses = agent.update(make_batch())
    assert losses.imitation_alone is None
    assert losses.guidance is None


@pytest.mark.parametrize("value", [1.0, 0.5, -1.0])
def test_a_ratio_that_no_guidance_can_keep_is_refused(value: float) -> None:
    document: dict[str, Any] = {"policy": {"max_imitation_ratio": value}}
    with pytest.raises(ConfigError, match="max_imitation_ratio"):
        parse(document, TrainConfig, "x.yaml", ConfigError)


@pytest.mark.parametrize("agent", ["td3_bc", "diffusion_bc"])
def test_an_agent_without_such_guidance_refuses_another_limit(agent: str) -> None:
    document: dict[str, Any] = {"agent": agent, "policy": {"max_imitation_ratio": 1.2}}
    with pytest.raises(ConfigError, match=rf"{agent} does not go with policy.max_imitation_ratio"):
        parse(document, TrainConfig, "x.yaml", ConfigError)


@pytest.mark.parametrize("agent", ["td3_bc", "diffusion_bc"])
def test_what_a_run_of_any_agent_saved_is_read_again(agent: str) -> None:
    saved = TrainConfig.model_validate({"agent": agent}).model_dump(mode="json")
    assert parse(saved, TrainConfig, "config.yaml", ConfigError).agent == agent
    saved["policy"]["max_imitation_ratio"] = 1.5  # an earlier default
    # A bundle has it as it was, and so has the hash by which a run is known.
    for document in (saved, as_saved(saved)):
        earlier = parse(document, TrainConfig, "config.yaml", ConfigError)
        assert earlier.model_dump(mode="json") == saved
