from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.runtime.guard import Guard, GuardLimits, Guards, Trip
from dql_core.runtime.inference import InferenceResult
from dql_core.runtime.policy import Decision
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.streams import Observation

SPEC = PolicySpec(
    robot="arm",
    rate_hz=20.0,
    observation=(FieldSpec("elbow", "rad"), FieldSpec("target", "m")),
    action=(FieldSpec("elbow_velocity", "rad/s", -2.0, 2.0),),
)
MILLISECOND = 1_000_000


def guards(normalizer: Normalizer | None = None, **limits: Any) -> Guards:
    return Guards(SPEC, normalizer, GuardLimits(**limits))


def statistics() -> Normalizer:
    mean, std = np.array([1.0, 0.0]), np.array([0.5, 1.0])
    observations = mean + std * np.array([[-1.0, -1.0], [1.0, 1.0]])
    return Normalizer.fit(observations.astype(np.float32), SPEC)


def complete(*values: float) -> Observation:
    return Observation(vector(*values), (), {"joint_states": 0, "target": 0})


def inferred(action: float, took_ns: int = 0) -> InferenceResult:
    values = vector(action)
    return InferenceResult(Decision(values, np.zeros(1, np.float32), values[None]), took_ns)


def vector(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def test_sound_observation_is_admitted_unchanged() -> None:
    admitted = guards().check_observation(complete(0.5, 0.1))
    assert isinstance(admitted, np.ndarray)
    np.testing.assert_array_equal(admitted, vector(0.5, 0.1))


def test_missing_stream_is_named_with_its_age() -> None:
    observation = Observation(
        None, ("joint_states", "target"), {"joint_states": 300 * MILLISECOND, "target": None}
    )
    watched = guards()
    assert watched.check_observation(observation) == Trip(
        Guard.STALE_STREAM,
        "no fresh observation: 'joint_states' is 0.30 s old, 'target' never came",
    )
    assert watched.counts[Guard.STALE_STREAM] == 1


def test_what_is_too_old_when_its_action_is_sent_is_stale() -> None:
    watched = guards(send_after_s=0.03)
    fresh = complete(0.5, 0.1)
    assert isinstance(watched.check_observation(fresh), np.ndarray)
    assert isinstance(
        watched.check_observation(replace(fresh, fresh_ns=30 * MILLISECOND)), np.ndarray
    )
    trip = watched.check_observation(replace(fresh, fresh_ns=29 * MILLISECOND))
    assert trip == Trip(
        Guard.STALE_STREAM,
        "the observation is fresh for 0.029 s only, and actions are sent after 0.03 s "
        "(send_after_s)",
    )


def test_the_last_reason_of_each_guard_is_kept_with_field_and_value() -> None:
    watched = guards(statistics(), max_steps=(0.1,))
    assert watched.last_reasons == {}
    watched.find_unusual(vector(7.0, 0.0))
    watched.clamp(vector(2.5))
    watched.clamp(vector(-3.0))
    watched.limit_rate(vector(1.0), vector(0.5))
    assert watched.last_reasons == {
        Guard.UNUSUAL_OBSERVATION: "observation 'elbow' = 7 is 12.0 standard deviations from the "
        "training data's mean",
        Guard.CLAMPED_ACTION: "action 'elbow_velocity' = -3 cut to [-2, 2]",
        Guard.SLEW_LIMITED_ACTION: "action 'elbow_velocity' = 1 is more than 0.1 from 0.5, which "
        "was sent last",
    }


def test_warm_up_withholds_exactly_so_many_complete_observations() -> None:
    watched = guards(warm_up_ticks=2)
    admitted = [
        isinstance(watched.check_observation(complete(0, 0)), np.ndarray) for _ in range(4)
    ]
    assert admitted == [False, False, True, True]
    assert watched.counts[Guard.WARM_UP] == 2


def test_warm_up_begins_again_after_a_stale_stream_and_after_a_reset() -> None:
    watched = guards(warm_up_ticks=1)
    watched.check_observation(complete(0, 0))
    watched.check_observation(Observation(None, ("target",), {}))
    assert isinstance(watched.check_observation(complete(0, 0)), Trip)
    assert isinstance(watched.check_observation(complete(0, 0)), np.ndarray)
    watched.reset()
    assert isinstance(watched.check_observation(complete(0, 0)), Trip)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_observation_is_withheld_and_its_field_named(bad: float) -> None:
    trip = guards().check_observation(complete(0.0, bad))
    assert isinstance(trip, Trip)
    assert trip.guard is Guard.NON_FINITE_OBSERVATION
    assert trip.reason == f"observation 'target' is {bad}"


def test_observation_far_from_the_training_data_is_told_with_its_distance() -> None:
    watched = guards(statistics(), max_z_score=3.0)
    assert watched.find_unusual(vector(2.4, 2.9)) is None
    trip = watched.find_unusual(vector(3.0, -1.0))
    assert trip is not None
    assert trip.guard is Guard.UNUSUAL_OBSERVATION
    assert trip.reason == (
        "observation 'elbow' = 3 is 4.0 standard deviations from the training data's mean"
    )


@pytest.mark.parametrize("value", [102.0, -1e3, 1e30, -3e38])
def test_what_no_sensor_can_have_measured_is_a_fault(value: float) -> None:
    """The first field's mean is 1 and its standard deviation 0.5."""
    watched = guards(statistics())
    trip = watched.find_unusual(vector(value, 0.0))
    assert trip is not None
    assert trip.guard is Guard.IMPOSSIBLE_OBSERVATION
    assert "more than 100 from 1, the training data's mean (fault_z_score 200)" in trip.reason
    assert watched.forbids(trip)
    nearly = watched.find_unusual(vector(100.0, 0.0))
    assert nearly is not None
    assert not watched.forbids(nearly)


def test_what_never_changed_in_training_may_differ_by_as_much_as_it_is() -> None:
    """A battery that always had 12,000 mV may have 11,500 one day."""
    observations = np.array([[12_000.0, -1.0], [12_000.0, 1.0]], dtype=np.float32)
    normalizer = Normalizer.fit(observations, SPEC)
    watched = guards(normalizer)
    for value, forbidden in ((11_500.0, False), (1e8, True)):
        trip = watched.find_unusual(vector(value, 0.0))
        assert trip is not None
        assert watched.forbids(trip) is forbidden


def test_what_barely_changed_in_training_is_no_fault_when_it_changes() -> None:
    """A joint that rested while the data was recorded may move one day."""
    rng = np.random.default_rng(0)
    observations = rng.normal([1.0, 0.0], [2e-6, 1.0], (50, 2)).astype(np.float32)
    watched = guards(Normalizer.fit(observations, SPEC))
    assert watched.find_unusual(vector(1.001, 0.0)) is None
    trip = watched.find_unusual(vector(1.5, 0.0))
    assert trip is not None
    assert not watched.forbids(trip)


def test_what_the_training_data_has_no_value_of_is_counted_and_named() -> None:
    watched = guards(statistics())
    assert watched.find_unseen(vector(1.5, -1.0)) is None
    assert watched.find_unseen(vector(1.4, 1.25)) == Trip(
        Guard.UNSEEN_OBSERVATION,
        "observation 'target' = 1.25 is beyond the training data, [-1, 1]",
    )
    assert watched.counts[Guard.UNSEEN_OBSERVATION] == 1
    for without in (None, replace(statistics(), observation_min=None, observation_max=None)):
        assert guards(without).find_unseen(vector(1e3, 0.0)) is None


@pytest.mark.parametrize("normalizer", [None, statistics()])
def test_the_contracts_limits_of_observations_are_obeyed(normalizer: Normalizer | None) -> None:
    limited = replace(
        SPEC, observation=(FieldSpec("elbow", "rad", -1.5, 2.1), *SPEC.observation[1:])
    )
    watched = Guards(limited, normalizer, GuardLimits())
    for value in (-1.5, 2.1):
        assert isinstance(watched.check_observation(complete(value, 0.0)), np.ndarray)
    trip = watched.check_observation(complete(2.2, 0.0))
    assert trip == Trip(
        Guard.IMPOSSIBLE_OBSERVATION,
        "observation 'elbow' = 2.2 is beyond the contract's limits [-1.5, 2.1]",
    )
    assert watched.counts[Guard.IMPOSSIBLE_OBSERVATION] == 1


def test_the_limit_of_a_fault_is_not_below_that_of_a_warning() -> None:
    with pytest.raises(ConfigError, match="fault_z_score is 5: it must be at least max_z_score"):
        GuardLimits(max_z_score=10.0, fault_z_score=5.0)


def test_without_statistics_only_absurd_magnitudes_are_a_fault() -> None:
    watched = guards()
    assert watched.find_unusual(vector(1e9, 0.0)) is None
    trip = watched.find_unusual(vector(0.0, -1e30))
    assert trip is not None
    assert watched.forbids(trip)


@pytest.mark.parametrize("normalizer", [None, Normalizer.for_actions_only(2, [-2.0], [2.0])])
def test_without_statistics_nothing_is_unusual(normalizer: Normalizer | None) -> None:
    watched = guards(normalizer, max_z_score=1.0)
    assert watched.find_unusual(vector(1e6, -1e6)) is None


def test_inference_over_its_limit_is_withheld_and_at_the_limit_is_not() -> None:
    watched = guards(max_inference_ns=5 * MILLISECOND)
    assert isinstance(watched.check_decision(inferred(0.0, 5 * MILLISECOND)), np.ndarray)
    trip = watched.check_decision(inferred(0.0, 6 * MILLISECOND))
    assert trip == Trip(Guard.SLOW_INFERENCE, "inference took 6.0 ms of 5.0 ms")


def test_without_a_limit_inference_may_take_any_time() -> None:
    assert isinstance(guards().check_decision(inferred(0.0, 10**15)), np.ndarray)


def test_non_finite_action_is_withheld_and_its_field_named() -> None:
    trip = guards().check_decision(inferred(np.nan))
    assert trip == Trip(Guard.NON_FINITE_ACTION, "action 'elbow_velocity' is nan")


def test_action_is_clamped_to_its_bounds_and_told() -> None:
    watched = guards()
    clamped, trip = watched.clamp(vector(-2.5))
    np.testing.assert_array_equal(clamped, vector(-2.0))
    assert trip == Trip(Guard.CLAMPED_ACTION, "action 'elbow_velocity' = -2.5 cut to [-2, 2]")
    unchanged, trip = watched.clamp(vector(2.0))
    np.testing.assert_array_equal(unchanged, vector(2.0))
    assert trip is None
    assert watched.counts[Guard.CLAMPED_ACTION] == 1


def test_answer_that_has_not_come_is_withheld() -> None:
    trip = guards(max_inference_ns=5 * MILLISECOND).check_decision(
        InferenceResult(None, 120 * MILLISECOND)
    )
    assert trip == Trip(Guard.SLOW_INFERENCE, "inference has not answered for 120.0 ms of 5.0 ms")


@given(
    st.lists(st.floats(-2.0, 2.0, width=32), min_size=2, max_size=20),
    st.floats(0.01, 5.0),
)
def test_rate_limit_goes_towards_the_action_and_never_farther_than_allowed(
    actions: list[float], step: float
) -> None:
    watched = guards(max_steps=(step,))
    last = vector(actions[0])
    for action in actions[1:]:
        near, trip = watched.limit_rate(vector(action), last)
        assert abs(near[0] - last[0]) <= step * (1 + 1e-5) + 1e-6
        assert (trip is None) == (near[0] == np.float32(action))
        assert min(last[0], action) - 1e-6 <= near[0] <= max(last[0], action) + 1e-6
        last = near


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"warm_up_ticks": -1}, "warm_up_ticks is -1: it must not be negative"),
        ({"max_z_score": 0.0}, "max_z_score is 0.0: it must be positive"),
        ({"max_inference_ns": 0}, "max_inference_ns is 0: it must be positive"),
        ({"max_steps": (0.0,)}, r"max_steps are \(0.0,\): they must be positive"),
        ({"max_steps": (1.0, 1.0)}, "max_steps has 2 entries for 1 action fields"),
    ],
)
def test_impossible_limit_is_refused(limits: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        guards(**limits)
