"""The first hour as it is typed, in small, and what it says is printed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dql_core.data.dataset import load_dataset
from dql_ros.processes import environment_of, own_domain
from tests.docs.shell_blocks import ROOT, blocks, shell

PAGE = ROOT / "docs" / "tutorials" / "first-hour.md"
# Installing, and the way to a folder of one's own.
PREPARATION = 2
SMALL = (
    ("run.steps=3000", "run.steps=30"),
    ("--episodes 50", "--episodes 2"),
    ("episodes:=8", "episodes:=4"),
)
TIMEOUT_S = 400


def typed() -> str:
    """All that is typed after the preparation, with fewer updates and episodes."""
    text = "".join(shell(PAGE)[PREPARATION:])
    for large, small in SMALL:
        assert large in text
        text = text.replace(large, small)
    return f"set -e\n{text}"


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder after a walk through the page, and what was printed."""
    folder = tmp_path_factory.mktemp("hour")
    with own_domain() as domain:
        environment = environment_of(domain) | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:.",
            "COLUMNS": "200",
        }
        with subprocess.Popen(
            ["bash", "-c", typed()],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, _ = process.communicate(timeout=TIMEOUT_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed
    return folder, printed


@pytest.mark.ros
@pytest.mark.slow
def test_the_walk_leads_to_a_policy_that_drives(walk: tuple[Path, str]) -> None:
    folder, _ = walk
    episodes = load_dataset(folder / "data/demonstrations").episodes
    assert len(episodes) == 60
    assert sum(episode.terminated for episode in episodes) > 50
    starts = {float(episode.observations[0, 0]) for episode in episodes}
    assert len(starts) == 60
    for policy in ("imitates", "chooses"):
        assert (folder / "policies" / policy / "manifest.json").is_file()
        assert (folder / "driven" / policy / "closed_loop.json").is_file()
    assert (folder / "looked_on/judge.html").is_file()


@pytest.mark.ros
@pytest.mark.slow
def test_what_the_page_shows_is_printed(walk: tuple[Path, str]) -> None:
    """Numbers apart."""
    _, printed = walk
    said = without_numbers(printed)
    for language, text in blocks(PAGE):
        if language == "text":
            for line in text.splitlines():
                parts = [part.strip() for part in without_numbers(line).split("…")]
                assert re.search(".*".join(map(re.escape, parts)), said), f"{line}\n\n{printed}"


def without_numbers(text: str) -> str:
    """A text with one sign for each number, and one space for many."""
    return re.sub(r"[ ─]+", " ", re.sub(r"-?\d[\d,]*(\.\d+)?", "0", text))


def test_the_preparation_leads_to_the_page_s_own_folder() -> None:
    install, folder = shell(PAGE)[:PREPARATION]
    assert "make setup" in install
    assert "cd runs/first-hour" in folder
    assert "PYTHONPATH=." in folder
