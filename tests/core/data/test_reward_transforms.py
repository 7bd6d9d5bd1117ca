from typing import Any

import numpy as np
import pytest
import torch

from dql_core.data.dataset import Episode, LoadedDataset
from dql_core.data.reward_transforms import RewardTransform, discounted_returns, fit_rewards
from dql_core.data_config import DataConfig
from dql_core.errors import DatasetError
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec("cart", 10.0, (FieldSpec("x"),), (FieldSpec("push", "N", -1.0, 1.0),))
REWARDS = [[1.0, 2.0], [0.5, -4.0, 1.0], [3.0], [10.0, 0.0]]
TERMINATED = [False, True, True, False]


def dataset_of(rewards: list[list[float]], terminated: list[bool]) -> LoadedDataset:
    episodes = [
        Episode(
            np.zeros((len(of_episode) + 1, 1), "f4"),
            np.zeros((len(of_episode), 1), "f4"),
            np.array(of_episode),
            ended,
            not ended,
        )
        for of_episode, ended in zip(rewards, terminated, strict=True)
    ]
    return LoadedDataset(SPEC, tuple(episodes), "cart data")


def transformed(
    rewards: list[list[float]], terminated: list[bool], **keys: Any
) -> list[list[float]]:
    transform = fit_rewards(dataset_of(rewards, terminated), DataConfig(**keys))
    return [transform(np.array(of_episode)).tolist() for of_episode in rewards]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", [[0.0, 1.0]]),
        ("iql_antmaze", [[-1.0, 0.0]]),
        ("cql_antmaze", [[-2.0, 2.0]]),
        ("antmaze", [[-0.5, 1.5]]),
    ],
)
def test_the_sparse_rewards_of_mazes_move_as_in_the_paper(
    name: str, expected: list[list[float]]
) -> None:
    assert transformed([[0.0, 1.0]], [True], reward_transform=name) == expected


def test_normalize_uses_torchs_mean_and_standard_deviation_of_the_whole_dataset() -> None:
    flat = torch.tensor([reward for episode in REWARDS for reward in episode])
    result = transformed(REWARDS, TERMINATED, reward_transform="normalize")
    np.testing.assert_allclose(
        [reward for episode in result for reward in episode],
        ((flat - flat.mean()) / flat.std()).numpy(),
        rtol=1e-5,
    )


def test_the_locomotion_transform_divides_by_the_range_of_the_episodes_returns() -> None:
    result = transformed(REWARDS, TERMINATED, reward_transform="iql_locomotion")
    # The returns are 3, -2.5, 3 and 10.
    np.testing.assert_allclose(result[0], [1000 / 12.5, 2000 / 12.5])


def test_with_the_boundaries_of_the_papers_code_time_limits_run_on() -> None:
    result = transformed(
        REWARDS, TERMINATED, reward_transform="iql_locomotion", reward_boundaries="termination"
    )
    # The returns are 3 - 2.5 and 3; the last episode never terminates and counts for nothing.
    np.testing.assert_allclose(result[0], [1000 / 2.5, 2000 / 2.5])


def test_the_scale_applies_after_the_transform() -> None:
    result = transformed([[0.0, 1.0]], [True], reward_transform="cql_antmaze", reward_scale=10)
    assert result == [[-20.0, 20.0]]


@pytest.mark.parametrize(
    ("rewards", "terminated", "keys", "words"),
    [
        ([[2.0], [2.0]], [True, False], {}, r"every return is 2 \(data.reward_boundaries=episode"),
        (
            [[2.0], [3.0]],
            [False, False],
            {"reward_boundaries": "termination"},
            r"no episode terminates \(data.reward_boundaries=termination, 2 episodes\)",
        ),
        ([[2.0], [2.0]], [True, True], {"reward_transform": "normalize"}, "every reward is 2 and"),
        ([[2.0]], [True], {"reward_transform": "normalize"}, "every reward is 2 and"),
    ],
)
def test_a_spread_of_zero_cannot_be_divided_by(
    rewards: list[list[float]], terminated: list[bool], keys: dict[str, Any], words: str
) -> None:
    config = DataConfig(**({"reward_transform": "iql_locomotion"} | keys))
    with pytest.raises(DatasetError, match=f"cart data: .*{words}"):
        fit_rewards(dataset_of(rewards, terminated), config)


def test_nothing_changes_by_default() -> None:
    assert fit_rewards(dataset_of(REWARDS, TERMINATED), DataConfig()) == RewardTransform(1.0, 0.0)


def test_discounted_returns_sum_what_is_left_of_the_episode() -> None:
    rewards = np.array([1.0, 10.0, 100.0])
    np.testing.assert_allclose(discounted_returns(rewards, 0.5), [31.0, 60.0, 100.0])
