import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dql_core.data.dataset import load_dataset
from tests.ros.convert.held_conversion import Workplace
from tests.ros.convert.test_convert import ARM, Robot, run_dql, without

pytestmark = pytest.mark.slow


@pytest.fixture
def bags(
    tmp_path: Path,
    blank: Callable[[str], Any],
    record: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Four bags in the working directory; the second lacks a topic, the last is empty."""
    robot = Robot(blank)
    record(tmp_path / "a", robot.run({"terminated": 4}))
    record(tmp_path / "b", without(robot.run({"terminated": 4}), "/reward"))
    record(tmp_path / "c", robot.run({"truncated": 3}, seed=1))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "d_0.mcap").touch()
    monkeypatch.chdir(tmp_path)
    return ["a", "b", "c", "d"]


def made(bags: list[str]) -> list[str]:
    """What lies beside the bags."""
    return sorted(set(os.listdir()) - set(bags))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_keep_going_lists_the_bags_that_fail_and_exits_with_3(
    bags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workers: str,
) -> None:
    options = ("--out", "out", "--keep-going", "--workers", workers)
    assert run_dql(monkeypatch, "convert", ARM, *bags, "no_such", *options) == 3
    out, err = capsys.readouterr()
    assert out.startswith("out: 2 episodes (1 terminated), 7 transitions at 20 Hz")
    failed = err.splitlines()
    assert [line.split(":")[:3] for line in failed] == [
        ["dql", " left out", " b"],
        ["dql", " left out", " d"],
        ["dql", " left out", " no_such"],
    ]
    assert "no topic /reward" in failed[0]
    assert [len(episode) for episode in load_dataset("out").episodes] == [4, 3]
    report = json.loads(Path("out/report.json").read_text())
    assert [failure["bag"] for failure in report["failed"]] == ["b", "d", "no_such"]
    assert made(bags) == ["out"]


def test_without_keep_going_the_first_failure_ends_it_with_2(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dql(monkeypatch, "convert", ARM, *bags, "--out", "out") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dql: b: no topic /reward")
    assert err.count("\n") == 1
    assert made(bags) == []


def test_where_every_bag_fails_there_is_no_dataset(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dql(monkeypatch, "convert", ARM, "b", "d", "--out", "out", "--keep-going") == 2
    assert capsys.readouterr().err.startswith(
        "dql: no bag could be converted; the first: b: no topic /reward"
    )
    assert made(bags) == []


def test_a_dry_run_tells_the_same_and_writes_nothing(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("a", "c", "--json", "--out")
    assert run_dql(monkeypatch, "convert", ARM, *options, "new/out", "--dry-run") == 0
    tried = capsys.readouterr().out
    assert made(bags) == []
    assert run_dql(monkeypatch, "convert", ARM, *options, "out") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(tried)
    assert made(bags) == ["out"]
    # One that fails leaves nothing either.
    assert run_dql(monkeypatch, "convert", ARM, "a", "d", "--out", "x/y", "--dry-run") == 2
    assert made(bags) == ["out"]


def test_a_dry_run_says_what_it_would_do(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dql(monkeypatch, "convert", ARM, "a", "--out", "out", "--dry-run") == 0
    line = capsys.readouterr().out
    assert line.startswith("would make out: 1 episode (")
    assert "report.html" not in line
    assert run_dql(monkeypatch, "convert", ARM, "a", "--out", "o", "--dry-run", "--resume") == 2
    assert "--dry-run and --resume cannot be used together" in capsys.readouterr().err


def test_the_line_has_a_return_where_the_contract_names_a_reward(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(Path(ARM).read_text())
    del document["reward"]
    Path("silent.yaml").write_text(yaml.safe_dump(document))
    for file, words in ((ARM, " at 20 Hz, mean return -"), ("silent.yaml", " at 20 Hz; ")):
        assert run_dql(monkeypatch, "convert", file, "a", "--out", "out", "--dry-run") == 0
        assert words in capsys.readouterr().out


def test_json_is_the_report_alone(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--out", "out", "--json", "--keep-going")
    assert run_dql(monkeypatch, "convert", ARM, *bags, *options) == 3
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads(Path("out/report.json").read_text())

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(printed, parse_constant=refuse)


def test_the_folder_of_the_command_may_be_the_dataset(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert run_dql(monkeypatch, "convert", ARM, "../a", "--out", ".") == 0
    assert sorted(os.listdir(empty)) == ["data", "report.html", "report.json"]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_folder_that_cannot_be_made_is_one_clear_error(
    bags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = "a/metadata.yaml/out"
    assert run_dql(monkeypatch, "convert", ARM, "a", "--out", out) == 2
    assert capsys.readouterr().err == (
        f"dql: {out}: cannot be written: Not a directory; a file is where a folder must be; name "
        f"another place\n"
    )


@pytest.mark.parametrize("limit", [1000, 4096])
def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, blank: Callable[[str], Any], record: Callable[..., Path], limit: int
) -> None:
    """As a limit on the size of files shows it."""
    place = Workplace(tmp_path, Robot(blank), record)
    bag = place.bag(400)
    document = yaml.safe_load(ARM.read_text())
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(document))
    before = place.left

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = subprocess.run(
        [sys.executable, "-B", *place.command(bag, "--out", "out")[1:]],
        cwd=tmp_path,
        env=place.environment(),
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("dql: out: cannot be written: ")
    assert line.endswith("name another place")
    assert place.left == before
