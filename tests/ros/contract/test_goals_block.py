"""The contract's ``send_as``: what it may say, and what it leaves as it was."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from dql_core.errors import ContractError
from dql_ros.codecs.installed import action_class
from dql_ros.contract import Contract
from dql_ros.contract.shadow import shadow_streams

GRIP = "control_msgs/action/GripperCommand"
SEND_AS = {"action": "hand/gripper", "type": GRIP}
ACTION = {"type": "std_msgs/msg/Float64", "fields": [{"path": "data", "low": -1, "high": 1}]}


def contract(*sent: dict[str, Any] | None) -> Contract:
    """A contract with an action stream for each ``send_as``."""
    actions = [
        {"topic": f"cmd{index}", **ACTION, **({"send_as": each} if each else {})}
        for index, each in enumerate(sent)
    ]
    state = {"topic": "state", "type": ACTION["type"], "fields": [{"path": "data"}]}
    document = {"robot": "r", "rate_hz": 20.0, "observation": [state], "action": actions}
    return Contract.model_validate(document)


def test_data_and_policies_do_not_depend_on_it() -> None:
    plain = contract(None)
    goals = contract(SEND_AS | {"min_period_s": 2.0, "min_change": None})
    assert goals.action[0].send_as is not None
    assert plain.hash() == goals.hash()
    assert plain.policy_spec() == goals.policy_spec()


def test_a_shadow_is_never_sent_as_goals() -> None:
    (shadow,) = shadow_streams(contract(SEND_AS).action)
    assert shadow.send_as is None


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ([SEND_AS, SEND_AS], "send_as.action '/hand/gripper' appears twice"),
        ([SEND_AS, SEND_AS | {"action": "/hand/gripper"}], "'/hand/gripper' appears twice"),
        ([SEND_AS | {"action": ""}], "should have at least 1 character"),
        ([SEND_AS | {"type": "control_msgs/msg/GripperCommand"}], "like package/action/Name"),
        ([SEND_AS | {"min_period_s": -1}], "greater than or equal to 0"),
        ([SEND_AS | {"min_change": 1.5}], "less than or equal to 1"),
        ([SEND_AS | {"rate": 1.5}], "rate"),
    ],
)
def test_what_cannot_be_is_refused(sent: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        contract(*sent)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nowhere_msgs/action/Go", "action type 'nowhere_msgs/action/Go' is not installed here"),
        ("json/action/Go", "action type 'json/action/Go' is not installed here"),
        ("action_msgs/msg/GoalInfo", "'action_msgs/msg/GoalInfo' is no action type; write it as"),
    ],
)
def test_a_type_that_is_not_there_is_named(kind: str, told: str) -> None:
    with pytest.raises(ContractError, match=re.escape(told)):
        action_class(kind)
