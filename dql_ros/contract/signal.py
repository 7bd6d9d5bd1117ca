"""Topics that tell of the task rather than of the robot: rewards, ends, and events."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from dql_ros.contract.topic import EventType, MessageType, Topic

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
    """A topic that tells whether something is so.

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
