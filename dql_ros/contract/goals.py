"""Commands that a robot takes as goals of a ROS action, since it knows nothing else."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dql_core.strict_yaml import Name, StrictModel, written_like

ActionType = Annotated[str, written_like(r"\w+/action/\w+", "must be like package/action/Name")]


class Goals(StrictModel):
    """As goals of which action commands are sent, and how often.

    Attributes:
        action: Name of the action; a relative one follows the node's namespace and remappings.
        type: Its type, ``package/action/Name``; its goal has one part of the stream's type.
        min_period_s: From one goal to the next; in seconds.
        min_change: A command is no new goal if each of its fields is within this share of its
            range, from ``low`` to ``high``, of the last goal; ``None``: each is one.
    """

    action: Name
    type: ActionType
    min_period_s: float = Field(default=0.1, ge=0, le=3600)
    min_change: float | None = Field(default=0.0, ge=0, le=1)
