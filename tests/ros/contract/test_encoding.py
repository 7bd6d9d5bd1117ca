"""Which keys of a contract a policy depends on, and which may be others on the robot."""

from copy import deepcopy
from typing import Any

import pytest
import yaml

from dql_core.errors import SpecMismatchError
from dql_ros.contract import Contract

CONTRACT = """
robot: arm
rate_hz: 20.0
observation:
  - topic: joint_states
    type: sensor_msgs/msg/JointState
    max_age_s: 0.2
    fields:
      - {path: position, joints: [shoulder, elbow], unit: rad}
      - {path: velocity, joints: [shoulder], unit: rad/s, message_unit: deg/s}
  - topic: /pose
    type: geometry_msgs/msg/PoseStamped
    fields:
      - {path: pose.position.x, names: [x], unit: m, low: -2.0, high: 2.0}
      - {path: pose.orientation, rotation: yaw, names: [heading]}
      - {constant: 1.5, names: [payload], unit: kg}
action:
  - topic: cmd
    type: geometry_msgs/msg/TwistStamped
    fields:
      - {path: twist.linear.x, names: [speed], unit: m/s, low: -1.0, high: 1.0, max_rate: 2.0}
      - {path: twist.angular.z, constant: 0.0}
reward: {function: "dql_core.rewards:action_cost"}
"""


def contract(**changes: Any) -> Contract:
    """Return the contract with changes, by the path of their keys: ``action_0_topic``."""
    document = deepcopy(yaml.safe_load(CONTRACT))
    for path, value in changes.items():
        *way, key = path.split("__")
        section = document
        for step in way:
            section = section[int(step)] if step.isdecimal() else section[step]
        section[key] = value
    return Contract.model_validate(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"observation__0__max_age_s": 0.05},
        {"observation__0__stamp": "receive"},
        {"observation__0__max_skew_s": None},
        {"observation__0__max_ahead_s": 1.0},
        {"observation__0__unnamed": "by_index"},
        {"observation__0__qos": {"reliability": "reliable", "depth": 5}},
        {"observation__0__topic": "/joint_states"},
        {"observation__0__fields__0__message_unit": "rad"},
        {"observation__0__fields__0__offset": [0.0, 0.0]},
        {"observation__0__when_absent": "refuse"},
        {"observation__1__fields__0__high": 1.0},
        {"action__0__frame_id": "tool"},
        {"action__0__qos": {"reliability": "best_effort"}},
        {"action__0__command": "held"},
        {"action__0__fields__0__low": 0.0},
        {"action__0__fields__0__high": 0.25},
        {"action__0__fields__0__max_rate": 0.1},
        {"on_fault": {"hold_s": 0.5, "command": [0.1]}},
        {"reward": None},
        {"episode": {"min_length": 5, "truncated": {"topic": "t", "type": "std_msgs/msg/Bool"}}},
        {"nonfinite": "drop"},
        {"beyond_bounds": "refuse"},
        {"tick": "action"},
    ],
)
def test_these_keys_may_be_others_than_in_training(changes: dict[str, Any]) -> None:
    contract(**changes).policy_spec().require_fits(contract().policy_spec(), "one", "other")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": 10.0}, "rate_hz is 10.0 in the former and 20.0 in the latter"),
        (
            {"observation__0__fields__0__joints": ["elbow", "shoulder"]},
            r"observation field 0 \('joint_states.position.elbow'\) name",
        ),
        (
            {
                "observation__0__fields__0__joints": ["elbow", "shoulder"],
                "observation__0__fields__0__names": ["a", "b"],
            },
            "name is 'a' in the former",
        ),
        ({"observation__0__fields__0__unit": "deg"}, "unit is 'deg' in the former and 'rad'"),
        (
            {"observation__0__fields__1__message_unit": "rad/s"},
            "message_unit is not given in the former and 'deg/s' in the latter",
        ),
        (
            {"observation__0__fields__0__offset": [0.0, 0.5]},
            r"\('joint_states.position.elbow'\) offset is 0.5 in the former and not given",
        ),
        ({"observation__1__fields__0__offset": "first"}, "offset is 'first' in the former"),
        ({"observation__1__fields__0__scale": 10.0}, "scale is 10.0 in the former and not given"),
        ({"observation__1__fields__2__constant": 2.0}, "constant is 2.0 in the former and 1.5"),
        ({"observation__1__topic": "/pose_filtered"}, "topic is '/pose_filtered' .* '/pose'"),
        (
            {"action__0__fields__0__path": "twist.linear.y"},
            "path is 'twist.linear.y' .* 'twist.linear.x'",
        ),
        ({"action__0__type": "geometry_msgs/msg/AccelStamped"}, "type is '.*Accel.*Twist"),
        (
            {"action__0__fields__1__constant": 0.5},
            r"constants is {'twist.angular.z': 0.5} .* {'twist.angular.z': 0.0}",
        ),
    ],
)
def test_these_keys_must_be_those_of_the_training(changes: dict[str, Any], words: str) -> None:
    changed, trained = contract(**changes).policy_spec(), contract().policy_spec()
    with pytest.raises(SpecMismatchError, match=words):
        changed.require_fits(trained, "the contract", "the policy")
    with pytest.raises(SpecMismatchError, match=words):
        changed.require_same_meaning(trained, "dataset a", "dataset b")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("low", -1.5, "low is -1.5 in the former and -1.0 in the latter"),
        ("high", 1.5, "high is 1.5 in the former and 1.0 in the latter"),
        ("max_rate", 2.5, "max_rate is 2.5 in the former and 2.0 in the latter"),
    ],
)
def test_looser_limits_than_in_training_are_refused(key: str, value: float, words: str) -> None:
    looser = contract(**{f"action__0__fields__0__{key}": value}).policy_spec()
    with pytest.raises(SpecMismatchError, match=rf"action field 0 \('speed'\) {words}"):
        looser.require_fits(contract().policy_spec(), "the contract", "the policy")
    looser.require_same_meaning(contract().policy_spec(), "dataset a", "dataset b")


def test_names_do_not_hide_that_elements_were_exchanged() -> None:
    names = ["a", "b"]
    one = contract(observation__0__fields__0__names=names)
    other = contract(
        observation__0__fields__0__names=names,
        observation__0__fields__0__joints=["elbow", "shoulder"],
    )
    with pytest.raises(SpecMismatchError, match=r"joint is 'shoulder' .* 'elbow' in the latter"):
        one.policy_spec().require_fits(other.policy_spec(), "the contract", "the policy")


def test_another_unit_of_an_angle_is_named_though_its_cosine_has_none() -> None:
    angles = {"path": "position", "joints": ["shoulder", "elbow"], "rotation": "cos_sin"}
    one = contract(observation__0__fields=[{**angles, "message_unit": "deg"}]).policy_spec()
    other = contract(observation__0__fields=[angles]).policy_spec()
    with pytest.raises(SpecMismatchError, match="message_unit is 'deg' in the former and not"):
        one.require_fits(other, "the contract", "the policy")


def test_a_slice_means_its_indices() -> None:
    array = {"topic": "a", "type": "std_msgs/msg/Float64MultiArray"}
    by_slice = contract(observation=[array | {"fields": [{"path": "data", "slice": "1:3"}]}])
    indices = contract(observation=[array | {"fields": [{"path": "data", "indices": [1, 2]}]}])
    assert by_slice.policy_spec() == indices.policy_spec()
    source = by_slice.policy_spec().observation[1].source
    assert source is not None
    assert source["index"] == 2
