"""Where the reward comes from: a topic, or Python functions over an episode."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from dql_core.strict_yaml import StrictModel
from dql_ros.contract.signal import RewardTopic


class Function(StrictModel):
    """A Python function over one episode.

    Attributes:
        function: ``module:function``.
        arguments: Keyword arguments for it.
    """

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, Any] = Field(default_factory=dict)


class RewardFunction(Function):
    """A function that returns an episode's rewards, shape (T,).

    Attributes:
        weight: Factor of its rewards, where several functions are added.
    """

    weight: float = Field(default=1.0, allow_inf_nan=False)


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
