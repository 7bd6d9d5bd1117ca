"""Where a recording's episodes begin and end, and what makes an end terminal."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from dql_core.rewards.named import NamedFunction
from dql_core.strict_yaml import StrictModel
from dql_ros.contract.signal import Event, FlagStream


class Predicate(NamedFunction):
    """A function that says of each transition whether the task ended with it, shape (T,).

    Attributes:
        function: ``module:function``.
        arguments: Keyword arguments for it.
    """


def _kind_of_end(section: Any) -> str:
    is_function = "function" in section if isinstance(section, dict) else False
    return "Predicate" if is_function or isinstance(section, Predicate) else "FlagStream"


Terminal = Annotated[
    Annotated[FlagStream, Tag("FlagStream")] | Annotated[Predicate, Tag("Predicate")],
    Discriminator(_kind_of_end),
]


class EpisodeRules(StrictModel):
    """Where episodes begin and end; without any rule, one bag is one that ends truncated.

    Attributes:
        start: An episode begins with this event; what comes before it is left out.
        stop: An episode ends with this event, truncated.
        during: An episode lasts while the topic's last message matches.
        terminated: True when the task itself ended (success, crash): no value follows.
        truncated: True when only the recording of the episode ended, as at a time limit.
        min_length: Shorter episodes are dropped and reported; in transitions.
    """

    start: Event | None = None
    stop: Event | None = None
    during: Event | None = None
    terminated: Terminal | None = None
    truncated: FlagStream | None = None
    min_length: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> EpisodeRules:
        if self.during is not None:
            if self.start is not None or self.stop is not None:
                raise ValueError("give 'during', or 'start' and 'stop', not both")
            if self.during.path is None:
                raise ValueError("'during' needs the 'path' of the state that it watches")
        return self
