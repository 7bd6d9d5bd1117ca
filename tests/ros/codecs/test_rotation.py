import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dql_ros.codecs.rotation import (
    angles_of_cosines_and_sines,
    columns_of_quaternions,
    cosines_and_sines,
    quaternion_of_columns,
    quaternion_of_yaw,
    yaws_of_quaternions,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_quaternions(seed: int, count: int = 20) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    quaternions: NDArray[np.float64] = rng.normal(size=(count, 4))
    return np.asarray(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True))


def matrix(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn the axes by q v q*, Hamilton's product written out: independent of the formula."""
    x, y, z, w = quaternion

    def product(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
        return np.array([*vector, a[3] * b[3] - a[:3] @ b[:3]])

    conjugate = np.array([-x, -y, -z, w])
    turned = [
        product(product(quaternion, np.array([*axis, 0.0])), conjugate) for axis in np.eye(3)
    ]
    return np.array(turned)[:, :3].T


@given(seed=SEEDS)
def test_columns_are_the_turned_axes(seed: int) -> None:
    quaternions = random_quaternions(seed)
    for quaternion, columns in zip(quaternions, columns_of_quaternions(quaternions), strict=True):
        expected = matrix(quaternion)
        np.testing.assert_allclose(columns[:3], expected[:, 0], atol=1e-14)
        np.testing.assert_allclose(columns[3:], expected[:, 1], atol=1e-14)


@given(seed=SEEDS, length=st.floats(1e-3, 1e3))
def test_length_and_sign_of_a_quaternion_do_not_matter(seed: int, length: float) -> None:
    quaternions = random_quaternions(seed)
    for other in (quaternions * length, -quaternions):
        np.testing.assert_allclose(
            columns_of_quaternions(other), columns_of_quaternions(quaternions), atol=1e-12
        )
        np.testing.assert_allclose(
            yaws_of_quaternions(other), yaws_of_quaternions(quaternions), atol=1e-9
        )


@given(seed=SEEDS)
def test_quaternion_comes_back_from_its_columns(seed: int) -> None:
    for quaternion in random_quaternions(seed):
        back = quaternion_of_columns(columns_of_quaternions(quaternion[None])[0])
        assert back[3] >= 0
        np.testing.assert_allclose(back * np.sign(quaternion[3]), quaternion, atol=1e-12)


@given(seed=SEEDS)
def test_any_six_numbers_become_the_rotation_of_gram_and_schmidt(seed: int) -> None:
    raw = np.random.default_rng(seed).uniform(-2, 2, 6)
    columns = columns_of_quaternions(quaternion_of_columns(raw)[None])[0]
    first = raw[:3] / np.linalg.norm(raw[:3])
    second = raw[3:] - (first @ raw[3:]) * first
    np.testing.assert_allclose(columns[:3], first, atol=1e-12)
    np.testing.assert_allclose(columns[3:], second / np.linalg.norm(second), atol=1e-9)


@pytest.mark.parametrize(
    "columns",
    [
        [0, 0, 0, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, -2, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, -3, 0, 0, 0],
        [-1, 0, 0, 0, -1, 0],
        [1, 0, 0, 0, -1, 0],
    ],
)
def test_columns_without_a_direction_still_give_a_rotation(columns: list[float]) -> None:
    quaternion = quaternion_of_columns(np.array(columns, float))
    assert np.isclose(np.linalg.norm(quaternion), 1.0)
    if not any(columns):
        assert quaternion.tolist() == [0.0, 0.0, 0.0, 1.0]
    kept = np.linalg.norm(columns[:3])
    if kept:
        first = columns_of_quaternions(quaternion[None])[0, :3]
        np.testing.assert_allclose(first, np.array(columns[:3]) / kept, atol=1e-12)


@given(yaw=st.floats(-math.pi, math.pi))
def test_yaw_comes_back_from_its_quaternion(yaw: float) -> None:
    (again,) = yaws_of_quaternions(quaternion_of_yaw(yaw)[None])[0]
    assert math.isclose(math.remainder(again - yaw, 2 * math.pi), 0.0, abs_tol=1e-12)


@given(seed=SEEDS)
def test_yaw_is_the_direction_of_the_turned_x_axis(seed: int) -> None:
    quaternions = random_quaternions(seed)
    columns = columns_of_quaternions(quaternions)
    expected = np.arctan2(columns[:, 1], columns[:, 0])
    np.testing.assert_allclose(yaws_of_quaternions(quaternions)[:, 0], expected, atol=1e-7)


def test_quaternion_that_nobody_filled_is_no_rotation() -> None:
    rows = np.array([[0.0, 0, 0, 0], [0, 0, 0, 1], [np.inf, 0, 0, 0], [np.nan, 0, 0, 1]])
    finite = np.isfinite(columns_of_quaternions(rows)).all(axis=1)
    assert finite.tolist() == [False, True, False, False]
    finite = np.isfinite(yaws_of_quaternions(rows)).all(axis=1)
    assert finite.tolist() == [False, True, False, False]


@given(seed=SEEDS, part=st.integers(1, 19))
def test_a_row_does_not_depend_on_its_neighbours(seed: int, part: int) -> None:
    quaternions = random_quaternions(seed)
    for function in (columns_of_quaternions, yaws_of_quaternions, cosines_and_sines):
        apart = [function(quaternions[:part]), function(quaternions[part:])]
        assert np.concatenate(apart).tobytes() == function(quaternions).tobytes()


@given(angles=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5))
def test_angles_come_back_from_cosine_and_sine_but_for_whole_turns(angles: list[float]) -> None:
    (pairs,) = cosines_and_sines(np.array([angles]))
    expected = [number for each in angles for number in (math.cos(each), math.sin(each))]
    assert pairs.tolist() == expected
    for angle, again in zip(angles, angles_of_cosines_and_sines(3.0 * pairs), strict=True):
        assert abs(again) <= math.pi
        assert math.isclose(math.remainder(again - angle, math.tau), 0.0, abs_tol=1e-9)


@given(start=st.floats(-10, 10), step=st.floats(-0.5, 0.5))
def test_cosine_and_sine_move_no_farther_than_the_angle_turns(start: float, step: float) -> None:
    turns = start + step * np.arange(40)
    wrapped = np.remainder(turns + np.pi, 2 * np.pi) - np.pi
    moved = np.linalg.norm(np.diff(cosines_and_sines(wrapped[:, None]), axis=0), axis=1)
    assert (moved <= abs(step) + 1e-9).all()


def test_what_is_no_angle_has_no_cosine() -> None:
    rows = cosines_and_sines(np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, -np.inf]]))
    assert np.isnan(rows).tolist() == [[True, True, False, False]] * 2 + [[False] * 2 + [True] * 2]
    assert angles_of_cosines_and_sines(np.zeros(2)).tolist() == [0.0]
