"""How a yaml file names a function over an episode."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dql_core.strict_yaml import StrictModel


class NamedFunction(StrictModel):
    """A Python function that is called with one episode.

    Attributes:
        function: ``module:function``.
        arguments: Keyword arguments for it.
    """

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, Any] = Field(default_factory=dict)


class RewardFunction(NamedFunction):
    """A function that returns rewards, shape (T,).

    Attributes:
        weight: Factor of its rewards in the sum of several.
    """

    weight: float = Field(default=1.0, allow_inf_nan=False)
