"""Critics by expectile regression, against values computed with numpy, and what they may move."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dql_core.algo.agent import measured
from dql_core.algo.diffusion_ql import DiffusionQL, QLLosses
from dql_core.algo.expectile import ExpectileCritics
from dql_core.algo.losses import expectile_loss
from dql_core.config import TrainConfig, load_config
from dql_core.data.dataset import Episode, write_dataset
from dql_core.data.transitions import Batch
from dql_core.errors import ConfigError
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.strict_yaml import parse
from dql_core.training.loop import train
from dql_core.training.run_files import find_checkpoint, read_records
from tests.core.algo.naive import (
    A,
    B,
    O,
    first_gradient,
    make_agent,
    make_batch,
    make_config,
    moved,
    naive_critic,
    naive_together,
    snapshot,
)

DISCOUNT = 0.8
# Transitions of three states: state, action, reward, next state (None: terminated).
TABLE: list[tuple[int, float, float, int | None]] = [
    (0, -1.0, 0.0, 1),
    (0, -1.0, 0.4, 2),  # the same action leads elsewhere
    (0, 1.0, -0.5, 2),
    (1, -1.0, 1.0, None),
    (1, 0.0, 0.2, 0),
    (1, 1.0, -1.0, None),
    (2, -1.0, 0.3, 2),
    (2, 1.0, 0.8, None),
    (2, 1.0, 0.0, None),  # and is worth another reward
]


def table_batch() -> Batch:
    states, actions, rewards, following = zip(*TABLE, strict=True)
    next_states = [0 if state is None else state for state in following]
    return Batch(
        observation=torch.eye(3)[list(states)],
        action=torch.tensor(actions)[:, None],
        reward=torch.tensor(rewards),
        next_observation=torch.eye(3)[next_states],
        bootstrap=torch.tensor([float(state is not None) for state in following]),
    )


def expectile_of(values: NDArray[np.float64], expectile: float) -> float:
    """Return where the weighted distances to both sides balance, by bisection."""
    low, high = values.min(), values.max()
    for _ in range(100):
        middle = (low + high) / 2
        above, below = values > middle, values <= middle
        pull = expectile * (values[above] - middle).sum()
        pull -= (1 - expectile) * (middle - values[below]).sum()
        low, high = (middle, high) if pull > 0 else (low, middle)
    return float(middle)


def solve(expectile: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return V of each state and Q of each transition's state and action, by iteration."""
    states = np.array([row[0] for row in TABLE])
    keys = [row[:2] for row in TABLE]
    value, q_values = np.zeros(3), np.zeros(len(TABLE))
    for _ in range(500):
        targets = np.array(
            [row[2] + (0.0 if row[3] is None else DISCOUNT * value[row[3]]) for row in TABLE]
        )
        q_values = np.array(
            [
                np.mean([t for t, key in zip(targets, keys, strict=True) if key == own])
                for own in keys
            ]
        )
        value = np.array(
            [expectile_of(q_values[states == state], expectile) for state in range(3)]
        )
    return value, q_values


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_values_of_a_small_table_are_those_that_numpy_computes(expectile: float) -> None:
    config = TrainConfig.model_validate(
        {
            "run": {"steps": 500, "execution": "eager"},
            "diffusion": {"num_diffusion_steps": 1},
            "policy": {"width": 4, "depth": 1, "eta": 0.0},
            "critic": {
                "kind": "expectile",
                "expectile": expectile,
                "width": 32,
                "depth": 2,
                "learning_rate": 5e-3,
                "gradient_clip": None,
                "discount": DISCOUNT,
                "tau": 0.1,
            },
        }
    )
    torch.manual_seed(0)
    agent = DiffusionQL(config, 3, 1, torch.Generator().manual_seed(1))
    batch = table_batch()
    for _ in range(config.run.steps):
        agent.update(batch)
    value, q_values = solve(expectile)
    assert isinstance(agent.critics, ExpectileCritics)
    with torch.no_grad():
        found = agent.critics.online(batch.observation, batch.action).numpy()
        states = agent.critics.value(torch.eye(3)).numpy()
    np.testing.assert_allclose(found, np.tile(q_values, (2, 1)), atol=0.005)
    np.testing.assert_allclose(states, value, atol=0.005)


