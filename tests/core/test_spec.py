import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dql_core.errors import SpecMismatchError
from dql_core.spec import FieldSpec, PolicySpec

SPEC = PolicySpec(
    robot="arm",
    rate_hz=20.0,
    observation=(FieldSpec("position.elbow", "rad"), FieldSpec("goal", "m", -1.0, 1.0)),
    action=(FieldSpec("velocity", "rad/s", -2.0, 2.0),),
    contract_hash="abc",
)


def test_json_round_trip_keeps_every_value() -> None:
    document = json.loads(json.dumps(SPEC.to_json(), allow_nan=False))
    assert PolicySpec.from_json(document) == SPEC


def test_equal_specs_pass() -> None:
    SPEC.require_same_meaning(replace(SPEC), "contract", "bundle")
    SPEC.require_fits(replace(SPEC), "contract", "bundle")


def test_action_bounds_are_vectors_in_field_order() -> None:
    np.testing.assert_array_equal(SPEC.action_low, np.array([-2.0], dtype=np.float32))
    np.testing.assert_array_equal(SPEC.action_high, np.array([2.0], dtype=np.float32))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            replace(SPEC, observation=SPEC.observation[::-1]),
            r"observation field 0 \('position.elbow'\) name is 'position.elbow'.*'goal'",
        ),
        (
            replace(SPEC, action=(FieldSpec("velocity", "deg/s", -2.0, 2.0),)),
            r"action field 0 \('velocity'\) unit is 'rad/s' .* 'deg/s'",
        ),
        (
            replace(SPEC, observation=SPEC.observation[:1]),
            "number of observation fields is 2 .* 1",
        ),
        (replace(SPEC, rate_hz=10.0), "rate_hz is 20.0 in the former and 10.0 in the latter"),
        (replace(SPEC, robot="leg"), "robot is 'arm' in the former and 'leg' in the latter"),
        (
            replace(SPEC, action=(replace(SPEC.action[0], low=-1.0),)),
            r"\('velocity'\) low is -2.0 in the former and -1.0",
        ),
        (replace(SPEC, contract_hash=""), "bundle has no contract"),
        (
            replace(SPEC, contract_hash="def"),
            "bundle is of an older version, which kept of its contract only a hash",
        ),
        (
            replace(SPEC, rate_hz=10.0, robot="leg"),
            "rate_hz is 20.0 .* 10.0 in the latter; robot is 'arm'",
        ),
    ],
)
def test_differences_are_named_with_both_values(other: PolicySpec, words: str) -> None:
    with pytest.raises(SpecMismatchError, match=f"contract and bundle .*{words}") as caught:
        SPEC.require_same_meaning(other, "contract", "bundle")
    assert "abc" not in str(caught.value)
    with pytest.raises(SpecMismatchError):
        SPEC.require_fits(other, "contract", "bundle")


def with_sources(spec: PolicySpec, **changes: Any) -> PolicySpec:
    """Return ``spec`` as a contract gives it; ``changes`` are of the action's source."""
    source = {"topic": "/cmd", "type": "std_msgs/msg/Float64", "path": "data"}
    return replace(
        spec,
        observation=tuple(
            replace(field, source=source | {"index": index})
            for index, field in enumerate(spec.observation)
        ),
        action=tuple(replace(field, source=source | changes) for field in spec.action),
    )


KNOWN = with_sources(SPEC)


def limited(**limits: Any) -> PolicySpec:
    return replace(KNOWN, action=(replace(KNOWN.action[0], **limits),), contract_hash="def")


def test_sources_survive_json_and_older_specs_have_none() -> None:
    document = json.loads(json.dumps(limited(max_rate=0.5).to_json(), allow_nan=False))
    assert PolicySpec.from_json(document) == limited(max_rate=0.5)
    assert document["action"][0]["source"]["path"] == "data"
    assert set(SPEC.to_json()["action"][0]) == {"name", "unit", "low", "high"}


def test_keys_that_are_only_in_the_hash_do_not_matter() -> None:
    other = replace(KNOWN, contract_hash="def")
    other.require_same_meaning(KNOWN, "contract", "bundle")
    other.require_fits(KNOWN, "contract", "bundle")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "effort"}, "path is 'effort' in the former and 'data' in the latter"),
        ({"rotation": "yaw"}, "rotation is 'yaw' in the former and not given in the latter"),
    ],
)
def test_what_a_field_is_made_of_must_be_equal(changes: dict[str, Any], words: str) -> None:
    other = with_sources(replace(SPEC, contract_hash="def"), **changes)
    with pytest.raises(SpecMismatchError, match=rf"action field 0 \('velocity'\) {words}"):
        other.require_same_meaning(KNOWN, "dataset a", "dataset b")


@pytest.mark.parametrize("limits", [{"low": -1.0}, {"high": 0.5, "max_rate": 0.1}])
def test_limits_may_be_tighter_than_the_policys(limits: dict[str, float]) -> None:
    limited(**limits).require_fits(KNOWN, "the contract", "bundle b")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"low": -2.5}, "low is -2.5 in the former and -2.0 in the latter"),
        ({"high": 3.0}, "high is 3.0 in the former and 2.0 in the latter"),
        ({"max_rate": 1.0}, "max_rate is 1.0 in the former and 0.5 in the latter"),
    ],
)
def test_limits_must_not_be_looser_than_the_policys(limits: dict[str, float], words: str) -> None:
    policy = replace(KNOWN, action=(replace(KNOWN.action[0], max_rate=0.5),))
    looser = limited(**{"max_rate": 0.5, **limits})
    with pytest.raises(
        SpecMismatchError,
        match=rf"the contract allows more than bundle b .*action field 0 \('velocity'\) {words}",
    ):
        looser.require_fits(policy, "the contract", "bundle b")
    # Data are not run.
    looser.require_same_meaning(policy, "dataset a", "dataset b")


def test_an_observation_must_not_be_less_bounded_than_in_training() -> None:
    elbow, goal = KNOWN.observation
    tighter = replace(KNOWN, observation=(elbow, replace(goal, high=0.5)))
    tighter.require_fits(KNOWN, "the contract", "bundle b")
    with pytest.raises(SpecMismatchError, match=r"\('goal'\) high is 1.0 .* 0.5 in the latter"):
        KNOWN.require_fits(tighter, "the contract", "bundle b")


def test_the_tighter_limits_of_two_specs_hold() -> None:
    (field,) = limited(low=-1.0, max_rate=3.0).within(limited(high=1.5, max_rate=0.5)).action
    assert (field.low, field.high, field.max_rate) == (-1.0, 1.5, 0.5)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"max_rate": "fast"}, "a spec's 'max_rate' is 'fast'"),
        ({"source": 5}, "a spec's 'source' is 5"),
    ],
)
def test_a_field_that_is_none_is_refused(entry: dict[str, object], words: str) -> None:
    document = SPEC.to_json()
    document["action"][0] |= entry
    with pytest.raises(ValueError, match=words):
        PolicySpec.from_json(document)


def test_a_rate_that_no_robot_has_is_refused() -> None:
    with pytest.raises(ValueError, match="'velocity' has a max_rate of -1"):
        limited(max_rate=-1.0).require_sound()


def test_previous_actions_are_found_by_their_names() -> None:
    names = ["elbow", "previous_action.1.elbow", "previous_action.data", "previous_action.12.x.y"]
    fields = tuple(FieldSpec(name) for name in names)
    assert PolicySpec("arm", 10.0, fields, fields).previous_actions == (1, 3)
