"""A film of recorded episodes, two policies or more side by side.

    python -m dql_ros.demo.film OUT.mp4 EPISODES LABEL=DATASET...

It replays recorded joint angles; nothing is simulated again. Rendering needs an OpenGL driver, and
a missing one can end the process that asks for it: `make_video` starts one for that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dql_core.data.dataset import Episode, LoadedDataset, load_dataset
from dql_core.process import ChildProcess, ChildProcesses
from dql_core.sim.scara_camera import Colour, ScaraCamera
from dql_ros.demo.rollouts import JOINTS, TARGET, Outcome, outcome_of, tool_path
from dql_ros.sim.film_process import Picture, unfinished_film, write_film

POSTER_SUFFIX = ".png"
_FRAMES_PER_S = 20
_HOLD_FRAMES = 14  # on the last instant of an episode
_WIDTH, _HEIGHT, _HEADER = 512, 384, 44  # of a panel, in pixels
_INK, _PAPER = (31, 41, 51), (255, 255, 255)
_TRAIL: Colour = (0.13, 0.40, 0.69, 1.0)
_VERDICTS: dict[Outcome, tuple[str, tuple[int, int, int]]] = {
    "success": ("reached the target", (42, 157, 99)),
    "collision": ("hit the post", (208, 69, 63)),
    "timeout": ("ran out of time", (201, 138, 24)),
}
_TIMEOUT_S = 180.0


def film(
    policies: Mapping[str, LoadedDataset], episodes: int, camera: ScaraCamera
) -> Iterator[list[Picture]]:
    """Yield the frames of one episode after the other, all policies at the same time.

    Args:
        policies: What each policy did, by its name for people.
        episodes: How many episodes to show at most.
        camera: Takes the pictures.
    """
    shown = (dataset.episodes[:episodes] for dataset in policies.values())
    for together in zip(*shown, strict=True):
        panels = [
            list(_panel_frames(label, dataset.spec.rate_hz, episode, camera))
            for (label, dataset), episode in zip(policies.items(), together, strict=True)
        ]
        count = max(map(len, panels)) + _HOLD_FRAMES
        yield [
            np.hstack([frames[min(number, len(frames) - 1)] for frames in panels])
            for number in range(count)
        ]


def _panel_frames(
    label: str, rate_hz: float, episode: Episode, camera: ScaraCamera
) -> Iterator[Picture]:
    """Yield the frames of one episode of one policy; the last one says how it ended."""
    times = np.arange(len(episode) + 1) / rate_hz
    path = tool_path(episode)
    joints, target = episode.observations[:, JOINTS], episode.observations[-1, TARGET]
    instants = np.append(np.arange(0.0, times[-1], 1.0 / _FRAMES_PER_S), times[-1])
    for instant in instants:
        pose = np.array([np.interp(instant, times, joints[:, joint]) for joint in (0, 1)])
        trail = path[: np.searchsorted(times, instant, side="right")]
        picture = camera.take(pose, target.astype(np.float64), trail, _TRAIL)
        outcome = outcome_of(episode) if instant == times[-1] else None
        yield _labelled(picture, label, outcome)


def _labelled(picture: Picture, label: str, outcome: Outcome | None) -> Picture:
    """Put the policy's name above a picture, and how the episode ended."""
    panel = Image.new("RGB", (_WIDTH, _HEIGHT + _HEADER), _PAPER)
    panel.paste(Image.fromarray(picture), (0, _HEADER))
    draw = ImageDraw.Draw(panel)
    draw.text((16, _HEADER / 2), label, fill=_INK, anchor="lm", font=ImageFont.load_default(22))
    if outcome is not None:
        text, colour = _VERDICTS[outcome]
        font = ImageFont.load_default(20)
        draw.text((_WIDTH - 16, _HEADER / 2), text, fill=colour, anchor="rm", font=font)
    return np.asarray(panel)


def _frames(scenes: Iterator[list[Picture]], out: Path) -> Iterator[Picture]:
    """Yield all frames; the end of the first scene becomes a still picture beside the film."""
    for number, frames in enumerate(scenes):
        if number == 0:
            imageio.imwrite(out.with_suffix(POSTER_SUFFIX), frames[-1])
        yield from frames


def main() -> None:
    """Run the process."""
    out, count, *pairs = sys.argv[1:]
    labelled = (pair.partition("=") for pair in pairs)
    policies = {label: load_dataset(folder) for label, _, folder in labelled}
    with ScaraCamera(_WIDTH, _HEIGHT) as camera:
        frames = _frames(film(policies, int(count), camera), Path(out))
        write_film(Path(out), frames, _FRAMES_PER_S, quality=8)


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
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    try:
        with ChildProcesses() as children:
            child = children.add(lambda: ChildProcess("video", command, environment))
            if not child.wait(_TIMEOUT_S):
                return f"rendering took more than {_TIMEOUT_S:.0f} s"
    finally:
        unfinished_film(out).unlink(missing_ok=True)
    return child.failure or ("" if out.is_file() else child.last_words)


if __name__ == "__main__":
    main()
