"""How a person takes over from the policy: by which topics, for how long, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from dql_core.strict_yaml import Name, StrictModel
from dql_ros.contract.stream import MAX_S, ActionStream, resolve_topic
from dql_ros.contract.task import FlagStream


class Takeover(StrictModel):
    """A person's topics, and what they mean.

    Attributes:
        topics: On which the person commands, one for each action stream, in their order; their
            messages are of the action stream's type, and read as its commands are.
        switch: While it is raised, the person commands; without one, while the person speaks.
        max_age_s: A person's command is in force for at most so long after its receipt; in
            seconds.
        when_silent: What the robot is sent while the switch is raised and no command is in force:
            the fallback (``safe``), or the policy's actions again. Without a switch always the
            latter.
        ramp_s: When the person hands back, what is sent goes from the last command to the policy's
            actions within so long; in seconds.
        intervention: Topic on which the node says with each command whether it is the person's.
    """

    topics: tuple[Name, ...] = Field(min_length=1)
    switch: FlagStream | None = None
    max_age_s: float = Field(default=0.5, gt=0, le=MAX_S)
    when_silent: Literal["safe", "policy"] | None = None
    ramp_s: float = Field(default=1.0, ge=0, le=3600)
    intervention: Name = "intervention"

    @property
    def silence_hands_back(self) -> bool:
        """Whether the policy goes on where the person has the switch and says nothing."""
        return self.switch is None or self.when_silent == "policy"

    @property
    def flag(self) -> FlagStream:
        """The topic on which the node says who commanded."""
        return FlagStream(topic=self.intervention, type="std_msgs/msg/Bool")

    @property
    def heard_topics(self) -> tuple[str, ...]:
        """The topics that a node hears the person on."""
        return (*self.topics, *(() if self.switch is None else (self.switch.topic,)))

    def types(self, action: Sequence[ActionStream]) -> dict[str, str]:
        """Types of all these topics, by their names as the contract has them."""
        types = {stream.topic: stream.type for stream in self.streams(action)}
        flags = [self.flag, *([] if self.switch is None else [self.switch])]
        return types | {flag.topic: flag.type for flag in flags}

    def streams(self, action: Sequence[ActionStream]) -> tuple[ActionStream, ...]:
        """The streams of the person's commands: the action's, but for topics, ages and goals."""
        own = {"max_age_s": self.max_age_s, "send_as": None}
        return tuple(
            stream.model_copy(update={"topic": topic, **own})
            for stream, topic in zip(action, self.topics, strict=True)
        )

    def problems(self, action: Sequence[ActionStream]) -> Iterator[str]:
        """Yield what is wrong for these action streams."""
        if len(self.topics) != len(action):
            yield (
                f"takeover.topics has {len(self.topics)} for {len(action)} action topics: give "
                f"one for each, in their order"
            )
        if self.when_silent == "safe" and self.switch is None:
            yield (
                "takeover.when_silent is 'safe' without a 'switch', so that nobody could hand "
                "back: give a 'switch', or leave 'when_silent' out"
            )
        commands = [stream.topic for stream in action]
        given = [*self.heard_topics, self.intervention]
        for index, topic in enumerate(given):
            others = {resolve_topic(each) for each in (*commands, *given[:index])}
            if resolve_topic(topic) in others:
                yield (
                    f"takeover: '{topic}' is an action topic too, or is named twice: the person's "
                    f"commands, the switch and 'intervention' need topics of their own"
                )
