"""`dql replay` as a process: what it prints, makes and refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli_process import dql
from tests.ros.convert.test_convert import ARM, Robot, without
from tests.ros.untrained import untrained_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", name="place")
def _place(
    tmp_path_factory: pytest.TempPathFactory,
    blank: Callable[[str], Any],
    record: Callable[..., Path],
) -> Path:
    """A folder with a bundle, its contract and another, and bags, of which one lacks a topic."""
    folder = tmp_path_factory.mktemp("replay")
    robot = Robot(blank)
    record(folder / "a", robot.run({"terminated": 20}))
    record(folder / "b", robot.run({"terminated": 15}, seed=1))
    record(folder / "stateless", without(robot.run({"terminated": 20}), "/joint_states"))
    record(folder / "empty", [])
    (folder / "arm.yaml").write_text(ARM.read_text())
    (folder / "wider.yaml").write_text(ARM.read_text().replace("high: 2.0", "high: 3.0"))
    untrained_bundle(folder, ARM)
    (folder / "taken").mkdir()
    (folder / "taken" / "file").touch()
    return folder


def test_bags_are_replayed_into_a_folder_without_ros(place: Path) -> None:
    words = ("replay", "bundle", "a", "b", "--contract", "arm.yaml", "--seed", "3", "--out")
    done = dql(*words, "out", cwd=place, environment=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    for said in ("a replayed", "b replayed", "21 at 20 Hz", "running 100.0%", "over 16 ticks"):
        assert said in done.stdout
    assert sorted(os.listdir(place / "out")) == [
        "replay.csv",
        "replay.json",
        "replay_0",
        "replay_0.png",
        "replay_1",
        "replay_1.png",
    ]
    assert dql(*words, "again", cwd=place).returncode == 0
    table = (place / "out" / "replay.csv").read_bytes()
    assert (place / "again" / "replay.csv").read_bytes() == table


@pytest.mark.parametrize(
    ("bag", "contract", "out", "words"),
    [
        ("stateless", "arm.yaml", "new", "stateless: no topic /joint_states"),
        ("empty", "arm.yaml", "new", "empty: no topic /joint_states"),
        ("none", "arm.yaml", "new", "none"),
        ("a", "wider.yaml", "new", "action field 0 ('shoulder_velocity') high"),
        ("a", "scara.yaml", "new", "bundle bundle"),
        ("a", "arm.yaml", "taken", "taken: already exists; name another --out folder"),
    ],
)
def test_a_mistake_is_one_line_and_makes_nothing(
    place: Path, bag: str, contract: str, out: str, words: str
) -> None:
    before = sorted(os.listdir(place))
    done = dql("replay", "bundle", "a", bag, "--contract", contract, "--out", out, cwd=place)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("dql: ")
    assert words in line
    assert sorted(os.listdir(place)) == before
