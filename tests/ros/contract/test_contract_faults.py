"""The contract's rules for what a robot is sent when something is wrong, and for how fast."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dql_ros.contract import Contract


def contract(field: dict[str, Any] | None = None, **on_fault: Any) -> Contract:
    return Contract.model_validate(
        {
            "robot": "rover",
            "rate_hz": 20.0,
            "observation": [
                {"topic": "x", "type": "std_msgs/msg/Float64", "fields": [{"path": "data"}]}
            ],
            "action": [
                {
                    "topic": "cmd_vel",
                    "type": "geometry_msgs/msg/Twist",
                    "fields": [
                        {"path": "linear.x", "low": -1, "high": 1} | (field or {}),
                        {"path": "linear.y", "constant": 0.0},
                        {"path": "angular.z", "low": -1, "high": 1},
                    ],
                }
            ],
            "on_fault": on_fault,
        }
    )


def test_max_rates_are_one_for_each_action_field_and_without_limit_by_default() -> None:
    assert contract({"max_rate": 0.5}).max_rates == (0.5, np.inf)


def test_new_keys_do_not_change_the_hash_of_a_contract_that_lacks_them() -> None:
    spelled = contract({"max_rate": np.inf}, ramp_s=0.0, deactivate_after_s=None)
    assert spelled.hash() == contract().hash()


def test_what_only_the_running_node_obeys_may_change_after_training() -> None:
    assert contract(ramp_s=0.5, command=[0.1, 0.0]).hash() == contract().hash()
    assert contract({"max_rate": 2.0}).hash() == contract().hash()
    patient = contract().model_dump()
    patient["observation"][0]["max_ahead_s"] = 0.5
    assert Contract.model_validate(patient).hash() == contract().hash()
    assert contract({"low": -0.5}).hash() != contract().hash()


@pytest.mark.parametrize(
    ("field", "on_fault", "words"),
    [
        ({"max_rate": 0.0}, {}, "'max_rate' must be positive, not 0.0"),
        ({"max_rate": float("nan")}, {}, "'max_rate' must be positive, not nan"),
        ({"max_rate": [1.0, 2.0]}, {}, "'max_rate' has 2 entries for 1 fields"),
        ({}, {"command": [0.0, float("nan")]}, "entry nan: a robot can only be sent numbers"),
        ({}, {"command": [float("inf"), 0.0]}, "entry inf: a robot can only be sent numbers"),
        (
            {},
            {"command": [1e9, 0.0]},
            r"on_fault.command is 1e\+09 for 'cmd_vel.linear.x', outside of its bounds -1 to 1: "
            "give on_fault.command within them",
        ),
        ({}, {"command": [0.0, -1.01]}, "is -1.01 for 'cmd_vel.angular.z', outside"),
        ({"low": 0.5}, {}, r"is 0, the default, for 'cmd_vel.linear.x', .* bounds 0.5 to 1"),
        ({}, {"ramp_s": -1.0}, "greater than or equal to 0"),
        ({}, {"hold_s": float("inf")}, "less than or equal to 3600"),
        ({}, {"deactivate_after_s": 0.0}, "greater than 0"),
        (
            {},
            {"hold_s": 1.0, "ramp_s": 0.5, "deactivate_after_s": 1.2},
            "deactivate_after_s is 1.2, before hold and ramp are over: give at least 1.5",
        ),
    ],
)
def test_impossible_rules_are_refused(
    field: dict[str, Any], on_fault: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        contract(field, **on_fault)


def test_an_observation_has_no_largest_rate() -> None:
    document = contract().model_dump(exclude_defaults=True)
    document["observation"][0]["fields"][0]["max_rate"] = 1.0
    with pytest.raises(ValidationError, match="'max_rate' is for actions"):
        Contract.model_validate(document)
