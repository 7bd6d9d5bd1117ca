"""Films of simulated robots; where there is no OpenGL driver, that is told and nothing breaks."""

import subprocess
from pathlib import Path

import gymnasium
import imageio_ffmpeg  # type: ignore[import-untyped]  # it has no types
import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.errors import SimulationError
from dql_core.sim import SCARA_ID
from dql_ros.sim.video import SimVideo


def film(out: Path, steps: int) -> SimVideo:
    environment = gymnasium.make(SCARA_ID)
    environment.reset(seed=0)
    video = SimVideo(environment, out, rate_hz=60.0, camera="top")
    for _ in range(steps):
        environment.step(np.array([1.0, -1.0]))
        video.show()
    return video


def pictures(path: Path) -> tuple[NDArray[np.float64], str]:
    """Return a film's pictures, and what ffmpeg says of it."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo"]
    done = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    raw = np.frombuffer(done.stdout, np.uint8)
    return raw.reshape(-1, 480, 640, 3).astype(np.float64), done.stderr.decode()


def test_a_film_has_every_second_instant_of_a_fast_robot(tmp_path: Path) -> None:
    out = tmp_path / "film.mp4"
    video = film(out, steps=20)
    assert video.frames == 10
    if not video.close():
        assert video.failure
        pytest.skip(f"no pictures can be rendered here: {video.failure}")
    frames, description = pictures(out)
    assert "30 fps" in description
    assert len(frames) == 10
    # The arm is seen to move.
    assert np.abs(frames[-1] - frames[0]).mean() > 0.5
    assert list(tmp_path.iterdir()) == [out]


def test_a_driver_that_fails_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "none-such")
    video = film(tmp_path / "film.mp4", steps=4)
    assert not video.close()
    assert "none-such" in video.failure
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("env", "out", "camera", "words"),
    [
        ("Pendulum-v1", "a.mp4", "", "only MuJoCo robots can be filmed"),
        (SCARA_ID, "a.mp4", "tpo", r"no camera 'tpo' \(did you mean 'top'\?\)"),
        (SCARA_ID, "a.gif", "", r"must be an \.mp4 file in a folder that exists"),
        (SCARA_ID, "no/a.mp4", "", r"must be an \.mp4 file in a folder that exists"),
    ],
)
def test_what_cannot_be_filmed_is_refused(
    tmp_path: Path, env: str, out: str, camera: str, words: str
) -> None:
    with pytest.raises(SimulationError, match=words):
        SimVideo(gymnasium.make(env), tmp_path / out, 10.0, camera)
