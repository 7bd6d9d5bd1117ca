"""The contract's takeover: what it may say, and what it leaves as it was."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from dql_ros.contract import Contract

BOOL = "std_msgs/msg/Bool"
ACTION = {"type": "std_msgs/msg/Float64", "fields": [{"path": "data", "low": -1, "high": 1}]}
ROBOT: dict[str, Any] = {
    "robot": "r",
    "rate_hz": 20.0,
    "observation": [{"topic": "state", "type": ACTION["type"], "fields": [{"path": "data"}]}],
    "action": [{"topic": "arm", **ACTION}, {"topic": "/gripper", "max_age_s": 9.0, **ACTION}],
}
TOPICS = ["teleop/arm", "teleop/gripper"]


def contract(**takeover: Any) -> Contract:
    return Contract.model_validate(ROBOT | {"takeover": {"topics": TOPICS} | takeover})


def test_a_persons_streams_are_the_actions_but_for_topics_and_ages() -> None:
    rules = contract(max_age_s=0.25)
    assert rules.takeover is not None
    streams = rules.takeover.streams(rules.action)
    assert [(stream.topic, stream.max_age_s) for stream in streams] == [
        ("teleop/arm", 0.25),
        ("teleop/gripper", 0.25),
    ]
    assert [stream.fields for stream in streams] == [stream.fields for stream in rules.action]


def test_data_and_policies_do_not_depend_on_it() -> None:
    plain, able = Contract.model_validate(ROBOT), contract()
    assert plain.takeover is None
    assert plain.hash() == able.hash()
    assert plain.policy_spec() == able.policy_spec()


@pytest.mark.parametrize(
    ("takeover", "hands_back"),
    [
        ({}, True),
        ({"when_silent": "policy"}, True),
        ({"switch": {"topic": "take", "type": BOOL}}, False),
        ({"switch": {"topic": "take", "type": BOOL}, "when_silent": "safe"}, False),
        ({"switch": {"topic": "take", "type": BOOL}, "when_silent": "policy"}, True),
    ],
)
def test_silence_hands_back_without_a_switch_or_if_it_is_asked_for(
    takeover: dict[str, Any], hands_back: bool
) -> None:
    rules = contract(**takeover).takeover
    assert rules is not None
    assert rules.silence_hands_back is hands_back


@pytest.mark.parametrize(
    ("takeover", "told"),
    [
        ({"topics": ["teleop"]}, "takeover.topics has 1 for 2 action topics: give one for each"),
        ({"topics": []}, "at least 1 item"),
        ({"topics": ["a", ""]}, "at least 1 character"),
        ({"topics": ["a", "a"]}, "'a' is an action topic too, or is named twice"),
        ({"topics": ["a", "gripper"]}, "'gripper' is an action topic too"),
        ({"intervention": "/arm"}, "'/arm' is an action topic too"),
        ({"switch": {"topic": "arm", "type": BOOL}}, "'arm' is an action topic too"),
        ({"switch": {"topic": "teleop/arm", "type": BOOL}}, "'teleop/arm' is an action topic too"),
        ({"when_silent": "safe"}, "'safe' without a 'switch', so that nobody could hand back"),
        ({"when_silent": "hold"}, "'safe' or 'policy'"),
        ({"max_age_s": 0}, "greater than 0"),
        ({"ramp_s": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_is_refused(takeover: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        contract(**takeover)
