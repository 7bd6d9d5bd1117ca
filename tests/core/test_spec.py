import json
from dataclasses import replace

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
    SPEC.require_equal(replace(SPEC), "contract", "bundle")


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
        (replace(SPEC, contract_hash="def"), "contract_hash is 'abc' .* 'def'"),
    ],
)
def test_first_difference_is_named_with_both_values(other: PolicySpec, words: str) -> None:
    with pytest.raises(SpecMismatchError, match=f"contract and bundle .*{words}"):
        SPEC.require_equal(other, "contract", "bundle")
