"""The mode of candidates, against densities computed on a grid, and what it may never do."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.runtime.bundle_policy import load_policy
from dql_core.runtime.mode import ModeSeeker, seek_mode
from dql_core.runtime.policy import FEWEST_TO_AGREE, Decision

Array = NDArray[np.float64]


def even(count: int) -> Array:
    return np.full(count, 1.0 / count)


def density(candidates: Array, weights: Array, at: Array) -> Array:
    """Return the kernel density of (K, A) candidates at (N, A) points, without short cuts."""
    pairs = [sorted(np.sum((one - other) ** 2) for other in candidates) for one in candidates]
    width = np.median([nearest[len(candidates) // FEWEST_TO_AGREE] for nearest in pairs])
    squares = np.array([[np.sum((point - each) ** 2) for each in candidates] for point in at])
    return np.asarray(np.exp(-squares / (2 * width)) @ weights)


@pytest.mark.parametrize("seed", range(5))
def test_no_point_of_a_fine_grid_is_denser(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, weights = rng.uniform(-1, 1, (15, 1)), rng.dirichlet(np.ones(15))
    grid = np.linspace(-1, 1, 2001)[:, None]
    best = density(candidates, weights, grid).max()
    found = density(candidates, weights, seek_mode(candidates, weights)[None])
    assert found == pytest.approx(best, rel=1e-2)


def test_it_takes_most_of_the_noise_of_a_single_sample_away() -> None:
    rng = np.random.default_rng(0)
    errors = [
        (np.square(one[0] - 0.3).mean(), np.square(seek_mode(one, even(20)) - 0.3).mean())
        for one in (rng.normal(0.3, 0.1, (20, 6)) for _ in range(50))
    ]
    single, mode = np.mean(errors, axis=0)
    assert mode < 0.15 * single


@pytest.mark.parametrize("ways", [2, 3])
def test_ways_that_lie_apart_are_never_averaged(ways: int) -> None:
    rng = np.random.default_rng(0)
    corners = np.array([[1, 1], [-1, -1], [1, -1]])[:ways] * 0.8
    for _ in range(30):
        candidates = corners[rng.integers(ways, size=20)] + rng.normal(0, 0.05, (20, 2))
        distances = np.linalg.norm(corners - seek_mode(candidates, even(20)), axis=1)
        assert distances.min() < 0.1


def test_weights_lead_to_a_way_that_few_candidates_take() -> None:
    rng = np.random.default_rng(0)
    good = np.arange(20) < 6
    candidates = np.where(good[:, None], 0.8, -0.8) + rng.normal(0, 0.05, (20, 2))
    assert seek_mode(candidates, even(20)) == pytest.approx(-0.8, abs=0.1)
    weights = np.where(good, 5.0, 1.0)
    assert seek_mode(candidates, weights / weights.sum()) == pytest.approx(0.8, abs=0.1)


def test_of_a_few_candidates_the_best_is_taken() -> None:
    candidates = np.array([[0.5], [0.4], [-0.3], [0.45]])
    found = seek_mode(candidates, np.array([0.1, 0.2, 0.4, 0.3]))
    assert found == pytest.approx([-0.3])


@pytest.mark.parametrize("count", [1, 5])
def test_equal_candidates_are_their_own_mode(count: int) -> None:
    candidates = np.tile([0.1, -0.7, 1.0], (count, 1))
    assert seek_mode(candidates, even(count)) == pytest.approx(candidates[0], abs=1e-15)


def test_many_observations_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(0)
    candidates, weights = rng.normal(size=(7, 9, 3)), rng.dirichlet(np.ones(9), size=7)
    together = seek_mode(candidates, weights)
    for row in range(7):
        assert seek_mode(candidates[row], weights[row]) == pytest.approx(together[row], abs=1e-12)


SEEKER: dict[str, Any] = {
    "low": np.array([-2.0, 0.0], np.float32),
    "high": np.array([1.0, 0.1], np.float32),
    "temperature": 1.0,
    "raw_temperature": False,
}


RUNGS = np.arange(6.0)
LADDER = [20.0 * rung for rung in range(6)]


def decision_of(units: Array, q_values: Array, seeker: ModeSeeker) -> Decision:
    """Return a decision whose candidates are given in [-1, 1] units."""
    half_range, centre = (seeker.high - seeker.low) / 2, (seeker.high + seeker.low) / 2
    candidates = (units * half_range + centre).astype(np.float32)
    return Decision(candidates[0], q_values.astype(np.float32), candidates)


def test_many_candidates_for_many_observations_take_the_memory_of_a_few() -> None:
    rng = np.random.default_rng(0)
    candidates, weights = rng.uniform(-1, 1, (16, 800, 2)), rng.dirichlet(np.ones(800), size=16)
    tracemalloc.start()
    try:
        found = seek_mode(candidates, weights)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000  # all pairs are 82 MB
    finally:
        tracemalloc.stop()
    alone = [seek_mode(*each) for each in zip(candidates, weights, strict=True)]
    np.testing.assert_array_equal(found, alone)


def test_distances_count_in_shares_of_the_range_and_the_result_is_within_it() -> None:
    rng = np.random.default_rng(0)
    seeker = ModeSeeker(**SEEKER)
    for _ in range(50):
        units = np.clip(rng.normal(0.9, 0.3, (8, 2)), -1, 1)
        found = seeker(decision_of(units, np.zeros(8), seeker))
        wanted = seek_mode(units, even(8))
        half_range, centre = (seeker.high - seeker.low) / 2, (seeker.high + seeker.low) / 2
        assert found.action == pytest.approx(wanted * half_range + centre, abs=1e-5)
        assert found.action.dtype == np.float32
        assert (found.action >= seeker.low).all()
        assert (found.action <= seeker.high).all()


@pytest.mark.parametrize(
    ("changes", "q_values", "weights"),
    [
        ({}, LADDER, np.exp(-(5 - RUNGS) / np.std(RUNGS))),
        ({"temperature": 2.0}, LADDER, np.exp(-(5 - RUNGS) / (2 * np.std(RUNGS)))),
        ({"raw_temperature": True}, LADDER, np.exp(-20 * (5 - RUNGS))),
        ({}, [5.0] * 6, np.ones(6)),
    ],
    ids=["relative", "warm", "raw", "equal"],
)
def test_candidates_weigh_what_a_softmax_would_draw_them_with(
    changes: dict[str, Any], q_values: list[float], weights: Array
) -> None:
    seeker = ModeSeeker(**SEEKER | changes)
    units = np.random.default_rng(0).uniform(-0.5, 0.5, (len(weights), 2))
    found = seeker(decision_of(units, np.array(q_values), seeker)).action
    wanted = seek_mode(units, weights / weights.sum())
    half_range, centre = (seeker.high - seeker.low) / 2, (seeker.high + seeker.low) / 2
    assert found == pytest.approx(wanted * half_range + centre, abs=1e-5)


def test_a_bundle_acts_by_the_mode_of_its_candidates(tiny_bundle: Path) -> None:
    policy = load_policy(tiny_bundle, selection="mode", num_candidates=20)
    observation = np.array([0.5, -1.0, 3.0], dtype=np.float32)
    decision = policy.act(observation, np.random.default_rng(0))
    greedy = load_policy(tiny_bundle, selection="greedy", num_candidates=20)
    chosen = greedy.act(observation, np.random.default_rng(0))
    np.testing.assert_array_equal(decision.candidates, chosen.candidates)
    spec, manifest = policy.spec, policy.manifest
    seeker = ModeSeeker(spec.action_low, spec.action_high, manifest.temperature, False)
    np.testing.assert_array_equal(decision.action, seeker(chosen).action)
    again = policy.act(observation, np.random.default_rng(0))
    np.testing.assert_array_equal(again.action, decision.action)
    assert not (decision.candidates == decision.action).all(axis=1).any()
