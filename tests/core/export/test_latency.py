from collections.abc import Iterator

import numpy as np
import pytest

from dql_core.export.latency import Measurement, speed_ratio, time_interleaved


def test_percentiles_and_rates_follow_from_the_times() -> None:
    latency = Measurement.of(7, np.arange(1.0, 102.0).reshape(1, 101))
    assert (latency.p50_us, latency.p95_us, latency.p99_us, latency.max_us) == (51, 96, 100, 101)
    assert latency.calls_per_s == pytest.approx(1e6 / 51)
    assert latency.control_rate_hz == pytest.approx(5000.0)
    assert latency.to_json()["control_rate_hz"] == 5000.0


def test_functions_take_turns_and_each_call_is_timed() -> None:
    called = []
    ticks: Iterator[int] = iter(range(0, 10**9, 500))

    times = time_interleaved(
        {"a": lambda: called.append("a"), "b": lambda: called.append("b")},
        rounds=2,
        calls=3,
        warm_up=1,
        clock=lambda: next(ticks),
    )
    assert "".join(called) == "aaaabbbb" * 2
    np.testing.assert_array_equal(times["a"], np.full((2, 3), 0.5))
    np.testing.assert_array_equal(times["b"], np.full((2, 3), 0.5))


def test_the_ratio_is_the_median_over_the_rounds_of_the_ratio_of_medians() -> None:
    # In the second round everything took ten times as long, once more than that.
    reference = np.array([[4.0, 4.0, 4.0], [40.0, 40.0, 9000.0], [6.0, 6.0, 6.0]])
    times = np.array([[2.0, 2.0, 2.0], [20.0, 20.0, 20.0], [2.0, 2.0, 2.0]])
    assert speed_ratio(reference, times) == pytest.approx((2.0, 2.0, 2.5))
