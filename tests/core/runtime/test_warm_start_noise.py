"""Noise that resembles the decision before's, and is otherwise like any."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import ConfigError
from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.policy import WarmStartNoise, gumbel

SHAPE = (5, 40, 2)
GUMBEL_MEAN = 0.5772156649


def drawn(correlation: float, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the steps' and the selection's noise of consecutive decisions."""
    noise, rng = WarmStartNoise(correlation), np.random.default_rng(0)
    draws = [noise.draw(rng, SHAPE, "softmax") for _ in range(count)]
    return np.stack([draw.steps for draw in draws]), np.stack([draw.selection for draw in draws])


@pytest.mark.parametrize("correlation", [0.1, 0.9])
def test_consecutive_decisions_are_correlated_as_asked(correlation: float) -> None:
    steps, selection = drawn(correlation, 400)
    for values in (steps, selection):
        flat = values.reshape(len(values), -1)
        measured = np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]
        assert measured == pytest.approx(correlation, abs=0.05)


@pytest.mark.parametrize("correlation", [0.1, 0.9])
def test_each_decision_alone_is_distributed_as_without(correlation: float) -> None:
    steps, selection = drawn(correlation, 2000)
    last = steps[-1000:].ravel()
    assert np.mean(last) == pytest.approx(0.0, abs=0.05)
    assert np.std(last) == pytest.approx(1.0, abs=0.05)
    quantiles = np.quantile(last, [0.025, 0.5, 0.975])
    assert quantiles == pytest.approx([-1.96, 0.0, 1.96], abs=0.1)
    scores = selection[-1000:].ravel()
    assert np.mean(scores) == pytest.approx(GUMBEL_MEAN, abs=0.1)
    assert np.std(scores) == pytest.approx(np.pi / np.sqrt(6.0), abs=0.1)


def test_full_correlation_repeats_the_first_decision_until_the_episode_ends() -> None:
    noise, rng = WarmStartNoise(1.0), np.random.default_rng(0)
    first, second = (noise.draw(rng, SHAPE, "softmax") for _ in range(2))
    np.testing.assert_array_equal(first.steps, second.steps)
    np.testing.assert_array_equal(first.selection, second.selection)
    noise.reset()
    assert (noise.draw(rng, SHAPE, "softmax").steps != first.steps).all()


def test_only_softmax_disturbs_the_scores() -> None:
    rng = np.random.default_rng(0)
    assert not WarmStartNoise(0.5).draw(rng, SHAPE, "greedy").selection.any()
    assert not WarmStartNoise(0.5).draw(rng, (5, 1, 2), "softmax").selection.any()


def test_extreme_draws_stay_finite() -> None:
    extreme = np.array([-50.0, 50.0], dtype=np.float32)
    assert np.isfinite(gumbel(extreme)).all()


@pytest.mark.parametrize("correlation", [-0.1, 1.1, float("nan")])
def test_what_is_no_correlation_is_refused(correlation: float) -> None:
    with pytest.raises(ConfigError, match=r"warm_start is .*: it must be from 0 to 1"):
        WarmStartNoise(correlation)


def test_a_bundles_policy_keeps_to_its_noise_within_an_episode(tiny_bundle: Path) -> None:
    warm = load_policy(tiny_bundle, warm_start=1.0)
    observation, rng = np.zeros(3, np.float32), np.random.default_rng(0)
    first = warm.act(observation, rng)
    np.testing.assert_array_equal(warm.act(observation, rng).candidates, first.candidates)
    warm.reset()
    assert (warm.act(observation, rng).candidates != first.candidates).any()


def test_without_a_warm_start_each_decision_stands_alone(tiny_bundle: Path) -> None:
    cold = load_policy(tiny_bundle)
    observation, rng = np.zeros(3, np.float32), np.random.default_rng(0)
    first = cold.act(observation, rng)
    assert (cold.act(observation, rng).candidates != first.candidates).any()
