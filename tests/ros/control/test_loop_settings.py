from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import ConfigError, ContractError
from dql_core.runtime.policy import Committed, Decision
from dql_core.spec import PolicySpec
from dql_ros.contract import Contract
from dql_ros.control.loaded_policy import InferenceTimes, LoadedPolicy
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


class Still:
    """Decides H actions at once, all of them 0."""

    def __init__(self, horizon: int) -> None:
        self.spec: PolicySpec = contract().policy_spec()
        self.horizon = horizon

    def reset(self) -> None:
        """Nothing to forget."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        chunk = np.zeros((self.horizon, 1), np.float32)
        return Decision.of_chunk(chunk, np.zeros(1, np.float32), chunk[None])


def loaded(horizon: int, execute: int | None = None) -> LoadedPolicy:
    return LoadedPolicy(Still(horizon), None, "a policy that stands still", execute=execute)


@pytest.mark.parametrize(
    ("horizon", "own", "wanted", "executed"),
    [(1, None, 0, 1), (8, None, 0, 2), (9, None, 0, 3), (8, 2, 0, 2), (8, 2, 5, 5), (8, 4, 8, 8)],
)
def test_a_quarter_of_a_chunk_is_executed_unless_another_number_is_said(
    horizon: int, own: int | None, wanted: int, executed: int
) -> None:
    assert LoopSettings(True, 0, execute=wanted).executed(loaded(horizon, own)) == executed


@pytest.mark.parametrize(
    ("horizon", "told"), [(8, "decides 8 actions at once"), (1, "decides 1 action at once")]
)
def test_more_than_a_chunk_cannot_be_executed(horizon: int, told: str) -> None:
    with pytest.raises(ConfigError, match=f"execute is 9, but this policy {told}"):
        LoopSettings(True, 0, execute=9).executed(loaded(horizon))


@pytest.mark.parametrize(
    ("max_age_s", "horizon", "execute", "ticks"),
    [
        (1.0, 8, 4, 4),
        (1.0, 8, 6, 2),  # of the rest of a chunk
        (1.0, 8, 1, 4),  # decisions that follow each other at once take half a chunk each
        (0.08, 8, 4, 2),  # fresh at four ticks, which two decisions must share
        (0.07, 8, 4, 2),
        (0.04, 8, 4, 1),
        (1.0, 2, 1, 1),
    ],
)
def test_a_decision_may_take_what_its_chunks_leave(
    max_age_s: float, horizon: int, execute: int, ticks: int
) -> None:
    settings, rules = LoopSettings(False, 0, execute=execute), contract(max_age_s=max_age_s)
    assert settings.inference_limit_ns(rules, loaded(horizon)) == ticks * 20_000_000
    assert LoopSettings(True, 0).inference_limit_ns(rules, loaded(horizon)) is None


def test_on_a_slow_simulators_clock_chunks_take_longer() -> None:
    settings = LoopSettings(False, 0, real_time_factor=0.5)
    assert settings.inference_limit_ns(contract(max_age_s=1.0), loaded(8)) == 4 * 40_000_000


@pytest.mark.parametrize(("max_age_s", "execute"), [(1.0, 8), (0.01, 4), (0.02, 4)])
def test_chunks_that_leave_no_time_are_refused(max_age_s: float, execute: int) -> None:
    settings = LoopSettings(False, 0, execute=execute)
    with pytest.raises(ConfigError, match="no time is left to decide the next chunk"):
        settings.inference_limit_ns(contract(max_age_s=max_age_s), loaded(8))


def test_what_chunks_cannot_do_as_asked_is_told() -> None:
    def remarks(ticks: float, **others: Any) -> list[str]:
        rules = contract(max_age_s=0.14).model_copy(update=others)
        times = InferenceTimes(0.0, ticks * 20_000_000)
        return list(LoopSettings(False, 0, execute=4).chunk_remarks(rules, loaded(8), times))

    (aged, held) = remarks(3.5)
    assert aged == (
        "execute is 4, and a decision takes 4 ticks, but by max_age_s an observation is fresh for "
        "7 ticks: chunks are asked for earlier; raise the shortest max_age_s, or lower execute"
    )
    assert held == (
        "on_fault.hold_s is 0, and a decision takes 0.070 s: after a takeover, a fault and the "
        "begin of an episode the robot goes towards the safe command until the first chunk is "
        "there; raise hold_s to at least 0.08"
    )
    assert remarks(0.4) == []
    assert remarks(2.5, on_fault=contract().on_fault.model_copy(update={"hold_s": 0.06})) == []
    times = InferenceTimes(0.0, 1e9)
    assert not list(LoopSettings(True, 0).chunk_remarks(contract(), loaded(8), times))
    assert not list(LoopSettings(False, 0).chunk_remarks(contract(), loaded(1), times))


def test_an_action_is_held_back_for_less_than_a_period_of_real_time() -> None:
    assert LoopSettings(False, 0).send_after_ns(contract()) == 0
    held = LoopSettings(False, 0, send_after_s=0.008, real_time_factor=0.5)
    assert held.send_after_ns(contract()) == 16_000_000
    with pytest.raises(ConfigError, match=r"no less than the control period of 0\.02 s"):
        LoopSettings(False, 0, send_after_s=0.02).send_after_ns(contract())
    with pytest.raises(ConfigError, match=r"too old for an action after 0\.008 s"):
        LoopSettings(False, 0, send_after_s=0.008).send_after_ns(contract(max_age_s=0.008))
    assert LoopSettings(False, 0).fresh_ticks(contract(max_age_s=0.1)) == 5
    assert LoopSettings(False, 0, send_after_s=0.01).fresh_ticks(contract(max_age_s=0.1)) == 5
    assert LoopSettings(False, 0, send_after_s=0.01).fresh_ticks(contract(max_age_s=0.11)) == 5
    with pytest.raises(ConfigError, match="in lockstep time waits for the action"):
        LoopSettings(True, 0, send_after_s=0.008).send_after_ns(contract())
