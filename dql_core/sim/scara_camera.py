"""Pictures of the SCARA arm at recorded joint angles; needs an OpenGL driver."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import mujoco
import numpy as np
from numpy.typing import NDArray

from dql_core.sim.scara import MODEL_FILE

Colour = tuple[float, float, float, float]

_TRAIL_HEIGHT_M = 0.002
_TRAIL_RADIUS_M = 0.0035


class ScaraCamera:
    """Renders the arm, the target and the trail of the tool; nothing is simulated.

    Use it as a context manager, so that the renderer is freed.
    """

    def __init__(self, width: int, height: int) -> None:
        """Make a camera for pictures of shape (height, width, 3)."""
        self._model = mujoco.MjModel.from_xml_path(str(MODEL_FILE))
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, height=height, width=width)

    def __enter__(self) -> ScaraCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self._renderer.close()

    def take(
        self,
        joints: NDArray[np.float64],
        target: NDArray[np.float64],
        trail: NDArray[np.float64],
        colour: Colour,
        camera: Literal["overview", "top"] = "overview",
    ) -> NDArray[np.uint8]:
        """Take a picture.

        Args:
            joints: Shoulder and elbow angle in rad, shape (2,).
            target: x and y in m, shape (2,).
            trail: Where the tool has been, x and y in m, shape (n, 2).
            colour: Of the trail: red, green, blue and opacity, each from 0 to 1.
            camera: One of the model's cameras.
        """
        self._data.qpos[:] = joints
        self._data.mocap_pos[0, :2] = target
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera)
        heights = np.full((len(trail), 1), _TRAIL_HEIGHT_M)
        points = np.hstack([trail, heights]).astype(np.float64)  # (n, 3)
        for start, end in pairwise(points):
            self._add_segment(start, end, colour)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def _add_segment(
        self, start: NDArray[np.float64], end: NDArray[np.float64], colour: Colour
    ) -> None:
        scene, kind = self._renderer.scene, mujoco.mjtGeom.mjGEOM_CAPSULE
        if scene.ngeom >= scene.maxgeom:
            return
        geom = scene.geoms[scene.ngeom]
        zeros, identity = np.zeros(3), np.eye(3).ravel()
        rgba = np.array(colour, dtype=np.float32)
        mujoco.mjv_initGeom(geom, kind, zeros, zeros, identity, rgba)
        mujoco.mjv_connector(geom, kind, _TRAIL_RADIUS_M, start, end)
        scene.ngeom += 1
