"""What a contract says of the past: older values of a stream, and previous actions."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from dql_ros.contract import Contract

JOINTS = {
    "topic": "joint_states",
    "type": "sensor_msgs/msg/JointState",
    "fields": [{"path": "position", "joints": ["elbow", "wrist"], "unit": "rad", "high": 3.0}],
}
GOAL = {
    "topic": "goal",
    "type": "geometry_msgs/msg/Point",
    "stamp": "receive",
    "fields": [{"path": "x"}],
}
SPEED = {
    "topic": "speed",
    "type": "std_msgs/msg/Float64",
    "fields": [{"path": "data", "low": -1.0, "high": 2.0, "names": ["speed"], "unit": "rad/s"}],
}
FRAMES = {"tf": {"parent": "a", "child": "b"}, "fields": [{"path": "translation.x"}]}


def contract(*observation: dict[str, Any], **more: Any) -> Contract:
    rules = {"robot": "arm", "rate_hz": 20.0, "observation": observation, "action": [SPEED]}
    return Contract.model_validate(rules | more)


def test_older_values_and_previous_actions_are_fields_of_their_own() -> None:
    rules = contract({**JOINTS, "history": 3}, GOAL, previous_action=2)
    spec = rules.policy_spec()
    assert [field.name for field in spec.observation] == [
        "joint_states.position.elbow",
        "joint_states.position.wrist",
        "joint_states.position.elbow@-0.05s",
        "joint_states.position.wrist@-0.05s",
        "joint_states.position.elbow@-0.1s",
        "joint_states.position.wrist@-0.1s",
        "goal.x",
        "previous_action.1.speed",
        "previous_action.2.speed",
    ]
    older, before = spec.observation[2], spec.observation[-1]
    assert (older.unit, older.low, older.high) == ("rad", -np.inf, 3.0)
    assert (before.unit, before.low, before.high) == ("rad/s", -np.inf, np.inf)
    assert spec.action == contract(JOINTS).policy_spec().action


def test_a_policy_of_another_past_means_another_thing() -> None:
    now, before = contract(JOINTS), contract({**JOINTS, "history": 2})
    slower = contract({**JOINTS, "history": 2, "every_s": 0.2})
    told = contract(JOINTS, previous_action=1)
    assert len({each.hash() for each in (now, before, slower, told)}) == 4
    assert contract({**JOINTS, "history": 1}, previous_action=0).hash() == now.hash()
    sources = [each.policy_spec().observation[2].source for each in (before, slower, told)]
    assert all(source not in sources[:index] for index, source in enumerate(sources))


def test_every_s_is_the_control_period_unless_it_is_given() -> None:
    (joints,) = contract({**JOINTS, "history": 3}).observation
    assert joints.ago_ns(50_000_000) == (50_000_000, 100_000_000)
    (joints,) = contract({**JOINTS, "history": 3, "every_s": 0.02}).observation
    assert joints.ago_ns(50_000_000) == (20_000_000, 40_000_000)
    (joints,) = contract(JOINTS).observation
    assert joints.ago_ns(50_000_000) == ()


def test_previous_actions_are_bounded_as_actions_are() -> None:
    low, high = contract(JOINTS, previous_action=2).previous_bounds
    assert (low.tolist(), high.tolist()) == ([-1.0, -1.0], [2.0, 2.0])
    low, high = contract(JOINTS, previous_action=1, beyond_bounds="widen").previous_bounds
    assert (low.tolist(), high.tolist()) == ([-np.inf], [np.inf])


def test_of_one_instant_there_is_no_past() -> None:
    rules = contract({**JOINTS, "history": 3, "every_s": 0.1}, GOAL, previous_action=2)
    assert rules.of_one_instant() == contract(JOINTS, GOAL)


@pytest.mark.parametrize(
    ("observation", "more", "words"),
    [
        ({**JOINTS, "every_s": 0.1}, {}, "'every_s' is 0.1 and says how far apart the values"),
        ({**JOINTS, "history": 101}, {}, "history"),
        ({**JOINTS, "history": 3, "every_s": 6.0}, {}, "joint_states is observed 12 s back: 10 s"),
        (JOINTS, {"previous_action": 2, "rate_hz": 0.1}, "previous_action is observed 20 s back"),
        ({**GOAL, "latched": True, "history": 2}, {}, "what is latched is sent once an episode"),
        (
            {**GOAL, "history": 2, "fields": [{"path": "x", "offset": "first"}]},
            {},
            "a field has 'offset: first'",
        ),
        ({**FRAMES, "history": 2}, {}, "a pose is known as it is, not as it was; take it out"),
        ({**FRAMES, "every_s": 0.1}, {}, "a pose is known as it is, not as it was; take it out"),
        (
            {**JOINTS, "fields": [{"path": "data", "names": ["previous_action.1.speed"]}]},
            {"previous_action": 1},
            "observation field 'previous_action.1.speed' appears twice",
        ),
    ],
)
def test_a_past_that_cannot_be_is_refused(
    observation: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    other = {**GOAL, "topic": "other"}
    with pytest.raises(ValidationError, match=words):
        contract(observation, other, **more)
