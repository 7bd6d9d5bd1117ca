"""Verbs whose output cannot be written: one line with the path and the remedy, and nothing left.

On file systems of their own, full or read-only, where this user may mount any.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_process import dql
from tests.ros.cli.verb_inputs import CONTRACT, ROOT, make_inputs
from tests.ros.convert.test_convert import ARM, Robot

pytestmark = pytest.mark.slow

# Enough to begin with; the dataset of the episode below takes more.
DISK_KB = 64
VERBS = {
    "import": "import flat.npz --format npz --out {out}",
    "relabel": "relabel data --reward dql_core.rewards:action_cost --argument weights=0.1 "
    "--out {out}",
    "dataset": "dataset keep data --episode 0 --out {out}",
    "convert": "convert arm.yaml bag --out {out}",
    "train": "train tiny.yaml --dataset data --out {out}",
    "judge": "judge run --dataset data --out {out}",
    "export": "export run --out {out}",
    "layout": f"layout {CONTRACT} {{out}}.json",
    "evaluate": "evaluate run --env {env} --episodes 1 --json {out}.json",
    "closed-loop": f"closed-loop bundle --contract {CONTRACT} --out {{out}}",
    "contract": "contract init bag --out {out}.yaml",
    "demo": "demo --out {out}",
}
# The others write only at their end, or say it in words of their own.
QUICK = [verb for verb in VERBS if verb not in {"evaluate", "contract"}]
FILLED = ["import", "relabel", "dataset", "convert", "train", "export", "layout", "contract"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, record: object, blank: object) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    make_inputs(folder, 3000)
    (folder / "arm.yaml").write_text(ARM.read_text())
    robot = Robot(blank)  # type: ignore[arg-type]
    record(folder / "bag", robot.run({"terminated": 1500}, seed=0))  # type: ignore[operator]
    return folder


def mounted(folder: Path, options: str) -> bool:
    return (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a file system that is nearly full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or not mounted(folder, f"size={DISK_KB}k"):
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that cannot be written, to root by its file system."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
    elif mounted(folder, "ro"):
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        pytest.skip("root can write every folder here")


def run(verb: str, place: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return dql(*VERBS[verb].format(out=out, env="Pendulum-v1").split(), cwd=place)


def require_one_line(done: subprocess.CompletedProcess[str], out: Path, words: str) -> None:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("dql: ")
    assert str(out) in line
    assert words in line
    assert "internal error" not in line


@pytest.mark.parametrize("verb", QUICK)
def test_a_folder_that_cannot_be_written(verb: str, place: Path, read_only: Path) -> None:
    done = run(verb, place, read_only / "new" / "out")
    words = "Read-only file system; name a place" if os.geteuid() == 0 else "Permission denied"
    require_one_line(done, read_only, words)
    assert list(read_only.iterdir()) == []


@pytest.mark.parametrize("verb", FILLED)
@pytest.mark.parametrize("left_kb", [0, 8, 32])
def test_a_disk_that_becomes_full(verb: str, place: Path, disk: Path, left_kb: int) -> None:
    """At its first bytes, or in the middle."""
    (disk / "fill").write_bytes(bytes(1024 * (DISK_KB - left_kb)))
    done = run(verb, place, disk / "out")
    left = {path.name for path in disk.iterdir()} - {"fill"}
    if done.returncode == 0 and left_kb and verb in {"layout", "contract"}:
        assert len(left) == 1  # that is room enough
        return
    require_one_line(done, disk, "; free some room, or name another place")
    # A training that began can go on once there is room.
    assert not left or f"then resume: dql train --resume {disk / 'out'}" in done.stderr


@pytest.mark.parametrize("verb", QUICK)
def test_a_file_where_a_folder_must_be(verb: str, place: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(verb, place, tmp_path / "file" / "out")
    require_one_line(done, tmp_path / "file", "; ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("verb", ["layout", "import"])
def test_a_name_that_is_too_long(verb: str, place: Path, tmp_path: Path) -> None:
    done = run(verb, place, tmp_path / ("x" * 300))
    require_one_line(done, tmp_path, "File name too long; give a shorter name")


def test_standard_output_on_a_full_disk(place: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dql_ros.cli.main", "inspect", str(CONTRACT)],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "dql: No space left on device; free some room, or name another place"
    ]
