"""Diffusion-QL against a naive second implementation, and what an update may and may not move."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from dql_core.algo.agent import measured
from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.generative_agent import untrained_remark, untrained_share
from dql_core.algo.noise import UpdateNoise
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from tests.core.algo.naive import (
    A,
    B,
    N,
    O,
    make_agent,
    make_batch,
    make_config,
    moved,
    naive_target,
    naive_update,
    require_equal_updates,
    snapshot,
)


@pytest.fixture
def batch() -> Batch:
    return make_batch()


SWITCHES: list[dict[str, Any]] = [
    {},
    {"policy": {"eta": 5.0}},
    {"policy": {"gradient_clip": 0.01}, "critic": {"gradient_clip": 0.01}},
    {"policy": {"gradient_clip": None}, "critic": {"gradient_clip": None}},
    {"diffusion": {"prediction": "v"}},
    {"diffusion": {"prediction": "epsilon"}},
    {"diffusion": {"prediction": "x0", "loss": "noise"}},
    {"diffusion": {"prediction": "v", "loss": "noise"}},
    {"diffusion": {"prediction": "x0", "loss": "prediction"}},
    {"diffusion": {"variance": "beta"}},
    {
        "policy": {"policy_gradient": "one_step", "eta": 5.0},
        "diffusion": {"prediction": "epsilon"},
    },
    {"policy": {"policy_gradient": "one_step", "eta": 5.0}, "diffusion": {"prediction": "x0"}},
    {"critic": {"layer_norm": True}},
    {"critic": {"dueling": True}},
    {"critic": {"dueling": True, "layer_norm": True, "lower_bound": 1.0}},
    {"critic": {"max_q_samples": 4}},
    {"critic": {"num_critics": 5}},
    {"critic": {"num_critics": 3, "layer_norm": True, "max_q_samples": 4}},
    {"critic": {"lower_bound": 0.5}},
    {"critic": {"num_critics": 4, "lower_bound": 1.5, "max_q_samples": 2}, "policy": {"eta": 5.0}},
    {"critic": {"num_critics": 4, "lower_bound": 0.0}},
]


@pytest.mark.parametrize("sections", SWITCHES, ids=str)
@pytest.mark.parametrize("guide", [0, 1])
def test_a_whole_update_equals_the_naive_one_tensor_by_tensor(
    batch: Batch, guide: int, sections: dict[str, Any]
) -> None:
    config = make_config(**sections)
    ours, naive = make_agent(config), make_agent(config)
    noise = dataclasses.replace(ours.noise.draw(B), guide=torch.tensor(guide))
    target = naive_target(naive, batch, noise, config)
    losses = ours.update(batch, noise)
    naive_update(naive, batch, noise, config)
    torch.testing.assert_close(losses.q_target, target.mean())
    require_equal_updates(ours, naive)


def test_a_single_critic_guides_alone(batch: Batch) -> None:
    config = make_config(critic={"num_critics": 1})
    ours, naive = make_agent(config), make_agent(config)
    noise = ours.noise.draw(B)
    assert noise.guide == 0
    ours.update(batch, noise)
    naive_update(naive, batch, noise, config)
    require_equal_updates(ours, naive)


def test_every_critic_of_many_guides_at_times() -> None:
    noise = make_agent(make_config(critic={"num_critics": 5})).noise
    assert {int(noise.draw(1).guide) for _ in range(100)} == set(range(5))


# --- What moves, what does not, and what an update depends on. ---
def test_every_tensor_moves_in_one_update(batch: Batch) -> None:
    agent = make_agent(make_config())
    before = {name: snapshot(module) for name, module in agent.modules.items()}
    agent.update(batch)
    for name, module in agent.modules.items():
        assert moved(before[name], module) == set(before[name]), name


def test_the_average_equals_the_policy_at_first_and_moves_only_every_so_often(
    batch: Batch,
) -> None:
    agent = make_agent(make_config(policy={"ema_every": 3, "ema_rate": 0.25}))
    assert not moved(snapshot(agent.policy.average), agent.policy.online)
    for step in range(7):
        before = snapshot(agent.policy.average)
        agent.update(batch)
        rate = 0.25 if step in (0, 3, 6) else 0.0
        for name, value in agent.policy.average.state_dict().items():
            expected = (1 - rate) * before[name] + rate * agent.policy.online.state_dict()[name]
            torch.testing.assert_close(value, expected)


def test_the_average_of_the_papers_code_stays_the_random_network_for_a_thousand_updates(
    batch: Batch,
) -> None:
    agent = make_agent(make_config(policy={"ema_start": 1000}))
    start = snapshot(agent.policy.average)
    for step in (0, 1, 995, 999):
        agent.step = step
        agent.update(batch)
    assert not moved(start, agent.policy.average)
    assert agent.step == 1000
    agent.update(batch)
    assert moved(start, agent.policy.average)


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("steps", [0, 1, 3, 4, 7, 8, 9])
def test_the_share_of_the_untrained_network_is_what_no_update_has_replaced(
    batch: Batch, steps: int, start: int
) -> None:
    policy = {"ema_every": 3, "ema_rate": 0.25, "ema_start": start, "learning_rate": 1e-30}
    agent = make_agent(config := make_config(policy=policy))
    with torch.no_grad():
        for parameter in agent.policy.average.parameters():
            parameter.add_(1.0)
    for _ in range(steps):
        agent.update(batch)
    share = untrained_share(config, steps)
    pairs = zip(agent.policy.average.parameters(), agent.policy.online.parameters(), strict=True)
    for average, online in pairs:
        torch.testing.assert_close(average - online, torch.full_like(online, share))
    assert bool(untrained_remark(config, steps)) == (share > 0.1)


def test_without_an_average_nothing_of_what_acts_is_untrained() -> None:
    online = make_config(selection={"weights": "online"})
    assert untrained_share(online, 1) == 0.0
    assert untrained_share(online.model_copy(update={"agent": "td3_bc"}), 1) == 0.0
    assert untrained_remark(online, 1) == ""
    assert untrained_remark(TrainConfig(), 300) == (
        "after 300 updates the average that acts is 74% the network that training began with "
        "(policy.ema_rate 0.005, every 5 updates): train longer, or with selection.weights=online"
    )


def test_target_critics_follow_at_their_rate_every_update(batch: Batch) -> None:
    agent = make_agent(make_config(critic={"tau": 0.25}))
    start = snapshot(agent.critics.target)
    agent.update(batch)
    for name, value in agent.critics.target.state_dict().items():
        expected = 0.75 * start[name] + 0.25 * agent.critics.online.state_dict()[name]
        torch.testing.assert_close(value, expected)


def test_the_policys_step_leaves_the_critics_alone(batch: Batch) -> None:
    timid, bold = (
        make_agent(make_config(policy={"eta": 0.0})),
        make_agent(make_config(policy={"eta": 9.0})),
    )
    timid.update(batch)
    bold.update(batch)
    assert not moved(snapshot(timid.critics.online), bold.critics.online)
    assert moved(snapshot(timid.policy), bold.policy)


def test_without_guidance_it_is_diffusion_bc(batch: Batch) -> None:
    config = make_config(policy={"eta": 0.0})
    guided = make_agent(config)
    torch.manual_seed(0)
    imitator = DiffusionBC(config, O, A, torch.Generator().manual_seed(1))
    for seed in range(3):
        noise = make_agent(config).noise.draw(B)
        torch.manual_seed(seed)
        losses = guided.update(batch, noise)
        assert torch.equal(losses.imitation, imitator.update(batch, noise).imitation)
    assert not moved(snapshot(guided.policy), imitator.policy)


def test_targets_come_from_the_slow_copies_alone(batch: Batch) -> None:
    agent = make_agent(make_config())
    disturbed = make_agent(make_config())
    noise = agent.noise.draw(B)
    for fast in (disturbed.policy.online, disturbed.critics.online):
        for parameter in fast.parameters():
            nn.init.normal_(parameter)
    expected = agent.update(batch, noise).q_target
    assert torch.equal(disturbed.update(batch, noise).q_target, expected)


def test_terminal_transitions_are_worth_their_reward(batch: Batch) -> None:
    ended = Batch(**{**vars(batch), "bootstrap": torch.zeros(B)})
    losses = make_agent(make_config()).update(ended)
    torch.testing.assert_close(losses.q_target, batch.reward.mean())


@pytest.mark.parametrize("max_q_samples", [1, 4])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_targets_are_clipped_to_their_bounds_and_counted(
    batch: Batch, max_q_samples: int, precision: str
) -> None:
    bounded, free = (
        make_agent(
            make_config(
                critic={"max_q_samples": max_q_samples, "bound_targets": on},
                run={"precision": precision},
            )
        )
        for on in (True, False)
    )
    noise = free.noise.draw(B)
    targets, clipped = free.critics.targets(batch, free.target_sampler, noise.target)
    assert clipped == 0
    in_order = targets.sort().values
    low, high = in_order[:2].mean().item(), in_order[-2:].mean().item()  # one is beyond each
    for agent in (bounded, free):
        agent.critics.bound_targets(low, high)
        losses = agent.update(batch, noise)
        within = targets.clamp(low, high) if agent is bounded else targets
        torch.testing.assert_close(losses.q_target, within.mean(), rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(
            losses.targets_clipped, torch.tensor(2 / B if agent is bounded else 0.0)
        )
        kept, _ = agent.critics.targets(batch, agent.target_sampler, noise.target)
        is_within = bool(((kept >= low - 1e-7) & (kept <= high + 1e-7)).all())
        assert is_within == (agent is bounded)


def test_bounds_that_are_switched_off_or_far_away_change_no_bit(batch: Batch) -> None:
    agents = [make_agent(make_config(critic={"bound_targets": on})) for on in (False, True, True)]
    agents[0].critics.bound_targets(0.0, 0.0)
    agents[1].critics.bound_targets(-1e6, 1e6)
    for _ in range(3):
        losses = [measured(agent.update(batch)) for agent in agents]
        assert losses[0] == losses[1] == losses[2]
    for name, module in agents[0].modules.items():
        for other in agents[1:]:
            assert not moved(snapshot(module), other.modules[name]), name


def test_equal_seeds_give_equal_updates(batch: Batch) -> None:
    first, second = make_agent(make_config()), make_agent(make_config())
    for agent in (first, second):
        for _ in range(3):
            agent.update(batch)
    for name, module in first.modules.items():
        assert not moved(snapshot(module), second.modules[name])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_update_on_cuda_equals_the_one_on_the_cpu(batch: Batch) -> None:
    here = make_agent(make_config())
    torch.manual_seed(0)
    there = DiffusionQL(make_config(), O, A, torch.Generator("cuda").manual_seed(1))
    noise = here.noise.draw(B)
    here.update(batch, noise)
    there.update(
        Batch(**{key: value.cuda() for key, value in vars(batch).items()}),
        UpdateNoise(**{key: value.cuda() for key, value in vars(noise).items()}),
    )
    for name, module in here.modules.items():
        for key, value in module.state_dict().items():
            theirs = there.modules[name].state_dict()[key].cpu()
            torch.testing.assert_close(value, theirs, atol=1e-5, rtol=1e-4, msg=f"{name}.{key}")


def test_the_noise_of_an_update_has_the_shapes_it_says() -> None:
    noise = make_agent(make_config()).noise.draw(1000)
    assert noise.imitation.shape == (1000, A)
    assert noise.policy.shape == noise.target.shape == (N, 1000, A)
    assert noise.guide.shape == ()
    assert sorted(set(noise.time.tolist())) == list(range(N))
