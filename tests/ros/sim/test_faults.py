import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dql_core.errors import ConfigError
from dql_ros.sim.faults import FAULTS, FAULTS_HELP, parse_faults


def test_no_faults_are_no_parameters() -> None:
    assert parse_faults("") == {}
    assert parse_faults(" , ") == {}


def test_a_fault_is_of_both_links_unless_it_names_one() -> None:
    assert parse_faults("latency_ms=20, command_drop=0.25,fault_seed=3") == {
        "state_latency_ms": 20.0,
        "command_latency_ms": 20.0,
        "command_drop": 0.25,
        "fault_seed": 3,
    }


def test_the_last_of_two_holds() -> None:
    assert parse_faults("drop=0.1,state_drop=0.5") == {"state_drop": 0.5, "command_drop": 0.1}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("latncy_ms=3", r"--faults: no fault 'latncy_ms' \(did you mean 'latency_ms'\?\)"),
        ("drop", r"--faults: 'drop' has no amount: give 'drop=…'"),
        ("drop=much", r"--faults: drop is 'much', which is not a number"),
        ("fault_seed=0.5", r"--faults: fault_seed is '0.5', which is not a whole number"),
        (
            "drop=1",
            r"--faults: drop is 1 \(share of the messages that are lost\): give 0 to 0.95",
        ),
        ("noise=nan", r"--faults: noise is nan"),
        ("latency_ms=-1", r"--faults: latency_ms is -1"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(spec: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_faults(spec)


@given(st.text(max_size=30))
def test_any_text_is_understood_or_refused(spec: str) -> None:
    try:
        parameters = parse_faults(spec)
    except ConfigError:
        return
    assert all(math.isfinite(amount) for amount in parameters.values())


def test_the_help_names_every_kind() -> None:
    assert all(name in FAULTS_HELP for name in FAULTS if not name.startswith(("state", "command")))
