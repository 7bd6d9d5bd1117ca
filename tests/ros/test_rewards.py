import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_core.spec import FieldSpec, PolicySpec
from dql_ros.contract import RewardFunction
from dql_ros.rewards import load_rewards, negative_distance

SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=tuple(FieldSpec(name) for name in ("x", "y", "goal_x", "goal_y")),
    action=(FieldSpec("force", low=-1.0, high=1.0),),
)
OBSERVATIONS = np.array([[0, 0, 3, 4], [3, 0, 3, 4], [3, 4, 3, 4]], dtype=np.float32)
ACTIONS = np.zeros((2, 1), dtype=np.float32)
ARGUMENTS = {"position": ["x", "y"], "goal": ["goal_x", "goal_y"]}


def reward(function: str, **arguments: Any) -> RewardFunction:
    return RewardFunction(function=function, arguments=arguments)


def test_distance_counts_where_the_action_led_to() -> None:
    rewards = negative_distance(
        OBSERVATIONS, ACTIONS, SPEC, position=["x", "y"], goal=["goal_x", "goal_y"]
    )
    assert rewards.tolist() == [-4.0, 0.0]


def test_distance_does_not_change_when_both_points_move_alike() -> None:
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(9, 4)).astype(np.float32)
    rewards = load_rewards(reward("dql_ros.rewards:negative_distance", **ARGUMENTS))
    moved = observations + np.array([1, 2, 1, 2], dtype=np.float32)
    actions = np.zeros((8, 1), dtype=np.float32)
    np.testing.assert_allclose(
        rewards(observations, actions, SPEC), rewards(moved, actions, SPEC), atol=1e-6
    )


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        ("dql_ros.rewardz:negative_distance", {}, "cannot import 'dql_ros.rewardz': .*PYTHONPATH"),
        ("dql_ros.rewards:negative_distanc", {}, r"'negative_distanc' .*mean 'negative_distance'"),
        ("dql_ros.rewards:np", {}, "has no function 'np'"),
        ("dql_ros.rewards:negative_distance", {}, "missing a required .*argument: 'position'"),
        (
            "dql_ros.rewards:negative_distance",
            {**ARGUMENTS, "goall": 1},
            "unexpected keyword argument 'goall'",
        ),
    ],
)
def test_function_that_cannot_be_called_is_refused_before_anything_is_read(
    function: str, arguments: dict[str, Any], error: str
) -> None:
    with pytest.raises(ContractError, match=rf"^reward: .*{error}"):
        load_rewards(reward(function, **arguments))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"position": ["x"]}, "'position' names 1 fields and 'goal' 2"),
        ({"position": ["x", "z"]}, r"no observation field 'z' \(known: goal_x, goal_y, x, y\)"),
        ({"goal": ["gaol_x", "goal_y"]}, r"no observation field 'gaol_x' \(did you mean 'goal_x'"),
    ],
)
def test_wrong_field_names_are_told_with_the_nearest(
    arguments: dict[str, Any], error: str
) -> None:
    rewards = load_rewards(reward("dql_ros.rewards:negative_distance", **ARGUMENTS | arguments))
    with pytest.raises(ContractError, match=f"^reward: {error}"):
        rewards(OBSERVATIONS, ACTIONS, SPEC)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("len(observations) * [0.0]", r"returned shape \(3,\), not \(2,\)"),
        ("[0.0, float('nan')]", "returned nan at step 1"),
    ],
)
def test_what_a_function_returns_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, error: str
) -> None:
    (tmp_path / "my_rewards.py").write_text(f"def f(observations, actions, spec): return {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    rewards = load_rewards(reward("my_rewards:f"))
    with pytest.raises(ContractError, match=f"my_rewards:f {error}"):
        rewards(OBSERVATIONS, ACTIONS, SPEC)
