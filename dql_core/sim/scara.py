"""The SCARA arm's table, as in ``models/scara.xml``, and the arm's planar kinematics.

Textbook two-link geometry; needs no MuJoCo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UPPER_ARM_M = 0.30
FOREARM_M = 0.25
MODEL_FILE = Path(__file__).with_name("models") / "scara.xml"
CONTROL_PERIOD_S = 0.1
START_CENTRE = np.array([0.28, -0.20])  # m
TARGET_CENTRE = np.array([0.28, 0.20])  # m
REGION_HALF_WIDTH = 0.02  # m, of the squares that start and target are drawn from
POST_CENTRE = np.array([0.345, 0.0])  # m
POST_RADIUS = 0.075  # m
PEG_RADIUS = 0.012  # m
SUCCESS_RADIUS = 0.03  # m
Way = Literal["inner", "outer"]


def tip_position(joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Position of the tool on the table, x and y in m, shape (..., 2).

    Args:
        joints: Shoulder and elbow angle in rad, shape (..., 2).
    """
    shoulder, both = joints[..., 0], joints[..., 0] + joints[..., 1]
    x = UPPER_ARM_M * np.cos(shoulder) + FOREARM_M * np.cos(both)
    y = UPPER_ARM_M * np.sin(shoulder) + FOREARM_M * np.sin(both)
    return np.stack([x, y], axis=-1)


def tip_jacobian(joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Derivative of `tip_position` by the joints, shape (2, 2), in m/rad."""
    shoulder, both = joints[0], joints[0] + joints[1]
    elbow_x, elbow_y = -FOREARM_M * np.sin(both), FOREARM_M * np.cos(both)
    return np.array(
        [
            [-UPPER_ARM_M * np.sin(shoulder) + elbow_x, elbow_x],
            [UPPER_ARM_M * np.cos(shoulder) + elbow_y, elbow_y],
        ]
    )


def joints_at(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joint angles that put the tool at ``position``, with the elbow bent to the positive side.

    Args:
        position: x and y in m, shape (2,), between the arm's inner and outer reach.

    Returns:
        Shoulder and elbow angle in rad, shape (2,).
    """
    x, y = position
    cosine = (x * x + y * y - UPPER_ARM_M**2 - FOREARM_M**2) / (2 * UPPER_ARM_M * FOREARM_M)
    elbow = np.arccos(np.clip(cosine, -1.0, 1.0))
    lever = np.arctan2(FOREARM_M * np.sin(elbow), UPPER_ARM_M + FOREARM_M * np.cos(elbow))
    return np.array([np.arctan2(y, x) - lever, elbow])


def way_past_post(before: NDArray[np.float64], after: NDArray[np.float64]) -> Way | None:
    """On which side of the post the tool crossed the line from the base through the post.

    Args:
        before: Tool position, x and y in m, shape (2,).
        after: The next tool position, shape (2,).

    Returns:
        The side, or ``None`` when this step did not cross the line.
    """
    if not before[1] < POST_CENTRE[1] <= after[1]:
        return None
    return "inner" if after[0] < POST_CENTRE[0] else "outer"
