import math

import numpy as np
import pytest

from dql_core.evaluation.statistics import (
    estimate_mean,
    estimate_mean_of_clusters,
    estimate_rate,
)


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (99, 1.9842)],
)
def test_students_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    values = np.arange(freedom + 1.0)
    estimate = estimate_mean(values.tolist())
    standard_error = values.std(ddof=1) / math.sqrt(len(values))
    quantiles = (
        (estimate.high - estimate.mean) / standard_error,
        (estimate.mean - estimate.low) / standard_error,
    )
    assert quantiles == pytest.approx((expected, expected), abs=5e-5)


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    estimates = [estimate_mean(rng.normal(3.0, 2.0, size=5).tolist()) for _ in range(2000)]
    hits = [estimate.low <= 3.0 <= estimate.high for estimate in estimates]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_one_value_says_nothing_of_the_spread() -> None:
    estimate = estimate_mean([4.0])
    assert (estimate.mean, estimate.low, estimate.high) == (4.0, -math.inf, math.inf)
    assert estimate.to_json() == {"mean": 4.0, "ci95": [None, None]}


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 20, 0.5313, 0.8881)],
)
def test_wilsons_interval_has_its_known_values(
    hits: int, count: int, low: float, high: float
) -> None:
    estimate = estimate_rate([True] * hits + [False] * (count - hits))
    assert estimate.mean == hits / count
    assert estimate.low == pytest.approx(low, abs=5e-5)
    assert estimate.high == pytest.approx(high, abs=5e-5)


def test_steps_of_equal_episodes_are_as_sure_as_the_episodes_means() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 12)) + rng.normal(size=(5, 1))
    found = estimate_mean_of_clusters(values.ravel(), np.repeat(np.arange(5), 12))
    expected = estimate_mean(list(values.mean(axis=1)))
    assert vars(found) == pytest.approx(vars(expected))
    alone = estimate_mean_of_clusters(values.ravel(), np.zeros(60, dtype=np.int64))
    assert alone.to_json()["ci95"] == [None, None]


def test_the_interval_of_steps_in_episodes_covers_as_often_as_it_says() -> None:
    """Of episodes of different lengths, whose steps are alike."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        lengths = rng.integers(5, 30, size=20)
        clusters = np.repeat(np.arange(20), lengths)
        values = rng.normal(size=20)[clusters] + rng.normal(size=len(clusters))
        found = estimate_mean_of_clusters(values, clusters)
        hits += found.low <= 0.0 <= found.high
    assert 0.90 < hits / 400 < 0.98
