"""The names of shadow commands."""

import pytest

from dql_core.errors import ContractError
from dql_ros.contract import ActionStream, resolve_topic
from dql_ros.contract.shadow import POLICY_NODE, shadow_streams, shadow_topic


def stream(topic: str) -> ActionStream:
    return ActionStream.model_validate(
        {
            "topic": topic,
            "type": "std_msgs/msg/Float64MultiArray",
            "qos": {"reliability": "best_effort"},
            "fields": [{"path": "data", "indices": [0], "unit": "rad", "low": -1, "high": 1}],
        }
    )


@pytest.mark.parametrize("topic", ["arm/commands", "/arm/commands", "~/arm/commands"])
def test_a_shadow_topic_is_below_its_node_and_has_the_topics_own_name(topic: str) -> None:
    assert shadow_topic(topic) == "~/shadow/arm/commands"
    node = resolve_topic(POLICY_NODE, "left")
    assert shadow_topic(topic, node) == "/left/policy/shadow/arm/commands"


def test_shadow_streams_are_the_actions_but_for_their_topics() -> None:
    streams = (stream("/arm"), stream("hand"))
    shadows = shadow_streams(streams, "/policy")
    assert [each.topic for each in shadows] == ["/policy/shadow/arm", "/policy/shadow/hand"]
    for given, made in zip(streams, shadows, strict=True):
        assert made.model_copy(update={"topic": given.topic}) == given
        assert made.specs == given.specs


def test_two_topics_of_one_shadow_are_refused_by_name() -> None:
    with pytest.raises(ContractError) as refusal:
        shadow_streams((stream("other"), stream("cmd"), stream("/cmd")))
    assert str(refusal.value) == (
        "the action topics 'cmd' and '/cmd' have one shadow topic, '~/shadow/cmd': shadow mode "
        "needs names that differ by more than a leading slash"
    )
