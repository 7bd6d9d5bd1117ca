"""Where things stand on the SCARA arm's table, as in ``models/scara.xml``; needs no MuJoCo."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
