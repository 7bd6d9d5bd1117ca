"""Calls the reward function that a contract names with the arrays of an episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dql_core.rewards import LoggedEpisode, call
from dql_core.rewards.functions import distance_to_goal as negative_distance
from dql_core.rewards.named import RewardFunction as NamedReward
from dql_core.spec import PolicySpec
from dql_ros.contract import RewardFunction

__all__ = ["Rewards", "load_rewards", "negative_distance"]

Rewards = Callable[
    [NDArray[np.float32], NDArray[np.float32], PolicySpec], NDArray[np.floating[Any]]
]


def load_rewards(reward: RewardFunction) -> Rewards:
    """Import the function that a contract names, with its arguments.

    Raises:
        ContractError: If there is no such function, or it does not take the arguments.
    """
    named = NamedReward(function=reward.function, arguments=reward.arguments)
    rewards = call.load_rewards([named])
    return lambda observations, actions, spec: rewards(LoggedEpisode(observations, actions, spec))
