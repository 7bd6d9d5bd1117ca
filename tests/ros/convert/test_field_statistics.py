import json
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.spec import FieldSpec, PolicySpec
from dql_ros.convert.report.field_statistics import BINS, DatasetStatistics, FieldStatistics

SPECS = (FieldSpec("a", "rad", -1.0, 1.0), FieldSpec("b", "m"), FieldSpec("c", "", 0.0))
VALUES = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.floats(-1000, 1000, width=32),
)


def figures(values: NDArray[np.float32], cuts: Iterable[int] = ()) -> FieldStatistics:
    statistics = FieldStatistics(SPECS)
    pieces = np.split(values, sorted(cuts))
    for piece in pieces:
        statistics.add(piece)
    for piece in pieces:
        statistics.count(piece)
    return statistics


@settings(deadline=None, max_examples=60)
@given(values=VALUES, cuts=st.lists(st.integers(0, 40), max_size=4))
def test_figures_are_those_of_the_whole_however_it_is_cut(
    values: NDArray[np.float32], cuts: list[int]
) -> None:
    for row, spec, column in zip(figures(values, cuts).to_json(), SPECS, values.T, strict=True):
        wide = column.astype(np.float64)
        assert (row["name"], row["unit"]) == (spec.name, spec.unit)
        assert (row["min"], row["max"]) == (wide.min(), wide.max())
        assert row["mean"] == pytest.approx(wide.mean(), rel=1e-9, abs=1e-9)
        assert row["std"] == pytest.approx(wide.std(), rel=1e-6, abs=1e-6)
        assert row["beyond_bounds"] == sum(not spec.low <= value <= spec.high for value in wide)
        histogram = row["histogram"]
        assert sum(histogram["counts"]) == len(column)
        assert len(histogram["counts"]) == BINS
        for edge in (spec.low, spec.high, wide.min(), wide.max()):
            if math.isfinite(edge):
                assert histogram["low"] <= edge <= histogram["high"]


def test_histograms_agree_with_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(10_000, 3)).astype(np.float32)
    for row, column in zip(figures(values, [17, 4000]).to_json(), values.T, strict=True):
        histogram = row["histogram"]
        counts, _ = np.histogram(
            column.astype(np.float64), BINS, (histogram["low"], histogram["high"])
        )
        assert histogram["counts"] == counts.tolist()


def test_bounds_widen_the_histogram_and_infinite_ones_do_not() -> None:
    values = np.full((5, 3), 0.25, dtype=np.float32)
    a, b, c = figures(values).to_json()
    assert (a["histogram"]["low"], a["histogram"]["high"]) == (-1.0, 1.0)
    assert (b["low"], b["high"], c["low"], c["high"]) == (None, None, 0.0, None)
    assert c["histogram"]["low"] == 0.0
    assert b["histogram"]["low"] == 0.25 < b["histogram"]["high"]
    assert b["histogram"]["counts"] == [5] + [0] * (BINS - 1)


def test_a_value_at_the_bound_as_it_is_stored_is_not_beyond_it() -> None:
    statistics = FieldStatistics((FieldSpec("a", low=-0.1, high=0.1),))
    statistics.add(np.array([[-0.1], [0.1], [np.nextafter(np.float32(0.1), np.float32(1))]], "f4"))
    assert statistics.to_json()[0]["beyond_bounds"] == 1


def test_without_values_there_are_no_figures() -> None:
    rows = figures(np.zeros((0, 3), dtype=np.float32)).to_json()
    assert [row["min"] for row in rows] == [None] * 3
    assert all(sum(row["histogram"]["counts"]) == 0 for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_a_bound_that_float32_cannot_hold_is_none() -> None:
    statistics = FieldStatistics((FieldSpec("a", low=-1e300, high=1e300),))
    statistics.add(np.array([[1.0], [2.0]], dtype=np.float32))
    statistics.count(np.array([[1.0], [2.0]], dtype=np.float32))
    (row,) = statistics.to_json()
    assert (row["histogram"]["low"], row["histogram"]["high"]) == (1.0, 2.0)


def test_a_dataset_is_gone_through_twice_one_episode_at_a_time() -> None:
    rng = np.random.default_rng(1)
    spec = PolicySpec("arm", 10.0, SPECS, (FieldSpec("u", "", -1.0, 1.0),))
    lengths = [3, 1, 8]
    episodes = [
        Episode(
            rng.normal(size=(length + 1, 3)).astype(np.float32),
            rng.uniform(-1, 1, (length, 1)).astype(np.float32),
            rng.normal(size=length),
            terminated=False,
            truncated=True,
        )
        for length in lengths
    ]
    passes: list[int] = []

    def opened() -> Iterable[Episode]:
        passes.append(len(passes))
        yield from episodes

    statistics = DatasetStatistics.of(spec, opened)
    assert passes == [0, 1]
    observations = np.concatenate([episode.observations for episode in episodes])
    assert statistics.observation.to_json() == figures(observations, [4, 6]).to_json()
    (action,), (reward,) = statistics.action.to_json(), statistics.reward.to_json()
    assert sum(action["histogram"]["counts"]) == sum(reward["histogram"]["counts"]) == 12
    rewards = np.concatenate([episode.rewards for episode in episodes])
    assert reward["mean"] == pytest.approx(rewards.mean())
    assert (reward["min"], reward["max"]) == (rewards.min(), rewards.max())