def test_the_expectile_of_a_bandit_lies_between_its_mean_and_its_best() -> None:
    rewards = np.array([0.0, 0.0, 1.0, 4.0])
    values = [expectile_of(rewards, each) for each in (0.5, 0.7, 0.9, 0.999)]
    assert values[0] == pytest.approx(rewards.mean())
    assert values == sorted(values)
    assert values[-1] == pytest.approx(4.0, abs=0.02)
    for expectile, value in zip((0.5, 0.7, 0.9, 0.999), values, strict=True):
        point = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        loss = expectile_loss(point.expand(4), torch.tensor(rewards), expectile)
        (slope,) = torch.autograd.grad(loss, point)
        assert abs(slope.item()) < 1e-6
        weights = np.where(rewards < value, 1 - expectile, expectile)
        assert loss.item() == pytest.approx(np.mean(weights * (rewards - value) ** 2))


def expectile_agent(**critic: Any) -> DiffusionQL:
    return make_agent(make_config(critic={"kind": "expectile", **critic}))


def state_values(critics: ExpectileCritics, observation: Tensor) -> Tensor:
    return naive_critic(critics.value.network, 0, observation, observation[:, :0])


@pytest.mark.parametrize(
    "critic", [{}, {"num_critics": 3, "lower_bound": 1.0}, {"layer_norm": True}], ids=str
)
def test_an_update_equals_the_naive_one(critic: dict[str, Any]) -> None:
    agent, naive = expectile_agent(**critic), expectile_agent(**critic)
    critics, batch, number = naive.critics, make_batch(), critic.get("num_critics", 2)
    assert isinstance(critics, ExpectileCritics)
    slow = [
        naive_critic(critics.target, e, batch.observation, batch.action) for e in range(number)
    ]
    together = naive_together(slow, critic.get("lower_bound")).detach()
    rows = zip(together, state_values(critics, batch.observation), strict=True)
    parts = [(0.7 if q > v else 0.3) * (q - v) ** 2 for q, v in rows]
    value_loss = torch.stack(parts).mean()
    value_parameters = list(critics.value.parameters())
    value_gradients = torch.autograd.grad(value_loss, value_parameters)

    losses = agent.update(batch)
    assert isinstance(losses, QLLosses)
    assert losses.value is not None
    torch.testing.assert_close(losses.value, value_loss.detach())
    ours = agent.critics
    assert isinstance(ours, ExpectileCritics)
    for parameter, gradient in zip(ours.value.parameters(), value_gradients, strict=True):
        torch.testing.assert_close(first_gradient(agent.optimizers, parameter), gradient)

    # The critics learn from the state values that have just learned.
    with torch.no_grad():
        following = state_values(ours, batch.next_observation)
        target = batch.reward + 0.99 * batch.bootstrap * following
    torch.testing.assert_close(losses.q_target, target.mean())
    q_values = [
        naive_critic(critics.online, e, batch.observation, batch.action) for e in range(number)
    ]
    loss = torch.stack([(values - target).square().mean() for values in q_values]).sum()
    torch.testing.assert_close(losses.critic, loss.detach())


def test_no_action_but_the_datas_reaches_the_critics() -> None:
    agent, other = expectile_agent(), expectile_agent()
    for parameter in (*other.policy.online.parameters(), *other.policy.average.parameters()):
        torch.nn.init.normal_(parameter)
    assert agent.noise.draw(B).target.shape[1] == 0
    for seed in range(3):
        agent.update(make_batch(seed))
        other.update(make_batch(seed))
    for name in ("critic", "target_critic", "value"):
        assert not moved(snapshot(agent.modules[name]), other.modules[name]), name


