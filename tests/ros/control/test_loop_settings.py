from typing import Any

import pytest

from dql_core.errors import ConfigError, ContractError
from dql_ros.contract import Contract
from dql_ros.control.settings import LoopSettings, triggering_streams


def contract(**stream: Any) -> Contract:
    state = {"topic": "x", "type": "std_msgs/msg/Float64", "fields": [{"path": "data"}]} | stream
    command = {
        "topic": "u",
        "type": "std_msgs/msg/Float64",
        "fields": [{"path": "data", "low": -1, "high": 1}],
    }
    return Contract.model_validate(
        {"robot": "x", "rate_hz": 50.0, "observation": [state], "action": [command]}
    )


def test_the_limit_of_inference_is_the_period_unless_it_is_given() -> None:
    assert LoopSettings(False, 0).inference_limit_ns(contract()) == 20_000_000
    given = LoopSettings(False, 0, inference_limit_s=0.005)
    assert given.inference_limit_ns(contract()) == 5_000_000


def test_a_limit_beyond_the_period_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"inference_limit_s is 0.03, longer than .* 0.02 s"):
        LoopSettings(False, 0, inference_limit_s=0.03).inference_limit_ns(contract())


def test_in_lockstep_time_waits() -> None:
    assert LoopSettings(True, 0, inference_limit_s=0.03).inference_limit_ns(contract()) is None


def test_lockstep_needs_a_stream_whose_stamps_are_the_simulators() -> None:
    assert [stream.topic for stream in triggering_streams(contract())] == ["x"]
    with pytest.raises(ContractError, match="cannot run in lockstep, since no observation"):
        triggering_streams(contract(stamp="receive"))


def test_a_person_who_is_awaited_is_part_of_each_instant_in_lockstep() -> None:
    joy = {"topic": "joy", "type": "sensor_msgs/msg/Joy", "path": "buttons.0"}
    rules = with_takeover(switch=joy)
    assert LoopSettings(True, 0).triggering_topics(rules) == {"x"}
    assert LoopSettings(True, 0, await_person=True).triggering_topics(rules) == {"x", "joy"}
    assert LoopSettings(False, 0).triggering_topics(rules) == frozenset()


@pytest.mark.parametrize(
    ("takeover", "told"),
    [
        ({}, "await_person is true, and the contract of 'x' has no takeover with a switch"),
        (
            {"switch": {"topic": "take", "type": "std_msgs/msg/Bool"}},
            "the takeover's switch is a std_msgs/msg/Bool, which has no header",
        ),
    ],
)
def test_nobody_is_awaited_who_cannot_say_when(takeover: dict[str, Any], told: str) -> None:
    with pytest.raises(ContractError, match=told):
        LoopSettings(True, 0, await_person=True).triggering_topics(with_takeover(**takeover))


def with_takeover(**takeover: Any) -> Contract:
    document = contract().model_dump() | {"takeover": {"topics": ["mine"]} | takeover}
    return Contract.model_validate(document)


def test_a_slow_simulators_times_are_longer_on_the_steady_clock() -> None:
    settings = LoopSettings(False, 0, inference_limit_s=0.03, real_time_factor=0.5)
    assert settings.period_ns(contract()) == 40_000_000
    assert settings.steady_ns(0.2) == 400_000_000
    assert settings.inference_limit_ns(contract()) == 30_000_000
    answering = LoopSettings(True, 0, real_time_factor=0.5)
    assert answering.steady_ns(0.2) == 200_000_000


def test_an_action_is_held_back_for_less_than_a_period_of_real_time() -> None:
    assert LoopSettings(False, 0).send_after_ns(contract()) == 0
    held = LoopSettings(False, 0, send_after_s=0.008, real_time_factor=0.5)
    assert held.send_after_ns(contract()) == 16_000_000
    with pytest.raises(ConfigError, match=r"no less than the control period of 0\.02 s"):
        LoopSettings(False, 0, send_after_s=0.02).send_after_ns(contract())
    with pytest.raises(ConfigError, match="in lockstep time waits for the action"):
        LoopSettings(True, 0, send_after_s=0.008).send_after_ns(contract())
