"""`dql dataset`: what is typed, what is printed, and the exit code."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dql_core.data.dataset import load_dataset, write_dataset
from tests.cli_process import dql
from tests.core.conftest import TINY_SPEC, tiny_episode
from tests.printed import words

LENGTHS = (5, 8, 6, 7)


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        episodes = [tiny_episode(rng, length, terminated=length == 8) for length in LENGTHS]
        write_dataset(tmp_path / name, episodes, TINY_SPEC)
    return tmp_path


def lengths(folder: Path) -> list[int]:
    return [len(episode) for episode in load_dataset(folder).episodes]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("merge one two", [*LENGTHS, *LENGTHS]),
        ("keep one --episode 1-2", [8, 6]),
        ("drop one --episode 0,3", [8, 6]),
        ("keep one --outcome terminated", [8]),
        ("drop one --min-length 6 --max-length 7", [5, 8]),
        ("keep one --min-return -1000 --max-return 1000", [*LENGTHS]),
        ("trim one --begin 1 --end 2", [2, 5, 3, 4]),
        ("trim one --end 1 --episode 2", [5, 8, 5, 7]),
    ],
)
def test_each_command_makes_what_it_says(place: Path, command: str, expected: list[int]) -> None:
    done = dql("dataset", *command.split(), "--out", "out", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert lengths(place / "out") == expected
    total = 8 if command.startswith("merge") else 4
    assert f"episodes {len(expected)} of {total}" in words(done.stdout)


def test_splitting_makes_a_dataset_of_each_part(place: Path) -> None:
    done = dql(
        "dataset", "split", "one", "--parts", "a=3,b=1", "--seed", "4", "--out", "out", cwd=place
    )
    assert done.returncode == 0
    parts = lengths(place / "out/a"), lengths(place / "out/b")
    assert [len(part) for part in parts] == [3, 1]
    assert sorted(parts[0] + parts[1]) == sorted(LENGTHS)


def test_labels_choose_where_there_are_some(place: Path) -> None:
    with h5py.File(place / "one/data/main_data.hdf5", "r+") as file:
        file["episode_1/infos/success"] = [False] * 7 + [True]
        file["episode_2/infos/success"] = False
        file["episode_2/infos/intervention"] = [True, False, False, False, False, True]
    done = dql("dataset", "keep", "one", "--outcome", "success", "--out", "good", cwd=place)
    assert lengths(place / "good") == [8]
    assert "note: 2 episodes without a labelled outcome: not selected" in done.stdout
    done = dql("dataset", "drop", "one", "--min-intervention", "0.3", "--out", "own", cwd=place)
    assert lengths(place / "own") == [5, 8, 7]
    assert "note: 3 episodes without the info 'intervention': not selected" in done.stdout


def test_score_prints_the_ranking_and_leaves_page_and_json(place: Path) -> None:
    done = dql(
        "dataset", "score", "one", "--by", "jerk", "--show", "0-1", "--out", "out", cwd=place
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((place / "out/score.json").read_text())
    jerks = [each["jerk"] for each in document["episodes"]]
    assert jerks == sorted(jerks, reverse=True)
    assert "4 episodes: places among so few say little" in done.stdout
    assert "out/score.html" in done.stdout
    assert (place / "out/score.html").read_text().count("<div class='column episode'>") == 2


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("keep one --outcome success", "no episode has the info 'success'"),
        ("drop one --max-intervention 0.5", "no episode has the info 'intervention'"),
        ("keep one", "keep needs a rule"),
        ("keep one --episode 9", "has no episode 9"),
        ("keep one --min-length 9", "nothing would be left"),
        ("trim one --begin 5", "dql dataset drop one --max-length 5 --out DIR"),
        ("merge one", "name another one"),
        ("merge one nowhere", "neither a folder nor a local Minari id"),
        ("split one --parts train", "'train' is no part"),
        ("split one --parts a=1,a=2", "named twice"),
        ("split one --parts a=x,b=1", "'a=x' is no part"),
        ("score one --show 4", "has no episode 4"),
        ("score one --by beauty", "beauty"),
        ("score one --out one/data/score", "lies inside the dataset one"),
        ("polish one", "No such command"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(place: Path, command: str, text: str) -> None:
    done = dql("dataset", *command.split()[:2], "--out", "out", *command.split()[2:], cwd=place)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in place.iterdir()) == ["one", "two"]
    assert sorted(path.name for path in (place / "one/data").iterdir()) == [
        "main_data.hdf5",
        "metadata.json",
    ]
