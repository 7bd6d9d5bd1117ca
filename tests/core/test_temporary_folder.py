"""The temporary folder of a process is its user's alone, and goes with the process."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dql_core.leftovers import temporary_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this folder be the one of the temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


CHILD = """
import sys
from dql_core.leftovers import temporary_folder
folder = temporary_folder()
(folder.path / "log").touch()
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_the_temporary_folder_of_a_killed_process_is_removed_by_the_next(
    temporary: Path,
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    left = Path(child.stdout.readline().strip())
    assert left.parent == temporary
    assert mode(left) == 0o700
    alive = temporary_folder()
    assert left.is_dir()
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    assert left.is_dir()
    new = temporary_folder()
    assert set(temporary.iterdir()) == {alive.path, new.path}
    for each in (alive, new):
        each.remove()
    assert list(temporary.iterdir()) == []


def test_a_foreign_folder_of_such_a_name_stays(temporary: Path) -> None:
    name = temporary_folder().path.name  # nobody refers to it, so it is gone at once
    (temporary / "dear").mkdir()
    (temporary / "dear" / "thesis").touch()
    (temporary / name).symlink_to("dear")
    (temporary / "dql_ros-film").mkdir()
    temporary_folder().remove()
    assert (temporary / "dear" / "thesis").is_file()
    assert (temporary / "dql_ros-film").is_dir()
