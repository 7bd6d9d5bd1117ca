import json
from typing import Any

import numpy as np
import pytest

from dql_core.normalize import Normalizer
from dql_core.spec import FieldSpec, PolicySpec

LOW, HIGH = np.array([-0.3, -2.0], np.float32), np.array([0.7, 2.0], np.float32)


def spec_of(*observation: FieldSpec) -> PolicySpec:
    bounds = zip(LOW.tolist(), HIGH.tolist(), strict=True)
    action = tuple(FieldSpec(f"a{i}", "", low, high) for i, (low, high) in enumerate(bounds))
    return PolicySpec("arm", 10.0, observation, action)


def plain_spec(size: int) -> PolicySpec:
    return spec_of(*(FieldSpec(f"o{index}") for index in range(size)))


def fitted(values: list[float], field: FieldSpec) -> Normalizer:
    """Fit one field to a column of values."""
    return Normalizer.fit(np.array(values, np.float32)[:, None], spec_of(field))


@pytest.fixture
def normalizer() -> Normalizer:
    rng = np.random.default_rng(0)
    observations = rng.normal([1.0, -50.0, 0.0], [0.1, 20.0, 3.0], size=(500, 3))
    return Normalizer.fit(observations.astype(np.float32), plain_spec(3))


def test_fitted_observations_have_zero_mean_and_unit_spread() -> None:
    observations = np.random.default_rng(1).normal(5.0, 3.0, size=(1000, 4)).astype(np.float32)
    values = Normalizer.fit(observations, plain_spec(4)).observation(observations)
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=0), 1.0, atol=1e-5)


def test_the_action_bounds_become_plus_and_minus_one(normalizer: Normalizer) -> None:
    np.testing.assert_allclose(normalizer.action(LOW), -1.0, rtol=1e-6)
    np.testing.assert_allclose(normalizer.action(HIGH), 1.0, rtol=1e-6)


def test_normalising_and_restoring_an_observation_is_the_identity(normalizer: Normalizer) -> None:
    rng = np.random.default_rng(2)
    observations = rng.normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_allclose(
        normalizer.restore_observation(normalizer.observation(observations)),
        observations,
        atol=1e-5,
    )


def test_a_constant_dimension_is_centred_and_not_divided_by_zero() -> None:
    observations = np.full((10, 1), 4.0, np.float32)
    normalizer = Normalizer.fit(observations, plain_spec(1))
    np.testing.assert_array_equal(normalizer.observation(observations), 0.0)
    np.testing.assert_array_equal(normalizer.observation_std, 1.0)


def test_raw_observations_pass_unchanged() -> None:
    observations = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    normalizer = Normalizer.for_actions_only(4, LOW.tolist(), HIGH.tolist())
    np.testing.assert_array_equal(normalizer.observation(observations), observations)


def test_json_keeps_every_bit(normalizer: Normalizer) -> None:
    back = Normalizer.from_json(json.loads(json.dumps(normalizer.to_json())))
    for name, array in vars(normalizer).items():
        np.testing.assert_array_equal(getattr(back, name), array)
        assert getattr(back, name).dtype == np.float32


def test_the_arrays_cannot_be_changed(normalizer: Normalizer) -> None:
    with pytest.raises(ValueError, match="read-only"):
        normalizer.action_low[0] = 1.0


RESTING = [0.5 + 2e-6 * (-1) ** index for index in range(100)]  # a joint that moved by 4 urad


@pytest.mark.parametrize(
    ("field", "std"),
    [
        (FieldSpec("q", "rad"), 1e-3),
        (FieldSpec("q", "rad", -3.0, 3.0), 6e-4),  # 1/10,000 of its range is less
        (FieldSpec("q", "rad", -1e6, 1e6), 1e-3),  # limits that say nothing raise nothing
        (FieldSpec("q"), 5e-4),
        (FieldSpec("q", "furlong", 0.0, 1.0), 1e-4),
    ],
)
def test_noise_is_not_magnified_to_a_signal(field: FieldSpec, std: float) -> None:
    normalizer = fitted(RESTING, field)
    assert normalizer.observation_std == pytest.approx(std, rel=1e-4)
    assert normalizer.barely_moved.tolist() == [True]


