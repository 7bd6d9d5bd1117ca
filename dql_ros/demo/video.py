"""Makes the demo's film in a process of its own, because a broken OpenGL driver may end it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dql_ros.processes import NodeProcess, start_process

_TIMEOUT_S = 180.0


def unfinished_film(out: Path) -> Path:
    """Where the film ``out`` is while it is being made; its ending names the format."""
    return out.with_name(f".{out.name}")


def make_video(out: Path, datasets: Mapping[str, Path], episodes: int) -> str:
    """Film the first episodes of each dataset.

    Args:
        out: The film (MP4); a still picture (PNG) is left beside it.
        datasets: Dataset folders by the policies' names for people.
        episodes: How many episodes to show.

    Returns:
        Nothing, or why there is no film.
    """
    pairs = [f"{label}={path}" for label, path in datasets.items()]
    command = [sys.executable, "-m", "dql_ros.demo.film", str(out), str(episodes), *pairs]
    processes: list[NodeProcess] = []
    try:
        process = start_process(processes, "video", command, os.environ | {"MUJOCO_GL": "egl"})
        if not process.wait(_TIMEOUT_S):
            return f"rendering took more than {_TIMEOUT_S:.0f} s"
    finally:
        for process in processes:
            process.stop()
        unfinished_film(out).unlink(missing_ok=True)
    if process.exit_code == 0 and out.is_file():
        return ""
    return f"{process.last_words} (code {process.exit_code})"
