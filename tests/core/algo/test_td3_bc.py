"""TD3+BC against a naive second implementation, and what an update may and may not move."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dql_core.algo.noise import UpdateNoise
from dql_core.algo.td3_bc import TD3BC
from dql_core.config import TrainConfig
from dql_core.data.transitions import Batch
from dql_core.models.actors import DeterministicActor
from dql_core.models.critic import CriticEnsemble
from tests.core.algo.naive import (
    A,
    B,
    O,
    make_batch,
    make_config,
    moved,
    naive_critic,
    naive_follow,
    naive_together,
    snapshot,
)

CRITICS, ACTORS = {"critic", "target_critic"}, {"actor", "target_actor"}


def make_td3(**sections: Any) -> tuple[TD3BC, TrainConfig]:
    config = make_config(**sections).model_copy(update={"agent": "td3_bc"})
    torch.manual_seed(0)
    return TD3BC(config, O, A, torch.Generator().manual_seed(1)), config


@pytest.fixture
def batch() -> Batch:
    return make_batch()


def naive_actor(net: nn.Module, observation: Tensor) -> Tensor:
    assert isinstance(net, DeterministicActor)
    features = observation
    for layer in net.hidden:
        features = nn.functional.mish(layer(features))
    result: Tensor = net.last(features).tanh()
    return result


class NaiveUpdates:
    """The algorithm as its paper tells it, on the networks of an agent of its own."""

    def __init__(self, agent: TD3BC, config: TrainConfig) -> None:
        self.agent, self.config, self.updates = agent, config, 0
        self.critic_adam = torch.optim.Adam(
            agent.critics.online.parameters(), lr=config.critic.learning_rate
        )
        self.actor_adam = torch.optim.Adam(
            agent.actor.parameters(), lr=config.policy.learning_rate
        )

    def update(self, batch: Batch, noise: UpdateNoise) -> None:
        critic, td3 = self.agent.critics.online, self.config.td3
        target = self.target(batch, noise.target[0])
        q_values = self.values(critic, batch.observation, batch.action)
        loss = torch.stack([(values - target).square().mean() for values in q_values]).sum()
        self.step(self.critic_adam, loss, list(critic.parameters()))
        self.updates += 1
        if self.updates % td3.policy_every:
            return
        action = naive_actor(self.agent.actor, batch.observation)
        value, *_ = values = self.values(critic, batch.observation, action)
        if self.config.critic.lower_bound is not None:
            value = naive_together(values, self.config.critic.lower_bound)
        weight = td3.alpha / value.abs().mean().item()
        loss = -weight * value.mean() + (action - batch.action).square().mean()
        self.step(self.actor_adam, loss, list(self.agent.actor.parameters()))
        for slow, fast in (("target_actor", "actor"), ("target_critic", "critic")):
            naive_follow(
                self.agent.modules[slow], self.agent.modules[fast], self.config.critic.tau
            )

    @torch.no_grad()
    def target(self, batch: Batch, noise: Tensor) -> Tensor:
        td3, slow = self.config.td3, self.agent.critics.target
        smoothing = (td3.target_noise * noise).clamp(-td3.target_noise_clip, td3.target_noise_clip)
        action = naive_actor(self.agent.modules["target_actor"], batch.next_observation)
        action = (action + smoothing).clamp(-1, 1)
        each = self.values(slow, batch.next_observation, action)
        together = naive_together(each, self.config.critic.lower_bound)
        return batch.reward + self.config.critic.discount * batch.bootstrap * together

    def values(self, critic: CriticEnsemble, observation: Tensor, action: Tensor) -> list[Tensor]:
        number = self.config.critic.num_critics
        return [naive_critic(critic, e, observation, action) for e in range(number)]

    def step(self, adam: torch.optim.Adam, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        adam.step()


@pytest.mark.parametrize(
    ("td3", "critic"),
    [
        ({}, {}),
        ({"alpha": 0.0}, {}),
        ({"policy_every": 3, "alpha": 10.0}, {}),
        ({"target_noise": 5.0}, {}),
        ({"target_noise": 0.0}, {}),
        ({}, {"num_critics": 1}),
        ({}, {"num_critics": 4, "lower_bound": 1.5}),
    ],
    ids=str,
)
def test_several_updates_equal_the_naive_ones_tensor_by_tensor(
    batch: Batch, td3: dict[str, float], critic: dict[str, float]
) -> None:
    sections: dict[str, Any] = {
        "td3": td3,
        "run": {"learning_rate_decay": "constant"},
        "policy": {"gradient_clip": None},
        "critic": {"gradient_clip": None, "tau": 0.1, **critic},
    }
    ours, config = make_td3(**sections)
    naive = NaiveUpdates(make_td3(**sections)[0], config)
    for _ in range(4):
        noise = ours.noise.draw(B)
        expected = naive.target(batch, noise.target[0]).mean()
        torch.testing.assert_close(ours.update(batch, noise).q_target, expected)
        naive.update(batch, noise)
        for name in CRITICS | ACTORS:
            reference = naive.agent.modules[name].state_dict()
            for key, value in ours.modules[name].state_dict().items():
                torch.testing.assert_close(
                    value, reference[key], atol=3e-6, rtol=0, msg=f"{name}.{key}"
                )


def test_policy_and_slow_copies_move_in_every_second_update_only(batch: Batch) -> None:
    agent, _ = make_td3()
    for update in range(1, 5):
        before = {name: snapshot(module) for name, module in agent.modules.items()}
        agent.update(batch)
        even = update % 2 == 0
        for name, module in agent.modules.items():
            expected = set(before[name]) if even or name == "critic" else set()
            assert moved(before[name], module) == expected, f"{name} in update {update}"


def test_the_policys_step_leaves_the_critics_alone(batch: Batch) -> None:
    timid, bold = make_td3(td3={"alpha": 0.0})[0], make_td3(td3={"alpha": 9.0})[0]
    for agent in (timid, bold):
        agent.update(batch)
        agent.update(batch)
    assert not moved(snapshot(timid.critics.online), bold.critics.online)
    assert moved(snapshot(timid.actor), bold.actor)


def test_targets_come_from_the_slow_copies_alone(batch: Batch) -> None:
    agent, disturbed = make_td3()[0], make_td3()[0]
    for fast in (disturbed.actor, disturbed.critics.online):
        for parameter in fast.parameters():
            nn.init.normal_(parameter)
    noise = agent.noise.draw(B)
    expected = agent.update(batch, noise).q_target
    assert torch.equal(disturbed.update(batch, noise).q_target, expected)


def test_terminal_transitions_are_worth_their_reward(batch: Batch) -> None:
    ended = dataclasses.replace(batch, bootstrap=torch.zeros(B))
    losses = make_td3()[0].update(ended)
    torch.testing.assert_close(losses.q_target, batch.reward.mean())


def test_it_acts_deterministically_within_the_bounds_and_without_ranking(batch: Batch) -> None:
    agent, _ = make_td3()
    sampler = agent.acting_sampler
    assert agent.ranking_critic is None
    noise = torch.randn(2, sampler.num_noises, 50, A)
    with torch.no_grad():
        actions = [sampler(1e6 * batch.observation[:1], each) for each in noise]
    assert actions[0].shape == (50, A)
    assert torch.equal(*actions)
    assert torch.equal(actions[0][0], actions[0][1])
    assert actions[0].abs().max() <= 1.0


def test_its_loss_is_the_imitation_of_the_last_update_of_the_policy(batch: Batch) -> None:
    agent, _ = make_td3()
    distance = agent.imitation_loss(batch, agent.noise.draw(B))
    expected = (naive_actor(agent.actor, batch.observation) - batch.action).square().mean()
    torch.testing.assert_close(distance, expected)
    assert agent.update(batch).imitation == 0.0
    second = agent.update(batch).imitation
    torch.testing.assert_close(second, distance.detach())
    assert torch.equal(agent.update(batch).imitation, second)
