from pathlib import Path

import pytest

from dql_core.errors import ConfigError
from dql_core.files import MARKER, replacing_directory


def finish(target: Path, text: str) -> None:
    with replacing_directory(target) as folder:
        (folder / MARKER).write_text(text)


def test_a_result_takes_the_place_of_the_previous_one_and_leaves_nothing_beside(
    tmp_path: Path,
) -> None:
    target = tmp_path / "runs" / "demo"
    finish(target, "first")
    (target / "leftover").touch()
    finish(target, "second")
    assert (target / MARKER).read_text() == "second"
    assert not (target / "leftover").exists()
    assert list(target.parent.iterdir()) == [target]


def interrupt(target: Path, error: type[BaseException]) -> None:
    with replacing_directory(target) as folder:
        (folder / MARKER).write_text("half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_demo_leaves_the_previous_result(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "demo"
    finish(target, "first")
    with pytest.raises(error):
        interrupt(target, error)
    assert (target / MARKER).read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_first_demo_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupt(tmp_path / "demo", KeyboardInterrupt)
    assert list(tmp_path.iterdir()) == []


def test_somebodys_own_folder_is_not_replaced(tmp_path: Path) -> None:
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter1.tex").write_text("dear")
    with pytest.raises(ConfigError, match="thesis: exists and is not a result of 'dql demo'"):
        finish(own, "demo")
    assert (own / "chapter1.tex").read_text() == "dear"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    finish(tmp_path / "demo", "first")
    assert (tmp_path / "demo" / MARKER).read_text() == "first"
