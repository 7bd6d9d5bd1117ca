import numpy as np
import pytest

from dql_core.runtime.policy import Selection, draw_noise


@pytest.mark.parametrize("selection", ["softmax", "greedy", "first"])
def test_equal_generators_give_equal_noise(selection: Selection) -> None:
    first = draw_noise(np.random.default_rng(3), (5, 4, 2), selection)
    second = draw_noise(np.random.default_rng(3), (5, 4, 2), selection)
    np.testing.assert_array_equal(first.steps, second.steps)
    np.testing.assert_array_equal(first.selection, second.selection)
    assert first.steps.shape == (5, 4, 2)
    assert first.selection.shape == (4,)
    assert first.steps.dtype == first.selection.dtype == np.float32


def test_only_softmax_disturbs_the_scores() -> None:
    rng = np.random.default_rng(0)
    assert draw_noise(rng, (5, 4, 2), "softmax").selection.any()
    assert not draw_noise(rng, (5, 4, 2), "greedy").selection.any()
    assert not draw_noise(rng, (5, 4, 2), "first").selection.any()


def test_a_single_candidate_needs_no_noise_on_its_score() -> None:
    assert not draw_noise(np.random.default_rng(0), (5, 1, 2), "softmax").selection.any()
