"""The names of shadow commands: what a policy would send, beside the robot's topics.

The one place that knows the rule. The node publishes by it, the recorder and the security policy
follow it, and by it a recording's shadow commands are found again.
"""

from __future__ import annotations

from collections.abc import Sequence

from dql_core.errors import ContractError
from dql_ros.contract.stream import ActionStream

# Name of the nodes whose shadow commands a recorder in their namespace records.
POLICY_NODE = "policy"


def shadow_topic(topic: str, node: str = "~") -> str:
    """Name of the topic that shadows a command topic: ``~/shadow/``, then its own name.

    Args:
        topic: The command topic as the contract has it; a slash in front of it is left out.
        node: Full name of the node, such as ``/left/policy``; ROS replaces ``~`` by it.
    """
    return f"{node}/shadow/{topic.lstrip('~/')}"


def shadow_streams(streams: Sequence[ActionStream], node: str = "~") -> tuple[ActionStream, ...]:
    """The streams of the shadow commands: the action's, but for their topics, and never as goals.

    A contract with these in place of its ``action`` reads out of a recording what the policy would
    have sent, as the contract itself reads what the robot was sent.

    Args:
        streams: The contract's ``action``.
        node: As in `shadow_topic`.

    Raises:
        ContractError: If two would have one topic, as those of ``cmd`` and ``/cmd``.
    """
    shadows: dict[str, ActionStream] = {}
    for stream in streams:
        topic = shadow_topic(stream.topic, node)
        if topic in shadows:
            first = next(each.topic for each in streams if shadow_topic(each.topic, node) == topic)
            raise ContractError(
                f"the action topics '{first}' and '{stream.topic}' have one shadow topic, "
                f"'{topic}': shadow mode needs names that differ by more than a leading slash"
            )
        # What is sent at a tick is what was decided at it.
        at_once = {"delay_s": 0.0, "recorded_delay_s": 0.0}
        changes = {"topic": topic, "send_as": None, **at_once}
        shadows[topic] = stream.model_copy(update=changes)
    return tuple(shadows.values())
