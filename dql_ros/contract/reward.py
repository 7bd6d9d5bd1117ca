"""Where the reward comes from: a topic, or Python functions over an episode."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from dql_core.rewards.named import RewardFunction
from dql_ros.contract.signal import RewardTopic


def _kind_of_reward(section: Any) -> str:
    if isinstance(section, list | tuple):
        return "RewardFunctions"
    is_function = "function" in section if isinstance(section, dict) else False
    return (
        "RewardFunction" if is_function or isinstance(section, RewardFunction) else "RewardTopic"
    )


# The tags appear in pydantic's error locations, where capitals tell them from keys of the yaml.
Reward = Annotated[
    Annotated[RewardTopic, Tag("RewardTopic")]
    | Annotated[RewardFunction, Tag("RewardFunction")]
    | Annotated[
        Annotated[tuple[RewardFunction, ...], Field(min_length=1)], Tag("RewardFunctions")
    ],
    Discriminator(_kind_of_reward),
]
