"""What every topic of a contract has: a name, a type, and the QoS that lets endpoints meet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dql_core.strict_yaml import StrictModel

MessageType = Annotated[str, Field(pattern=r"^\w+/msg/\w+$")]
# Service events are messages of their own on a topic of their own (REP 2012).
EventType = Annotated[str, Field(pattern=r"^\w+/(msg/\w+|srv/\w+_Event)$")]


class QualityOfService(StrictModel):
    """The QoS policies that decide whether two endpoints connect at all.

    Attributes:
        reliability: A best-effort subscriber hears every publisher, a reliable one only reliable.
        durability: ``transient_local`` also serves those who subscribe later.
        depth: How many messages are kept for a slow reader.
    """

    reliability: Literal["best_effort", "reliable"]
    durability: Literal["volatile", "transient_local"] = "volatile"
    depth: int = Field(default=1, ge=1, le=1_000_000)


class Topic(StrictModel):
    """A topic by name.

    Attributes:
        topic: Topic name; a relative one follows the node's namespace and remappings.
    """

    topic: str

    def resolved_topic(self, namespace: str = "/") -> str:
        """Absolute topic name under ``namespace``, as a bag stores it."""
        return resolve_topic(self.topic, namespace)


def resolve_topic(topic: str, namespace: str = "/") -> str:
    """Absolute name of ``topic`` under ``namespace``; an absolute topic stays as it is."""
    return topic if topic.startswith("/") else f"{namespace.rstrip('/')}/{topic}"
