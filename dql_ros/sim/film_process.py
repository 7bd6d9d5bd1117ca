"""Renders the states of a simulation into a film while they are being written.

    python -m dql_ros.sim.film_process MODEL.mjb STATES OUT.mp4 FRAMES_PER_S CAMERA

It ends when its standard input does and all states are rendered. Rendering needs an OpenGL driver,
and a missing one can end the process that asks for it, so that `SimVideo` starts this one.
"""

from __future__ import annotations

import select
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import mujoco
import numpy as np
from numpy.typing import NDArray

from dql_core.sim.physics import log_warnings
from dql_ros.sim.video import STATE

Picture = NDArray[np.uint8]
_WIDTH, _HEIGHT = 640, 480
_POLL_S = 0.1


def states(path: Path, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield the states in a growing file, shape (width,), until standard input ends."""
    size = width * np.dtype(np.float64).itemsize
    ended = False
    with path.open("rb") as file:
        rest = b""
        while True:
            rest += file.read(size - len(rest))
            if len(rest) == size:
                yield np.frombuffer(rest)
                rest = b""
            elif ended:
                return
            else:
                ended = _input_ended()


def film(model_path: Path, spool: Path, out: Path, frames_per_s: float, camera: str) -> None:
    """Render all states; the film appears when it is complete."""
    log_warnings()
    model: Any = mujoco.MjModel.from_binary_path(str(model_path))
    # A model may ask for a smaller picture off the screen than this.
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, _WIDTH)
    model.vis.global_.offheight = max(model.vis.global_.offheight, _HEIGHT)
    data = mujoco.MjData(model)
    view: str | int = camera or (0 if model.ncam else -1)
    with mujoco.Renderer(model, _HEIGHT, _WIDTH) as renderer:

        def picture(state: NDArray[np.float64]) -> Picture:
            mujoco.mj_setState(model, data, state, STATE)
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, view)
            return renderer.render()  # type: ignore[no-any-return]

        write_film(
            out, map(picture, states(spool, mujoco.mj_stateSize(model, STATE))), frames_per_s
        )


def write_film(
    out: Path, pictures: Iterable[Picture], frames_per_s: float, quality: int = 7
) -> None:
    """Write an MP4 file, which appears when it is complete."""
    unfinished = unfinished_film(out)
    try:
        writer: Any = imageio.get_writer(
            unfinished, format="FFMPEG", fps=frames_per_s, quality=quality, macro_block_size=2
        )
        with writer:
            for picture in pictures:
                writer.append_data(picture)
        unfinished.rename(out)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_film(out: Path) -> Path:
    """Where the film ``out`` is while it is being made; its ending names the format."""
    return out.with_name(f".{out.name}")


def _input_ended() -> bool:
    """Wait a moment; say whether the other end of standard input was closed."""
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
    return bool(readable) and not sys.stdin.buffer.read(1)


def main() -> None:
    """Run the process."""
    model, spool, out, frames_per_s, camera = sys.argv[1:]
    try:
        film(Path(model), Path(spool), Path(out), float(frames_per_s), camera)
    finally:
        # The bridge may have ended long before.
        shutil.rmtree(Path(spool).parent, ignore_errors=True)


if __name__ == "__main__":
    main()
