import math

import numpy as np
import pytest

from dql_core.evaluation.statistics import estimate_mean, estimate_rate


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
