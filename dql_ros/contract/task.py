"""What a contract says of the task: rewards, and where episodes begin and end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from dql_core.rewards.call import NamedFunction, RewardFunction
from dql_core.strict_yaml import StrictModel
from dql_ros.contract.field import selects_by_name, split_path
from dql_ros.contract.stream import (
    EventType,
    MessageType,
    Topic,
    WhenAbsent,
    skips_absent,
    without_default,
)

# What a message's value is compared with.
Equal = bool | int | float | str
# One value, or several of which each will do.
Equals = Equal | Annotated[tuple[Equal, ...], Field(min_length=1)]


class _OneValue(Topic):
    """A topic of which one value counts.

    Attributes:
        when_absent: What becomes of a message that has nothing at the path, as where a list is
            empty: it is an error, or says nothing; by default the latter where the path selects
            by name.
    """

    when_absent: WhenAbsent = None

    @property
    def skips_absent(self) -> bool:
        """Whether messages that have nothing at the path say nothing."""
        return skips_absent(self.when_absent, selects_by_name(self._path_text))

    @property
    def _path_text(self) -> str:
        return str(getattr(self, "path", None) or "")

    @field_validator("path", check_fields=False)
    @classmethod
    def _well_formed(cls, path: str | None) -> str | None:
        split_path(path or "")
        return path

    @model_validator(mode="after")
    def _usual(self) -> _OneValue:
        usual = without_default(self.when_absent, selects_by_name(self._path_text))
        object.__setattr__(self, "when_absent", usual)
        return self


class SignalStream(_OneValue):
    """A topic that carries one number or flag, at the time of its receipt.

    Attributes:
        type: Message type, ``package/msg/Name``.
        path: Path to the number or flag.
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
        equals: The flag is raised by a message that has just this, or one of these, at ``path``;
            by default by one that has true there, or a number other than 0.
    """

    equals: Equals | None = None

    def value_of(self, raised: bool) -> bool | float | str:
        """What a message has at ``path`` that raises the flag, or one that does not."""
        if self.equals is None:
            return raised
        choices = equal_values(self.equals)
        if raised:
            return choices[0]
        if isinstance(choices[0], str):
            return "" if "" not in choices else f"not {choices}"
        return next(value for value in range(len(choices) + 1) if value not in choices)

    @field_validator("equals")
    @classmethod
    def _comparable(cls, equals: Equals | None) -> Equals | None:
        return _of_one_kind(equals)


# A simulation says on it that the next state is of another episode, where the contract names no
# topic for the ends that are not the task's own.
SIM_RESET = FlagStream(topic="sim_reset", type="std_msgs/msg/Bool")


class Event(_OneValue):
    """Something that happens: at each message of a topic, or at those that match.

    Attributes:
        type: Message type, ``package/msg/Name``, or ``package/srv/Name_Event`` for the events of
            a service.
        path: Path to what decides whether a message matches; without it all do.
        equals: What a matching message has there, or a list of which it has one; by default true,
            or a number other than 0.
    """

    type: EventType
    path: str | None = None
    equals: Equals | None = None

    @field_validator("equals")
    @classmethod
    def _comparable(cls, equals: Equals | None) -> Equals | None:
        return _of_one_kind(equals)

    @model_validator(mode="after")
    def _consistent(self) -> Event:
        if self.equals is not None and self.path is None:
            raise ValueError("'equals' needs a 'path' to what is compared")
        return self


def equal_values(equals: Equals) -> tuple[Equal, ...]:
    """The values of which each will do."""
    return equals if isinstance(equals, tuple) else (equals,)


def is_text(equals: Equals | None) -> bool:
    """Whether texts are compared, and no numbers or flags."""
    return equals is not None and isinstance(equal_values(equals)[0], str)


def matches(found: object, equals: Equals | None) -> bool:
    """Say whether what a message has at a signal's path raises it.

    Args:
        found: A number, flag or string.
        equals: What it is to be, or several of which it is to be one; ``None`` for true, or a
            number other than 0.
    """
    if equals is None:
        return bool(found)
    return isinstance(found, str) == is_text(equals) and any(
        bool(found == value) for value in equal_values(equals)
    )


def _of_one_kind(equals: Equals | None) -> Equals | None:
    """Return what is compared with.

    Raises:
        ValueError: If it is texts and numbers.
    """
    if equals is not None and len({isinstance(each, str) for each in equal_values(equals)}) > 1:
        raise ValueError("'equals' must list either texts or numbers and flags")
    return equals


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
        success: Whether the task succeeded with a transition. It ends nothing and is no part of
            the data: only the simulation of an MJCF file reports it.
        min_length: Shorter episodes are dropped and reported; in transitions.
    """

    start: Event | None = None
    stop: Event | None = None
    during: Event | None = None
    terminated: Terminal | None = None
    truncated: FlagStream | None = None
    # It says nothing of the data, so that it is neither dumped nor hashed.
    success: Predicate | None = Field(default=None, exclude=True)
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
