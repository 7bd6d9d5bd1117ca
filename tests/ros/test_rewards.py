from pathlib import Path

import numpy as np

from dql_core.rewards.call import load_rewards
from dql_core.rewards.named import RewardFunction
from dql_core.spec import FieldSpec, PolicySpec
from dql_ros import contract
from dql_ros.rewards import load_rewards as load_contract_rewards

CONTRACT = Path(__file__).parents[2] / "config/contracts/crazyflie.yaml"
SPEC = PolicySpec(
    robot="cart",
    rate_hz=10.0,
    observation=tuple(FieldSpec(name) for name in ("x", "y", "goal_x", "goal_y")),
    action=(FieldSpec("force", low=-1.0, high=1.0),),
)
OBSERVATIONS = np.array([[0, 0, 3, 4], [3, 0, 3, 4], [3, 4, 3, 4]], dtype=np.float32)
ARGUMENTS = {"position": ["x", "y"], "goal": ["goal_x", "goal_y"]}


def test_contracts_function_is_called_with_the_arrays() -> None:
    reward = contract.RewardFunction(
        function="dql_core.rewards:distance_to_goal", arguments=ARGUMENTS
    )
    rewards = load_contract_rewards(reward)(OBSERVATIONS, np.zeros((2, 1), np.float32), SPEC)
    assert rewards.tolist() == [-4.0, 0.0]


def test_crazyflies_reward_fits_its_contract() -> None:
    loaded = contract.load_contract(CONTRACT)
    assert isinstance(loaded.reward, contract.RewardFunction)
    named = RewardFunction(function=loaded.reward.function, arguments=loaded.reward.arguments)
    spec = loaded.policy_spec()
    observations = np.zeros((3, len(spec.observation)), np.float32)
    goal = [field.name for field in spec.observation].index("goal_z")
    observations[:, goal] = 10.0
    actions = np.zeros((2, len(spec.action)), np.float32)
    rewards = load_contract_rewards(loaded.reward)(observations, actions, spec)
    assert rewards.tolist() == [-10.0, -10.0]
    assert load_rewards([named]) is not None
