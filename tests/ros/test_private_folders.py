"""What others on the machine prepared among the temporary files is neither followed nor used."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dql_core.errors import SimulationError
from dql_ros.private_folders import open_lock, runtime_folder, temporary_folder
from dql_ros.processes import own_domain


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this folder be the one of the temporary files, without a runtime directory."""
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return folder


def ours(folder: Path) -> Path:
    return folder / f"dql_ros-{os.geteuid()}"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def take_a_domain() -> None:
    with own_domain():
        pass


def test_the_locks_lie_in_a_folder_of_this_user_alone(temporary: Path) -> None:
    before = os.umask(0)
    try:
        with own_domain() as domain:
            lock = ours(temporary) / f"domain-{domain}"
            assert (mode(ours(temporary)), mode(lock)) == (0o700, 0o600)
    finally:
        os.umask(before)


def test_the_runtime_directory_is_preferred(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    take_a_domain()
    assert os.listdir(runtime) == ["dql_ros"]
    assert mode(runtime / "dql_ros") == 0o700
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("prepared", ["open", "link", "missing", "file", "relative"])
def test_a_runtime_directory_that_is_not_this_users_alone_is_passed_over(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: str
) -> None:
    runtime = tmp_path / "runtime"
    if prepared == "open":
        runtime.mkdir()
        runtime.chmod(0o755)
    elif prepared == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        runtime.symlink_to("elsewhere")
    elif prepared == "file":
        runtime.touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "tmp" if prepared == "relative" else str(runtime))
    take_a_domain()
    assert os.listdir(temporary) == [ours(temporary).name]


@pytest.mark.parametrize("prepared", ["link", "open", "file", "dangling", "foreign"])
def test_a_prepared_folder_is_refused_in_one_line(
    temporary: Path, tmp_path: Path, prepared: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if prepared == "link":
        ours(temporary).symlink_to(elsewhere)
    elif prepared == "dangling":
        ours(temporary).symlink_to(tmp_path / "nowhere")
    elif prepared == "file":
        ours(temporary).touch()
    else:
        ours(temporary).mkdir()
        ours(temporary).chmod(0o777 if prepared == "open" else 0o700)
    if prepared == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(ours(temporary), 12345, 12345)
    words = r"dql_ros-\d+: is no folder of this user alone \(mode 0700\).*; remove it, or set XDG"
    with pytest.raises(SimulationError, match=words) as raised:
        take_a_domain()
    assert "\n" not in str(raised.value)
    assert os.listdir(elsewhere) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_prepared_lock_is_not_followed_and_its_target_keeps_its_content(
    temporary: Path, tmp_path: Path
) -> None:
    dear = tmp_path / "dear"
    dear.write_text("dear")
    ours(temporary).mkdir(mode=0o700)
    makers: dict[str, Callable[[Path], None]] = {
        "link": lambda path: path.symlink_to(dear),
        "hard": lambda path: path.hardlink_to(dear),
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
    }
    for name, make in makers.items():
        make(ours(temporary) / name)
        with (
            runtime_folder() as folder,
            pytest.raises(SimulationError, match=rf"{name}: is no plain file of this user"),
        ):
            open_lock(folder, name)
    assert dear.read_text() == "dear"


def test_the_content_of_a_lock_stays(temporary: Path) -> None:
    with runtime_folder() as folder:
        os.close(open_lock(folder, "lock"))
        (ours(temporary) / "lock").write_text("kept")
        os.close(open_lock(folder, "lock"))
    assert (ours(temporary) / "lock").read_text() == "kept"


CHILD = """
import sys
from dql_ros.private_folders import temporary_folder
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
