"""What a person says of an episode: success, failure, or that it is to be left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from dql_core.strict_yaml import Name, StrictModel
from dql_ros.contract.stream import resolve_topic
from dql_ros.contract.task import Event, FlagStream

Label = Literal["success", "failure", "discard"]
SUCCESS: Label = "success"
FAILURE: Label = "failure"
DISCARD: Label = "discard"
LABELS: tuple[Label, ...] = (SUCCESS, FAILURE, DISCARD)
LABEL_TYPE = "std_msgs/msg/String"


class Outcomes(StrictModel):
    """How a person labels episodes, and what a label makes of one.

    Attributes:
        topic: A label in words; the policy node says its own there.
        markers: Where a recording has the labels that its recorder was given, in words too.
        success: A flag, such as a joystick's button, that labels an episode when it is raised.
        failure: Likewise.
        discard: Likewise; the episode is left out.
        failure_is: Whether a failure is the task's own end, so that no value follows.
    """

    topic: Name = "outcome"
    markers: Name = "recorder/episode"
    success: FlagStream | None = None
    failure: FlagStream | None = None
    discard: FlagStream | None = None
    failure_is: Literal["terminated", "truncated"] = "terminated"

    @property
    def flags(self) -> dict[Label, FlagStream]:
        """The flags that there are, by the label that they give."""
        named = {SUCCESS: self.success, FAILURE: self.failure, DISCARD: self.discard}
        return {label: flag for label, flag in named.items() if flag is not None}

    @property
    def words(self) -> tuple[Event, ...]:
        """The topics that have labels in words: each message that is one labels an episode."""
        topics = dict.fromkeys((self.topic, self.markers))
        return tuple(
            Event(topic=topic, type=LABEL_TYPE, path="data", equals=LABELS) for topic in topics
        )

    def problems(self, sent: Sequence[str]) -> Iterator[str]:
        """Yield what is wrong, where a robot has or is sent ``sent`` topics of its own."""
        own = {resolve_topic(topic) for topic in sent}
        flags = {resolve_topic(flag.topic) for flag in self.flags.values()}
        for key, topic in (("topic", self.topic), ("markers", self.markers)):
            if resolve_topic(topic) in own | flags:
                yield (
                    f"outcomes.{key} is '{topic}', which the contract has another use for: labels "
                    f"in words need a topic of their own"
                )
        rules = [flag.model_dump() for flag in self.flags.values()]
        if any(rules.count(rule) > 1 for rule in rules):
            yield "outcomes: two labels have the same flag: give each one of its own"
