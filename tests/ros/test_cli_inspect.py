from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dql_core.errors import BagError, ContractError, DqlError
from dql_ros.cli.inspect import inspect

ARM = Path(__file__).with_name("arm.yaml")
SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def bag(tmp_path: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    reward = "std_msgs/msg/Float64"
    messages = [
        ("/reward", reward, 10 * SECOND + tick * SECOND // 4, blank(reward)) for tick in range(9)
    ]
    return record(tmp_path / "bag", messages, silent={"/stop": "std_msgs/msg/Bool"})


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    inspect(path)
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_bag_shows_topics_types_counts_rates_and_duration(
    bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(bag, capsys)
    assert "starts 10.000 s (1970-01-01 00:00:10 UTC)" in text
    assert "duration 2.000 s" in text
    assert "messages 9" in text
    assert "/reward std_msgs/Float64 9 4.0 Hz" in text
    assert "/stop std_msgs/Bool 0" in text


def test_single_file_of_a_bag_is_shown_too(bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(bag.glob("*.mcap"))
    assert "/reward std_msgs/Float64 9 4.0 Hz" in shown(file, capsys)


def test_contract_shows_streams_fields_and_the_safe_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = shown(ARM, capsys)
    assert "robot arm" in text
    assert "control rate 20 Hz" in text
    assert "joint_states sensor_msgs/JointState best_effort, volatile 0.2 s" in text
    assert "target geometry_msgs/PointStamped reliable, transient_local none (latched)" in text
    assert "1 elbow_velocity rad/s -2 to 2" in text
    assert "hold for 0 s, then send 0, 0" in text


def test_unfinished_recording_is_told(tmp_path: Path) -> None:
    (tmp_path / "bag_0.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(BagError, match=r"has no metadata.yaml: the recording was not finished"):
        inspect(tmp_path)


def test_yaml_that_is_no_contract_is_told(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("robto: arm\n")
    with pytest.raises(ContractError, match="unknown key 'robto'"):
        inspect(tmp_path / "other.yaml")


def test_unknown_thing_is_told_with_what_can_be_inspected(tmp_path: Path) -> None:
    with pytest.raises(DqlError, match=r"is nothing that 'dql inspect' knows; it shows bags .*"):
        inspect(tmp_path)


def test_missing_path_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with pytest.raises(DqlError, match=r"no such file or folder \(did you mean 'bundle'\?\)"):
        inspect(tmp_path / "bundel")