@pytest.mark.parametrize(
    "field",
    [FieldSpec("q", "furlong"), FieldSpec("q", "m", 0.49999, 0.50001), FieldSpec("q", "T")],
)
def test_small_changes_that_may_be_meant_keep_their_own_spread(field: FieldSpec) -> None:
    normalizer = fitted(RESTING, field)
    assert normalizer.observation_std == pytest.approx(2e-6, rel=0.05)
    assert normalizer.barely_moved.tolist() == [False]


@pytest.mark.parametrize("unit", ["", "deg"])
def test_a_latitude_from_which_its_first_value_was_taken_keeps_its_own_spread(unit: str) -> None:
    steps = [index * 1.8e-7 for index in range(40)]  # 2 cm each
    normalizer = fitted(steps, FieldSpec("latitude", unit))
    assert normalizer.observation_std == pytest.approx(np.std(steps), rel=1e-3)


def test_a_spread_that_a_joint_does_not_show_is_noise_also_around_zero() -> None:
    values = [value - 0.5 for value in RESTING]
    assert fitted(values, FieldSpec("q", "rad")).observation_std == pytest.approx(1e-3)


def test_what_float32_rounds_is_only_centred() -> None:
    normalizer = fitted([5_400_000.0, 5_400_000.5] * 5, FieldSpec("y"))
    assert normalizer.observation_std.tolist() == [1.0]
    # Where even a step of rounding is large, it does not become a large number.
    steps = [1e10, 1e10 + 1024.0] * 5
    normalizer = fitted(steps, FieldSpec("y"))
    assert np.abs(normalizer.observation(np.array(steps, np.float32)[:, None])).max() <= 2.0


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_what_moves_is_measured_to_the_bit(scale: float) -> None:
    rng = np.random.default_rng(4)
    rows = (scale * rng.normal(size=(300, 2))).astype(np.float32)
    normalizer = Normalizer.fit(rows, spec_of(FieldSpec("x", "m"), FieldSpec("v", "rad/s")))
    expected = rows.std(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(normalizer.observation_std, expected)
    assert not normalizer.barely_moved.any()


def test_within_the_training_data_bounding_changes_nothing() -> None:
    rng = np.random.default_rng(5)
    rows, last = (rng.normal(size=(n, 2)).astype(np.float32) for n in (50, 3))
    normalizer = Normalizer.fit(rows, plain_spec(2), also_seen=last)
    seen = np.concatenate([rows, last])
    np.testing.assert_array_equal(normalizer.bounded(seen), seen)
    mean_of_acted_on = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(normalizer.observation_mean, mean_of_acted_on)


def test_beyond_the_training_data_the_nearest_value_counts() -> None:
    normalizer = Normalizer.fit(np.array([[0.0, 3.0], [1.0, 3.0]], np.float32), plain_spec(2))
    moved = normalizer.bounded(np.array([[1.5, 3.1], [-np.inf, 2.0]], np.float32))
    assert moved.tolist() == [[1.0, 3.0], [0.0, 3.0]]
    assert np.isnan(normalizer.bounded(np.array([np.nan, 3.0], np.float32))[0])


def test_a_normaliser_of_an_earlier_version_bounds_nothing() -> None:
    document = fitted([0.0, 1.0], FieldSpec("x")).to_json()
    del document["observation_min"], document["observation_max"]
    earlier = Normalizer.from_json(document)
    assert earlier.bounded(np.array([9.0], np.float32)).tolist() == [9.0]
    assert earlier.to_json() == document


@pytest.mark.parametrize(
    "change", [{"observation_min": [2.0]}, {"observation_max": None}, {"observation_min": [0, 0]}]
)
def test_a_damaged_range_is_refused(change: dict[str, Any]) -> None:
    document = fitted([0.0, 1.0], FieldSpec("x")).to_json() | change
    with pytest.raises(ValueError, match="the normaliser's observation_m"):
        Normalizer.from_json(document)