def test_every_network_moves_in_one_update_and_targets_are_bounded() -> None:
    agent = expectile_agent()
    agent.critics.bound_targets(-0.1, 0.1)
    before = {name: snapshot(module) for name, module in agent.modules.items()}
    losses = agent.update(make_batch())
    for name, module in agent.modules.items():
        assert moved(before[name], module) == set(before[name]), name
    assert losses.targets_clipped > 0
    assert losses.q_target.abs() <= 0.1


def test_guidance_is_measured_but_not_followed_where_its_weight_is_zero() -> None:
    selecting = make_agent(make_config(policy={"eta": 0.0}))
    guided = make_agent(make_config(policy={"eta": 1e-30}))
    for seed in range(3):
        ours, theirs = (agent.update(make_batch(seed)) for agent in (selecting, guided))
        assert ours == theirs
    for name, module in selecting.modules.items():
        assert not moved(snapshot(module), guided.modules[name]), name


def test_bfloat16_learns_nearly_the_same() -> None:
    full = expectile_agent(width=32)
    config = make_config(critic={"kind": "expectile", "width": 32}, run={"precision": "bfloat16"})
    losses, reduced = (measured(each.update(make_batch())) for each in (full, make_agent(config)))
    assert losses.keys() == reduced.keys()
    for name, loss in losses.items():
        if name != "improvement":  # divides by values near zero
            torch.testing.assert_close(reduced[name], loss, atol=0.02, rtol=0.02, msg=name)
    assert losses["value"] != reduced["value"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"agent": "td3_bc", "critic": {"kind": "expectile"}},
            "td3_bc does not go with critic.kind: expectile, which ranks several actions",
        ),
        (
            {"critic": {"kind": "expectile", "max_q_samples": 10}},
            "kind: expectile samples none: set max_q_samples to 1",
        ),
        ({"critic": {"expectile": 1.0}}, "key 'critic.expectile' is 1.0"),
    ],
)
def test_what_does_not_go_together_is_one_line(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse(document, TrainConfig, "file", ConfigError)
    assert "\n" not in str(caught.value)


def test_shapes_are_those_of_a_state() -> None:
    critics = expectile_agent().critics
    assert isinstance(critics, ExpectileCritics)
    assert critics.value(torch.zeros(7, O)).shape == (7,)
    empty = torch.zeros(0, 0, A)
    sampled = critics.state_values(torch.zeros(7, O), critics.online, empty)
    torch.testing.assert_close(sampled, critics.value(torch.zeros(7, O)))


def test_a_run_that_imitates_and_selects_is_measured_on_held_out_episodes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    spec = PolicySpec("cart", 10.0, (FieldSpec("x"),), (FieldSpec("push", "N", -4.0, 4.0),))
    episodes = [
        Episode(
            observations=rng.normal(size=(13, 1)).astype(np.float32),
            actions=rng.uniform(-4.0, 4.0, (12, 1)).astype(np.float32),
            rewards=rng.normal(size=12),
            terminated=index % 2 == 0,
            truncated=index % 2 == 1,
        )
        for index in range(6)
    ]
    write_dataset(tmp_path / "data", episodes, spec)
    changes = ("run.steps=40", "run.checkpoint_every=20", "run.batch_size=8", "policy.width=8")
    more = ("critic.width=8", "validation.held_out=0.34", "validation.rule=value_error")
    path = Path(__file__).parents[3] / "config/train/select.yaml"
    config = load_config(path, [*changes, *more, f"data.dataset={tmp_path / 'data'}"])
    assert (config.critic.kind, config.policy.eta) == ("expectile", 0.0)
    train(config, tmp_path / "run")
    records = read_records(tmp_path / "run" / "validation.jsonl")
    assert [record["step"] for record in records] == [20, 40]
    for record in records:
        assert np.isfinite(record["held_out_td_error"])
        assert np.isfinite(record["held_out_value_error"])
    assert find_checkpoint(tmp_path / "run", "best_offline").is_dir()
