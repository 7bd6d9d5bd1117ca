"""Commands of how-to pages that are quick are run, one after the other, as they are typed.

The tutorials have tests of their own: `test_first_hour.py`, and `tests/benchmarks/test_wheel.py`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dql_core.data.dataset import load_dataset, write_dataset
from tests.cli_process import dql
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.docs.shell_blocks import ROOT, blocks, commands, shell

HOW_TO = ROOT / "docs" / "how-to"
CONTRACTS = ROOT / "config" / "contracts"
FLIGHTS = ROOT.parent / "shared" / "data" / "bags" / "crazyflie"


def typed(page: str) -> list[list[str]]:
    """The words after ``dql`` of each such command of a page."""
    found = (words for text in shell(HOW_TO / page) for words in commands(text))
    return [words[1:] for words in found if words[0] == "dql"]


def run(words: Sequence[str], folder: Path) -> str:
    """Run a command in a folder, with its patterns expanded; return what it printed."""
    spread = [
        str(path.relative_to(folder)) if "*" in word else word
        for word in words
        for path in (sorted(folder.glob(word)) if "*" in word else [folder])
    ]
    done = dql(*spread, cwd=folder)
    assert done.returncode == 0, f"{' '.join(spread)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_dataset_is_curated_as_the_page_tells(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 30, 400)
    episodes = [tiny_episode(rng, int(length), terminated=length > 12) for length in lengths]
    (tmp_path / "runs/demo").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "runs/demo/dataset", episodes, TINY_SPEC)
    for words in typed("curate-a-dataset.md"):
        run(words, tmp_path)
    kept = [
        index
        for index, episode in enumerate(episodes)
        if index not in (342, 379) and episode.rewards.sum() >= 0
    ]
    for name in ("good", "again"):
        assert len(load_dataset(tmp_path / "data" / name).episodes) == len(kept)
    cut = load_dataset(tmp_path / "data/cut").episodes
    trimmed = [length - 2 if length <= 12 else length for length in lengths[kept]]
    assert [len(each) for each in cut] == trimmed
    assert 0 < sum(lengths[kept] <= 12) < len(kept)
    for words in typed("exchange-datasets.md")[-1:]:
        shutil.copytree(tmp_path / "data/good", tmp_path / "data/arm")
        run(words, tmp_path)
    assert (tmp_path / "data/arm-lerobot/meta/info.json").is_file()


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.skipif(not FLIGHTS.is_dir(), reason="no recordings in ../shared/data/bags")
def test_the_flights_are_converted_as_the_page_tells(tmp_path: Path) -> None:
    shutil.copytree(FLIGHTS, tmp_path / "flights")
    printed = ""
    for words in typed("convert-my-robots-bags.md"):
        if "my_bag" in words:
            continue  # of packages that are not here
        small = ["--set", "run.steps=20"] if words[0] == "train" else []
        printed += run([*words, *small], tmp_path)
    said = " ".join(printed.split())
    for language, text in blocks(HOW_TO / "convert-my-robots-bags.md"):
        if language == "text":
            for line in text.splitlines():
                for part in line.split("…"):
                    assert " ".join(part.strip("─ ").split()) in said, f"{line}\n\n{printed}"


def test_layouts_and_policies_are_made_as_the_pages_tell(tmp_path: Path) -> None:
    shutil.copy(CONTRACTS / "scara.yaml", tmp_path / "arm.yaml")
    for words in (*typed("look-at-a-recording.md"), *typed("secure-with-sros2.md")):
        if words[0] not in {"inspect", "watch"}:  # which tests of their own run
            run(words, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("arm.yaml", "arm.json", "arm.xml", "arm.policy.xml")
    }
