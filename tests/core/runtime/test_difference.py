"""One measure of how far actions are apart."""

import numpy as np

from dql_core.runtime.difference import difference, mean_difference

NAN, INF = np.nan, np.inf


def test_a_difference_is_absolute_and_in_each_fields_own_unit() -> None:
    actions = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
    others = np.array([[3.0, 1.0], [0.5, 0.25]])
    found = difference(actions, others)
    assert found.dtype == np.float64
    assert found.tolist() == [[2.0, 3.0], [0.0, 0.25]]
    assert difference(others, actions).tolist() == found.tolist()


def test_a_mean_is_over_the_instants_at_which_all_fields_are_known() -> None:
    actions = np.array([[1.0, 1.0], [NAN, 5.0], [2.0, 2.0], [9.0, 9.0]])
    others = np.array([[0.0, 0.5], [0.0, 0.0], [1.0, INF], [6.0, NAN]])
    found = mean_difference(difference(actions, others))
    assert found.count == 1
    assert found.by_field.tolist() == [1.0, 0.5]


def test_without_such_an_instant_there_is_no_mean() -> None:
    for rows in (0, 2):
        found = mean_difference(np.full((rows, 3), NAN))
        assert found.count == 0
        assert np.isnan(found.by_field).tolist() == [True] * 3
