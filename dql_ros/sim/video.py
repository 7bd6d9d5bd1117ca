"""Films a simulated robot without slowing it, whatever the OpenGL driver does.

The states that are to be seen are appended to a file, and a process of its own
(`dql_ros.sim.film_process`) renders them as they come: a driver that ends its process ends no
simulation. That process finishes the film when the bridge closes its standard input, or dies.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from dql_core.errors import SimulationError, did_you_mean
from dql_core.leftovers import temporary_folder
from dql_core.process import ChildProcess
from dql_core.sim.model_quantities import names_of

logger = logging.getLogger(__name__)
# What of a simulation's state is kept: enough to render any instant, with mocap bodies.
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_MAX_FRAMES_PER_S = 30.0
# A film that takes longer is finished by its own process, after this one has ended.
_FINISH_TIMEOUT_S = 8.0


class SimVideo:
    """One film of a running simulation.

    Attributes:
        frames: How many pictures were asked for.

    Args:
        environment: What is simulated; must have a MuJoCo ``model`` and ``data``.
        out: The film (MP4); its folder must exist.
        rate_hz: How many instants a simulated second has.
        camera: Camera of the model; by default the first, or a free one.

    Raises:
        SimulationError: If there is no such camera or folder, or no MuJoCo model.
    """

    def __init__(self, environment: Any, out: Path, rate_hz: float, camera: str = "") -> None:
        bare = environment.unwrapped
        self._model: Any = getattr(bare, "model", None)
        self._data: Any = getattr(bare, "data", None)
        if self._model is None or self._data is None:
            raise SimulationError("only MuJoCo robots can be filmed: leave 'video' empty")
        cameras = names_of(self._model, "camera")
        if camera and camera not in cameras:
            raise SimulationError(
                f"the model has no camera '{camera}'{did_you_mean(camera, cameras)}"
            )
        if out.suffix != ".mp4" or not out.absolute().parent.is_dir():
            raise SimulationError(
                f"the video '{out}' must be an .mp4 file in a folder that exists"
            )
        self.frames = 0
        self._stride = max(1, int(np.ceil(rate_hz / _MAX_FRAMES_PER_S)))
        self._instants = 0
        self._row = np.empty(mujoco.mj_stateSize(self._model, STATE))
        self._folder = temporary_folder()
        model, rows = self._folder.path / "model.mjb", self._folder.path / "states"
        mujoco.mj_saveModel(self._model, str(model))
        self._spool = rows.open("wb", buffering=0)
        self._process = ChildProcess(
            "film",
            [
                *(sys.executable, "-m", "dql_ros.sim.film_process", str(model), str(rows)),
                *(str(out.absolute()), repr(rate_hz / self._stride), camera),
            ],
            {"MUJOCO_GL": "egl", **os.environ},
            has_input=True,
            # It may need the folder for longer than this process lives.
            pass_fds=[self._folder.descriptor],
        )

    def show(self) -> None:
        """Film the present instant, if it is the turn of a picture."""
        if self._instants % self._stride == 0 and not self.failure:
            mujoco.mj_getState(self._model, self._data, self._row, STATE)
            self._spool.write(self._row.tobytes())
            self.frames += 1
        self._instants += 1

    @property
    def failure(self) -> str:
        """Why there will be no film; empty while nothing is wrong."""
        return self._process.failure

    def close(self) -> bool:
        """Let the film be finished; say whether it is."""
        self._spool.close()
        self._process.end_input()
        if not self._process.wait(_FINISH_TIMEOUT_S):
            self._folder.leave()
            return False
        self._folder.remove()
        return not self.failure
