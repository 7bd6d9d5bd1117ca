"""What a contract says of the task: rewards, and where episodes begin and end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from dql_core.rewards.call import NamedFunction, RewardFunction
from dql_core.strict_yaml import StrictModel
from dql_ros.contract.stream import EventType, MessageType, Topic

# What a message's value is compared with.
Equal = bool | int | float | str


class SignalStream(Topic):
    """A topic that carries one number or flag, at the time of its receipt.

    Attributes:
        type: Message type, ``package/msg/Name``.
        path: Dotted path to the number or flag.
    """

    type: MessageType
    path: str = "data"


class RewardTopic(SignalStream):
    """A topic that carries the reward.

    Attributes:
        tick: Which transition a message belongs to: with ``ended`` one that arrives in
            (t, t + dt] rewards the transition from t, as a simulator sends it with the state
            that was reached; with ``begun`` one that arrives in [t, t + dt) does.
        combine: What becomes of several messages of one tick: their sum, or the last.
    """

    tick: Literal["ended", "begun"] = "ended"
    combine: Literal["sum", "last"] = "sum"


class FlagStream(SignalStream):
    """A topic that carries a flag.

    Attributes:
        equals: The flag is raised by a message that has just this at ``path``; by default by one
            that has true there, or a number other than 0.
    """

    equals: Equal | None = None

    def value_of(self, raised: bool) -> bool | float | str:
        """What a message has at ``path`` that raises the flag, or one that does not."""
        if self.equals is None:
            return raised
        if raised:
            return self.equals
        return "" if isinstance(self.equals, str) else not self.equals


class Event(Topic):
    """Something that happens: at each message of a topic, or at those that match.

    Attributes:
        type: Message type, ``package/msg/Name``, or ``package/srv/Name_Event`` for the events of
            a service.
        path: Dotted path to what decides whether a message matches; without it all do.
        equals: What a matching message has there; by default true, or a number other than 0.
    """

    type: EventType
    path: str | None = None
    equals: Equal | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Event:
        if self.equals is not None and self.path is None:
            raise ValueError("'equals' needs a 'path' to what is compared")
        return self


def matches(found: object, equals: Equal | None) -> bool:
    """Say whether what a message has at a signal's path raises it.

    Args:
        found: A number, flag or string.
        equals: What it is to be; ``None`` for true, or a number other than 0.
    """
    if equals is None:
        return bool(found)
    return isinstance(found, str) == isinstance(equals, str) and bool(found == equals)


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


def _kind_of_reward(section: Any) -> str:
    if isinstance(section, list | tuple):
        return "RewardFunctions"
    is_function = "function" in section if isinstance(section, dict) else False
    return (
        "RewardFunction" if is_function or isinstance(section, RewardFunction) else "RewardTopic"
    )


# The tags appear in pydantic's error locations; keys of the yaml have no capitals.
Reward = Annotated[
    Annotated[RewardTopic, Tag("RewardTopic")]
    | Annotated[RewardFunction, Tag("RewardFunction")]
    | Annotated[
        Annotated[tuple[RewardFunction, ...], Field(min_length=1)], Tag("RewardFunctions")
    ],
    Discriminator(_kind_of_reward),
]
