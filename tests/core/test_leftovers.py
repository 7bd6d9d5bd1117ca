"""What a killed process leaves is removed by the next one, and nothing else is."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dql_core import leftovers
from dql_core.files import atomic_directory, write_text
from dql_core.leftovers import remove_leftovers, remove_partial, unfinished_file, unfinished_folder

# Makes an output, tells that it is unfinished, and waits to be killed.
CHILD = """
import sys
from pathlib import Path
from dql_core.files import atomic_directory
with atomic_directory(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def started(target: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that is at work at ``target``; return it and its unfinished folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


def finish(target: Path) -> None:
    with atomic_directory(target) as folder:
        (folder / "whole").touch()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    process, half = started(tmp_path / "out")
    end(process)
    assert (half / "half").is_file()
    finish(tmp_path / "other")
    assert os.listdir(tmp_path) == ["other"]


def test_a_folder_that_holds_only_what_a_killed_process_left_is_free(tmp_path: Path) -> None:
    process, half = started(tmp_path / "out" / "data")
    end(process)
    assert half.parent == tmp_path / "out"
    finish(tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["whole"]


def test_what_a_living_process_works_at_stays(tmp_path: Path) -> None:
    process, half = started(tmp_path / "out")
    try:
        finish(tmp_path / "other")
        write_text(tmp_path / "text", "1")
        remove_partial(tmp_path)
        assert (half / "half").is_file()
    finally:
        end(process)


def test_a_child_that_was_given_the_folder_keeps_it(tmp_path: Path) -> None:
    folder = unfinished_folder(tmp_path, ".film.partial")
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=[folder.descriptor],
    ) as child:
        folder.leave()
        remove_leftovers(tmp_path)
        assert folder.path.is_dir()
        child.kill()
        child.wait()
    remove_leftovers(tmp_path)
    assert not folder.path.exists()


def forsaken(folder: Path, stem: str = ".out.partial") -> Path:
    """Leave a file without its lock, as a killed process does."""
    left = unfinished_file(folder, stem)
    left.leave()
    return left.path


def test_another_machines_and_other_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "_machine", lambda: "0" * 8)
    theirs = forsaken(tmp_path)
    monkeypatch.undo()
    ours = forsaken(tmp_path)
    for name in ("out.partial-1", ".out.partial", f"x{ours.name}", f"{ours.name}.txt", ".ssh"):
        (tmp_path / name).touch()
    before = set(os.listdir(tmp_path))
    remove_leftovers(tmp_path)
    assert before - set(os.listdir(tmp_path)) == {ours.name}
    assert theirs.exists()


def test_a_link_of_such_a_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "thesis").touch()
    name = forsaken(tmp_path).name
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("dear")
    remove_leftovers(tmp_path)
    assert (tmp_path / "dear" / "thesis").is_file()
    assert (tmp_path / name).is_symlink()


def test_a_pipe_of_such_a_name_is_not_waited_for(tmp_path: Path) -> None:
    name = forsaken(tmp_path).name
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    remove_leftovers(tmp_path)
    assert (tmp_path / name).is_fifo()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_stay(tmp_path: Path) -> None:
    left = forsaken(tmp_path)
    os.chown(left, 12345, 12345)
    remove_leftovers(tmp_path)
    assert left.exists()


def test_one_that_is_taken_for_a_leftover_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_lock = fcntl.flock
    taken: list[int] = []

    def late_lock(descriptor: int, how: int) -> None:
        if not taken:
            taken.append(descriptor)
            for path in tmp_path.iterdir():
                path.rmdir()
        real_lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late_lock)
    folder = unfinished_folder(tmp_path, ".out.partial")
    assert list(tmp_path.iterdir()) == [folder.path]
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_without_locks_nothing_is_taken_for_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with atomic_directory(tmp_path / "out") as folder:
        (folder / "a").touch()
        remove_leftovers(tmp_path)
        remove_partial(tmp_path)
    assert (tmp_path / "out" / "a").is_file()


def test_what_nobody_refers_to_any_more_is_removed(tmp_path: Path) -> None:
    folder = unfinished_folder(tmp_path, "dql_ros", mode=0o700)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    del folder
    assert list(tmp_path.iterdir()) == []
