"""Whether a policy fits its period, and what is done if not."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.runtime.policy import Choice, Committed, Decision, Policy, resolve_choice
from dql_core.spec import FieldSpec, PolicySpec
from dql_ros.contract import Contract
from dql_ros.control.loaded_policy import (
    InferenceTimes,
    LoadedPolicy,
    beyond_delay,
    fit_to_limit,
    time_inference,
)

MS = 1_000_000


class Sampler:
    """A policy that takes a millisecond of a clock of its own for each candidate."""

    spec = PolicySpec("arm", 20.0, (FieldSpec("x"),), (FieldSpec("u", "", -1.0, 1.0),))

    horizon = 1

    def __init__(self, num_candidates: int) -> None:
        self.num_candidates = num_candidates
        self.now_ns = 0
        self.calls = 0
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        assert observation.shape == (1,)
        self.calls += 1
        self.now_ns += self.num_candidates * MS
        return Decision(observation, observation, observation[None])


def loaded(num_candidates: int, *, can_reload: bool = True) -> LoadedPolicy:
    return LoadedPolicy(
        Sampler(num_candidates),
        None,
        "a test",
        num_candidates,
        reload=loaded if can_reload else None,
    )


def measure(policy: Policy) -> InferenceTimes:
    assert isinstance(policy, Sampler)
    return time_inference(policy, lambda: policy.now_ns, lambda: policy.now_ns)


def fit(policy: LoadedPolicy, limit_ms: float | None, rule: str) -> tuple[int, list[str]]:
    told: list[str] = []
    limit_ns = None if limit_ms is None else round(limit_ms * MS)
    fitted, times = fit_to_limit(policy, limit_ns, rule, told.append, measure)  # type: ignore[arg-type] # from a table
    assert times.p99_ns == fitted.num_candidates * MS
    return fitted.num_candidates, told


def test_times_are_those_of_the_calls_and_the_policy_begins_anew() -> None:
    policy = Sampler(3)
    times = measure(policy)
    assert (times.p50_ns, times.p99_ns) == (3 * MS, 3 * MS)
    assert str(times) == "p50 3.00 ms, p99 3.00 ms"
    assert policy.resets == 1


def test_a_slow_policy_is_not_timed_for_long() -> None:
    policy = Sampler(1000)
    measure(policy)
    assert policy.calls < 40


@pytest.mark.parametrize("rule", ["refuse", "fewer_candidates", "warn"])
@pytest.mark.parametrize("limit_ms", [8.0, None])
def test_a_policy_that_is_fast_enough_is_run_as_it_was_asked_for(
    rule: str, limit_ms: float | None
) -> None:
    assert fit(loaded(8), limit_ms, rule) == (8, [])


def test_a_slow_policy_is_refused_with_its_times() -> None:
    with pytest.raises(
        ConfigError,
        match=r"num_candidates 8 takes p50 8.00 ms, p99 8.00 ms; the limit is 5.00 ms: lower "
        r"num_candidates, or set when_too_slow",
    ):
        fit(loaded(8), 5.0, "refuse")


def test_a_policy_that_waits_for_other_programs_is_measured_again() -> None:
    times = iter([InferenceTimes(2.0 * MS, 9.0 * MS, 1.0 * MS), InferenceTimes(MS, 2.0 * MS, MS)])
    fitted, fair = fit_to_limit(loaded(8), 5 * MS, "refuse", print, lambda _: next(times))
    assert fitted.num_candidates == 8
    assert fair.p99_ns == 2.0 * MS


def test_a_policy_that_still_waits_is_refused_with_the_load() -> None:
    late = InferenceTimes(7.0 * MS, 9.0 * MS, 1.0 * MS)
    measured: list[Policy] = []

    def measure_late(policy: Policy) -> InferenceTimes:
        measured.append(policy)
        return late

    with pytest.raises(
        ConfigError,
        match=r"the limit is 5.00 ms \(the best of 3 measurements; it computes for 1.00 ms only, "
        r"and waits for other programs .* load average is \d.* cores.*\): lower num_candidates",
    ):
        fit_to_limit(loaded(8), 5 * MS, "refuse", print, measure_late)
    assert len(measured) == 3


def test_candidates_are_halved_until_they_fit() -> None:
    num_candidates, told = fit(loaded(50), 5.0, "fewer_candidates")
    assert num_candidates == 3
    assert told == ["num_candidates lowered from 50 to 3, since more would take too long"]


def seeking(num_candidates: int) -> LoadedPolicy:
    """Return what takes the mode of its candidates, if they can agree, as a bundle may."""
    choice = resolve_choice(Choice(50, "mode"), True, num_candidates)
    facts = {"selection": choice.selection}
    return LoadedPolicy(
        Sampler(num_candidates), None, "a test", num_candidates, facts=facts, reload=seeking
    )


def stubborn(num_candidates: int) -> LoadedPolicy:
    """Return what is to take the mode."""
    resolve_choice(Choice(50, "mode"), True, num_candidates, "mode")
    return dataclasses.replace(seeking(num_candidates), reload=stubborn)


def test_it_is_said_where_fewer_candidates_are_chosen_from_in_another_way() -> None:
    assert fit(seeking(50), 6.0, "fewer_candidates")[1] == [
        "num_candidates lowered from 50 to 6, since more would take too long"
    ]
    assert fit(seeking(50), 5.0, "fewer_candidates")[1] == [
        "num_candidates lowered from 50 to 3, since more would take too long; selection "
        "'softmax', since 'mode' needs more"
    ]
    with pytest.raises(
        ConfigError,
        match=r"num_candidates 6 takes p50 .*; the limit is 5.00 ms; with fewer "
        r"candidates num_candidates is 3, but selection 'mode'",
    ):
        fit(stubborn(50), 5.0, "fewer_candidates")


@pytest.mark.parametrize("policy", [loaded(8, can_reload=False), loaded(8)], ids=["fixed", "any"])
def test_a_policy_that_is_too_slow_with_one_candidate_is_refused(policy: LoadedPolicy) -> None:
    with pytest.raises(ConfigError, match="it is too slow even with the fewest candidates"):
        fit(policy, 0.5, "fewer_candidates")


def test_a_slow_policy_can_be_run_all_the_same() -> None:
    num_candidates, told = fit(loaded(8), 5.0, "warn")
    assert num_candidates == 8
    assert told[0].endswith("the limit is 5.00 ms: late actions will be dropped")


def test_inference_that_takes_longer_than_a_delay_is_told() -> None:
    stream = {"type": "std_msgs/msg/Float64", "fields": [{"path": "data", "low": -1, "high": 1}]}
    delays = {"at_once": 0.0, "soon": 0.005, "late": 0.05}
    action = [{"topic": topic, "delay_s": delay, **stream} for topic, delay in delays.items()]
    observation = [{"topic": "x", "type": "std_msgs/msg/Float64", "fields": [{"path": "data"}]}]
    contract = Contract.model_validate(
        {"robot": "arm", "rate_hz": 20.0, "observation": observation, "action": action}
    )
    single = loaded(8)
    (told,) = beyond_delay(contract, single, InferenceTimes(4 * MS, 9 * MS))
    assert "p99 9.00 ms, and the contract's delay_s of 'soon' is 0.005" in told
    assert not list(beyond_delay(contract, single, InferenceTimes(4 * MS, 4.9 * MS)))
    # Of a chunk each action is sent at its own tick, however long it was decided before.
    sampler = Sampler(8)
    sampler.horizon = 4
    chunks = LoadedPolicy(sampler, None, "a test")
    assert not list(beyond_delay(contract, chunks, InferenceTimes(4 * MS, 9 * MS)))
