"""Which returns the rewards allow, against sums over explicit sequences of rewards."""

import itertools
from typing import Any

import numpy as np
import pytest

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.return_range import Horizon, ReturnRange, possible_returns, recorded_returns
from dql_core.data.reward_transforms import fit_rewards
from dql_core.data_config import DataConfig
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec("cart", 10.0, (FieldSpec("x"),), (FieldSpec("push", "N", -4.0, 4.0),))


def episode(rewards: list[float], *, terminated: bool) -> Episode:
    return Episode(
        observations=np.zeros((len(rewards) + 1, 1), np.float32),
        actions=np.zeros((len(rewards), 1), np.float32),
        rewards=np.array(rewards),
        terminated=terminated,
        truncated=not terminated,
    )


def ranges(
    *episodes: Episode, discount: float = 0.5, **data: Any
) -> tuple[ReturnRange, ReturnRange]:
    dataset = LoadedDataset(SPEC, episodes, "test")
    rewards = fit_rewards(dataset, DataConfig(**data))
    return (
        possible_returns(dataset, rewards, discount),
        recorded_returns(dataset, rewards, discount),
    )


@pytest.mark.parametrize("rewards", [[-1.0, 2.0, 0.5], [1.0, 3.0, 2.0], [-3.0, -1.0, -2.0]])
@pytest.mark.parametrize("discount", [0.0, 0.5, 0.9])
def test_no_sequence_of_the_rewards_has_a_return_beyond_the_bounds(
    rewards: list[float], discount: float
) -> None:
    possible, _ = ranges(episode(rewards, terminated=True), discount=discount)
    returns = [
        sum(discount**step * reward for step, reward in enumerate(sequence))
        for length in range(1, len(rewards) + 1)
        for sequence in itertools.product(rewards, repeat=length)
    ]
    assert (possible.low, possible.high) == pytest.approx((min(returns), max(returns)))


def test_a_truncated_episode_may_go_on_for_ever() -> None:
    possible, _ = ranges(episode([-1.0, 2.0], terminated=False))
    assert (possible.low, possible.high) == (-2.0, 4.0)


def test_where_nothing_terminates_every_return_is_endless() -> None:
    possible, _ = ranges(episode([1.0, 2.0], terminated=False))
    assert (possible.low, possible.high) == (2.0, 4.0)
    ends = episode([1.5], terminated=True)
    possible, _ = ranges(episode([1.0, 2.0], terminated=False), ends)
    assert (possible.low, possible.high) == (1.0, 4.0)


def test_the_longest_episode_is_the_horizon_where_all_terminate() -> None:
    both = episode([1.0], terminated=True), episode([0.0] * 4, terminated=True)
    possible, _ = ranges(*both)
    assert (possible.low, possible.high) == (0.0, 1.875)
    assert str(Horizon.of(LoadedDataset(SPEC, both, "test"))) == "up to 4 steps long"


@pytest.mark.parametrize(
    ("data", "low", "high"),
    [
        ({"reward_scale": 0.1}, -0.2, 0.4),
        ({"reward_transform": "iql_antmaze"}, -4.0, 2.0),
        ({"reward_transform": "cql_antmaze", "reward_scale": 0.5}, -6.0, 6.0),
        ({"reward_transform": "normalize"}, -(2.0**0.5), 2.0**0.5),
    ],
)
def test_they_are_in_the_units_of_the_critics(
    data: dict[str, Any], low: float, high: float
) -> None:
    possible, _ = ranges(episode([-1.0, 2.0], terminated=False), **data)
    assert (possible.low, possible.high) == pytest.approx((low, high))


def test_recorded_are_the_discounted_returns_from_any_step_and_zero() -> None:
    _, recorded = ranges(episode([1.0, 2.0, 4.0], terminated=True))
    assert (recorded.low, recorded.high) == (0.0, 4.0)  # 3, 4, 4
    _, recorded = ranges(episode([-3.0, -2.0, 1.0], terminated=True))
    assert (recorded.low, recorded.high) == (-3.75, 1.0)
    both = episode([1.0], terminated=True), episode([-8.0, 0.0], terminated=True)
    assert ranges(*both)[1] == ReturnRange(-8.0, 1.0)


def test_a_truncated_episode_is_taken_to_go_on_as_it_went() -> None:
    # A mean reward of 2 goes on for ever: 2 / (1 - 0.5).
    assert ranges(episode([2.0], terminated=False))[1].high == pytest.approx(4.0)
    assert ranges(episode([1.0, 3.0], terminated=False))[1].high == pytest.approx(3 + 0.5 * 4)
