import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_ros.convert.report.topic_statistics import QuantileSample

STREAMS = st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=200)
CUTS = st.lists(st.integers(0, 200), max_size=6)


def sample_of(stream: NDArray[np.int64], capacity: int, cuts: list[int]) -> QuantileSample:
    sample = QuantileSample(capacity)
    for piece in np.split(stream, sorted(cuts)):
        sample.add(piece)
    return sample


@settings(deadline=None, max_examples=60)
@given(stream=STREAMS, capacity=st.integers(1, 250), cuts=CUTS)
def test_however_the_stream_is_cut_the_sample_is_the_same(
    stream: list[int], capacity: int, cuts: list[int]
) -> None:
    values = np.array(stream, dtype=np.int64)
    whole, pieces = sample_of(values, capacity, []), sample_of(values, capacity, cuts)
    np.testing.assert_array_equal(whole.values(), pieces.values())
    assert (whole.count, whole.minimum, whole.maximum) == (len(values), min(stream), max(stream))
    assert (pieces.count, pieces.minimum, pieces.maximum) == (
        len(values),
        min(stream),
        max(stream),
    )
    assert whole.is_thinned == pieces.is_thinned == (len(values) > capacity)
    assert 1 <= len(whole.values()) <= max(capacity, 1)


@settings(deadline=None, max_examples=40)
@given(stream=STREAMS)
def test_what_fits_is_exact(stream: list[int]) -> None:
    values = np.array(stream, dtype=np.int64)
    sample = sample_of(values, len(values), [])
    np.testing.assert_array_equal(sample.values(), values)
    np.testing.assert_allclose(
        sample.quantiles(0.0, 0.5, 0.95, 1.0), np.percentile(values, [0, 50, 95, 100])
    )


def test_a_thinned_sample_is_spread_evenly_and_knows_the_extremes() -> None:
    stream = np.arange(1_000_000, dtype=np.int64)
    sample = sample_of(stream, 1000, [123_457, 500_000])
    assert 400 < len(sample.values()) <= 1000
    assert (sample.minimum, sample.maximum) == (0, 999_999)
    np.testing.assert_allclose(
        sample.quantiles(0.05, 0.5, 0.95), [50_000, 500_000, 950_000], atol=5000
    )


def test_a_period_in_the_stream_does_not_bias_the_sample() -> None:
    for period in (2, 3, 4, 8, 10, 16, 100):
        stream = (np.arange(200_000) % period == 0).astype(np.int64)
        kept = sample_of(stream, 4000, []).values()
        assert abs(kept.mean() - 1 / period) < 0.01


def test_an_empty_stream_has_an_empty_sample() -> None:
    sample = QuantileSample()
    sample.add(np.zeros(0, dtype=np.int64))
    assert (sample.count, len(sample.values()), sample.is_thinned) == (0, 0, False)
