from pathlib import Path

import numpy as np

from dql_core.rewards import LoggedEpisode
from dql_core.rewards.call import load_rewards
from dql_ros import contract

CONTRACT = Path(__file__).parents[3] / "config/contracts/crazyflie.yaml"


def test_crazyflies_reward_fits_its_contract() -> None:
    loaded = contract.load_contract(CONTRACT)
    spec = loaded.policy_spec()
    observations = np.zeros((3, len(spec.observation)), np.float32)
    goal = [field.name for field in spec.observation].index("goal_z")
    observations[:, goal] = 10.0
    episode = LoggedEpisode(observations, np.zeros((2, len(spec.action)), np.float32), spec)
    assert load_rewards(loaded.reward_functions)(episode).tolist() == [-10.0, -10.0]
