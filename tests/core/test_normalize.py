import json

import numpy as np
import pytest

from dql_core.normalize import Normalizer

LOW, HIGH = np.array([-0.3, -2.0], np.float32), np.array([0.7, 2.0], np.float32)


@pytest.fixture
def normalizer() -> Normalizer:
    rng = np.random.default_rng(0)
    observations = rng.normal([1.0, -50.0, 0.0], [0.1, 20.0, 3.0], size=(500, 3))
    return Normalizer.fit(observations.astype(np.float32), LOW, HIGH)


def test_fitted_observations_have_zero_mean_and_unit_spread() -> None:
    observations = np.random.default_rng(1).normal(5.0, 3.0, size=(1000, 4)).astype(np.float32)
    values = Normalizer.fit(observations, LOW, HIGH).observation(observations)
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
    normalizer = Normalizer.fit(observations, LOW, HIGH)
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
