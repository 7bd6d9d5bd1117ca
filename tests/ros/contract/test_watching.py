"""The contract of who stands in for the person: the person's topics, then the switch."""

from typing import Any

import numpy as np
import pytest

from dql_core.errors import ContractError
from dql_ros.codecs import StreamDecoder, StreamEncoder, stamp_ns
from dql_ros.codecs.installed import message_class
from dql_ros.contract import Contract, Goals, matches
from dql_ros.contract.watching import watching
from dql_ros.control.person import PersonHeard

STATE = {"topic": "x", "type": "std_msgs/msg/Float64", "fields": [{"path": "data"}]}
COMMAND = {
    "topic": "u",
    "type": "std_msgs/msg/Float64",
    "fields": [{"path": "data", "low": -1, "high": 1}],
}
JOY = {"topic": "joy", "type": "sensor_msgs/msg/Joy", "path": "buttons.2"}
FLAG = {"topic": "take", "type": "std_msgs/msg/Bool"}


def contract(takeover: dict[str, Any] | None) -> Contract:
    return Contract.model_validate(
        {
            "robot": "x",
            "rate_hz": 50.0,
            "observation": [STATE],
            "action": [COMMAND],
            "on_fault": {"command": [0.5], "hold_s": 1.0},
            "takeover": takeover,
        }
    )


@pytest.mark.parametrize("switch", [JOY, FLAG], ids=["button", "flag"])
def test_what_it_sends_is_heard_as_the_persons(switch: dict[str, Any]) -> None:
    robots = contract({"topics": ["mine"], "switch": switch})
    rules = watching(robots)
    assert [stream.topic for stream in rules.action] == ["mine", switch["topic"]]
    assert rules.observation == robots.observation
    assert rules.takeover is None
    assert rules.safe_command == (0.5, 0.0)
    assert robots.takeover is not None
    person = PersonHeard(robots, robots.takeover)
    command, turned = (StreamEncoder(stream) for stream in rules.action)
    for raised in (1.0, 0.0):
        sent = [message_class(stream.type)() for stream in rules.action]
        command.encode([0.25], sent[0], 7)
        turned.encode([raised], sent[1], 7)
        person.receive("mine", sent[0], 1)
        person.receive_switch(sent[1])
        heard = person.at(1)
        assert (heard.command is not None) == bool(raised)
        if heard.command is not None:
            np.testing.assert_array_equal(heard.command, [0.25])
    if switch is JOY:
        assert stamp_ns(sent[1]) == 7
        assert list(sent[1].buttons) == [0, 0, 0]
    assert not matches(StreamDecoder(rules.action[1])(sent[1])[0], None)


def test_what_the_person_says_is_never_sent_as_goals() -> None:
    """The robot takes goals of the policy node alone."""
    robots = contract({"topics": ["mine"], "switch": FLAG})
    goals = Goals(action="grip", type="control_msgs/action/GripperCommand")
    action = (robots.action[0].model_copy(update={"send_as": goals}),)
    rules = watching(robots.model_copy(update={"action": action}))
    assert [stream.send_as for stream in rules.action] == [None, None]


@pytest.mark.parametrize(
    ("takeover", "told"),
    [
        (None, "the contract of 'x' has no 'takeover', by which an operator who watches takes"),
        ({"topics": ["mine"]}, "the contract of 'x' has a 'takeover' without a 'switch', by"),
        (
            {"topics": ["mine"], "switch": {**FLAG, "equals": "teach"}},
            "takeover.switch has 'equals': an operator who watches turns a flag or a button, 1 or",
        ),
    ],
)
def test_without_a_switch_to_turn_nobody_watches(
    takeover: dict[str, Any] | None, told: str
) -> None:
    with pytest.raises(ContractError, match=told):
        watching(contract(takeover))
