"""Rotations in the forms that a network learns well from.

Of a quaternion: two matrix columns, or one angle; of an angle: its cosine and its sine.

Quaternions are in ROS's order x, y, z, w (REP 103; MuJoCo's is w, x, y, z). They need not have
unit length: drivers send rounded ones. One of length 0, which an empty message has, is no rotation
at all and becomes NaN.

The columns are the six numbers of Zhou et al. 2019, "On the Continuity of Rotation
Representations in Neural Networks" (arXiv 1812.07035, section 4.2): no jump, unlike angles, and
no double cover, unlike quaternions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Below this length a column has no direction that is more than rounding.
_SMALLEST = 1e-9


def columns_of_quaternions(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first two columns of the rotation matrices.

    Only elementwise operations that IEEE 754 rounds correctly are used, so that a row's result
    does not depend on the rows beside it.

    Args:
        quaternions: Shape (n, 4), in the order x, y, z, w.

    Returns:
        Shape (n, 6): the turned x axis, then the turned y axis.
    """
    x, y, z, w = (np.ascontiguousarray(part) for part in quaternions.T)
    columns = np.empty((len(quaternions), 6))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scale = 2.0 / (x * x + y * y + z * z + w * w)
        columns[:, 0] = 1.0 - scale * (y * y + z * z)
        columns[:, 1] = scale * (x * y + z * w)
        columns[:, 2] = scale * (x * z - y * w)
        columns[:, 3] = scale * (x * y - z * w)
        columns[:, 4] = 1.0 - scale * (x * x + z * z)
        columns[:, 5] = scale * (y * z + x * w)
    return columns


def yaws_of_quaternions(quaternions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles about z, of the rotations seen as yaw, then pitch, then roll.

    Args:
        quaternions: Shape (n, 4), in the order x, y, z, w.

    Returns:
        Shape (n, 1), in [-pi, pi], counter-clockwise seen from above.
    """
    x, y, z, w = (np.ascontiguousarray(part) for part in quaternions.T)
    with np.errstate(invalid="ignore", over="ignore"):
        opposite = 2.0 * (x * y + z * w)
        adjacent = x * x + w * w - (y * y + z * z)
        opposite[x * x + y * y + z * z + w * w == 0.0] = np.nan
    # numpy's arctan2 rounds otherwise in its vector loops than in its scalar one.
    angles = map(math.atan2, opposite.tolist(), adjacent.tolist())
    return np.fromiter(angles, np.float64, len(quaternions))[:, None]


def cosines_and_sines(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine and the sine of each angle: without a jump where angles wrap around.

    Args:
        angles: In rad, shape (n, k).

    Returns:
        Shape (n, 2 k): cosine, sine of the first, then of the next. NaN of what is not finite.
    """
    # numpy's cos and sin round otherwise in their vector loops than in their scalar ones.
    finite = np.where(np.isfinite(angles), angles, np.nan).ravel().tolist()
    pairs = np.empty((angles.size, 2))
    pairs[:, 0] = np.fromiter(map(math.cos, finite), np.float64, angles.size)
    pairs[:, 1] = np.fromiter(map(math.sin, finite), np.float64, angles.size)
    return pairs.reshape(len(angles), 2 * angles.shape[1])


def angles_of_cosines_and_sines(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the angles whose directions some pairs have, of any length; 0 of zeros.

    Args:
        values: Cosine, sine of the first, then of the next; shape (2 k,).

    Returns:
        In rad, in [-pi, pi], shape (k,).
    """
    cosines, sines = values[0::2].tolist(), values[1::2].tolist()
    return np.fromiter(map(math.atan2, sines, cosines), np.float64, len(cosines))


def quaternion_of_columns(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation nearest to two columns that need not be orthonormal (Gram-Schmidt).

    What a network puts out need not be a rotation. The first column keeps its direction; a column
    that has none of its own is replaced by a fixed one, so that zeros mean no rotation.

    Args:
        columns: Shape (6,).

    Returns:
        Unit quaternion x, y, z, w with w >= 0, shape (4,).
    """
    first = _direction(columns[:3], np.array([1.0, 0.0, 0.0]))
    second = columns[3:] - (first @ columns[3:]) * first
    upright = np.zeros(3)
    upright[1 if abs(first[1]) < 0.9 else 2] = 1.0
    fallback = _direction(upright - (first @ upright) * first, upright)
    second = _direction(second, fallback)
    matrix = np.stack([first, second, np.cross(first, second)], axis=1)
    # Each diagonal sum is 4 times the square of one component less 1; the largest is best known.
    xx, yy, zz = np.diag(matrix)
    squares = np.array([1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz])
    largest = int(squares.argmax())
    quaternion = _products(matrix)[largest]
    quaternion[largest] = squares[largest]
    quaternion /= np.sqrt(quaternion @ quaternion)
    return np.asarray(-quaternion if quaternion[3] < 0 else quaternion)


def quaternion_of_yaw(yaw: float) -> NDArray[np.float64]:
    """Return the turn by ``yaw``, in rad, about z: x, y, z, w with shape (4,)."""
    quaternion = np.array([0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)])
    return -quaternion if quaternion[3] < 0 else quaternion


def _direction(vector: NDArray[np.float64], fallback: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.sqrt(vector @ vector))
    return fallback if length < _SMALLEST else vector / length


def _products(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four times the products of a quaternion's different components, shape (4, 4)."""
    (_, xy, xz), (yx, _, yz), (zx, zy, _) = matrix
    return np.array(
        [
            [0.0, xy + yx, xz + zx, zy - yz],
            [xy + yx, 0.0, yz + zy, xz - zx],
            [xz + zx, yz + zy, 0.0, yx - xy],
            [zy - yz, xz - zx, yx - xy, 0.0],
        ]
    )
