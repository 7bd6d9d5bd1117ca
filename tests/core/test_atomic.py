import errno
import os
import resource
from pathlib import Path

import pytest

from dql_core.errors import BundleError, OutputError
from dql_core.files import atomic_directory, require_room, write_text


def test_a_folder_appears_when_its_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "out" / "run"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path: Path) -> None:
    target = tmp_path / "run"
    target.mkdir()
    with atomic_directory(target) as folder:
        (folder / "a").touch()
    words = "run: already exists; name another --out folder or remove it"
    with pytest.raises(OutputError, match=words), atomic_directory(target):
        pass
    with pytest.raises(BundleError, match=words), atomic_directory(target, error=BundleError):
        pass
    assert list(tmp_path.iterdir()) == [target]


def test_what_comes_meanwhile_is_kept_and_named(tmp_path: Path) -> None:
    target = tmp_path / "run"

    def write(foreign: Path) -> None:
        with atomic_directory(target, error=BundleError) as folder:
            (folder / "a").touch()
            foreign.mkdir()
            (foreign / "b").touch()

    with pytest.raises(BundleError, match="run: already exists; name another --out folder"):
        write(target)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [
        Path("run"),
        Path("run/b"),
    ]


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "run") as folder:
            (folder / "a").touch()
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "spec.json"
    for text in ("old", "new"):
        write_text(target, text)
        assert target.read_text() == text
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_made_above_a_folder_that_fails_goes_with_it(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "new" / "out" / "run"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def killed_between_the_renames(target: Path) -> None:
    """Leave what a process leaves that is killed just before the new result is in its place."""
    (target / "summary.json").write_text("previous")
    target.rename(target.with_name(f".{target.name}.replaced"))


def test_a_replacement_that_was_killed_midway_brings_the_previous_result_back(
    tmp_path: Path,
) -> None:
    target = tmp_path / "demo"
    target.mkdir()
    killed_between_the_renames(target)

    def fail() -> None:
        with atomic_directory(target, replace=True):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (target / "summary.json").read_text() == "previous"
    with atomic_directory(target, replace=True) as folder:
        (folder / "summary.json").write_text("new")
    assert (target / "summary.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_device_or_a_link_prepared_for_the_unfinished_file_is_not_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "pipe").symlink_to("/dev/null")
    with pytest.raises(OutputError, match=r"pipe: is not a regular file; name another file"):
        write_text(tmp_path / "pipe", "text")
    # The name that it had before there were random ones.
    (tmp_path / "dear").write_text("dear")
    (tmp_path / f".out.partial-{os.getpid()}").symlink_to("dear")
    write_text(tmp_path / "out", "text")
    assert (tmp_path / "dear").read_text() == "dear"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_what_only_writing_ends_in_names_the_output_and_the_remedy(
    tmp_path: Path, number: int
) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "out"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match=rf"out: cannot be written: {os.strerror(number)}; \w"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_not_told_of_the_output(tmp_path: Path) -> None:
    def read() -> None:
        with atomic_directory(tmp_path / "out"):
            (tmp_path / "bag.mcap").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"bag\.mcap"):
        read()


@pytest.mark.parametrize("name", ["x" * 250, "x" * 300])
def test_too_long_a_name_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"File name too long; give a shorter name"):
        write_text(tmp_path / name, "text")
    with (
        pytest.raises(OutputError, match=r"File name too long; give a shorter name"),
        atomic_directory(tmp_path / name),
    ):
        pass


def test_where_nothing_can_be_made_is_told() -> None:
    target = Path("/proc/out")
    with pytest.raises(OutputError, match=r"^/proc/out: cannot be written: .*; check the name$"):
        write_text(target, "")
    with (
        pytest.raises(OutputError, match=r"^/proc/out: cannot be written: .*; check the name$"),
        atomic_directory(target),
    ):
        pass


def test_a_file_where_a_folder_must_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = r"out: cannot be written: .*Not a directory; a file is where a folder must be"
    with pytest.raises(OutputError, match=words), atomic_directory(tmp_path / "file" / "out"):
        pass
    with pytest.raises(OutputError, match=words):
        write_text(tmp_path / "file" / "out", "text")


def test_room_is_asked_for_with_what_the_file_has_already(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        require_room(tmp_path, 6_000)
        with pytest.raises(OSError, match="File too large"):
            require_room(tmp_path, 6_000, written_bytes=6_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
