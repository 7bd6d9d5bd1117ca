"""Delays that were injected into the simulation, found in its bags."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.delay import ARM, Robot, arm, reacher, record
from dql_core.errors import ConfigError
from dql_ros.bag.reader import Bag
from dql_ros.cli.inspect import inspect
from dql_ros.sim.faults import LinkFaults
from dql_ros.tools.delay.pairs import find_delays
from dql_ros.tools.delay.picture import draw
from tests.ros.untrained import untrained_bundle

MS = 1_000_000


@pytest.mark.parametrize(
    ("make", "latency_ms"), [(arm, 0), (arm, 40), (reacher, 20), (reacher, 80)]
)
def test_an_injected_delay_is_found(
    tmp_path: Path, make: Callable[[Path], Robot], latency_ms: int
) -> None:
    robot = make(tmp_path)
    effect_s = record(tmp_path / "bag", robot, LinkFaults(latency_ns=latency_ms * MS), seconds=25)
    with Bag(tmp_path / "bag") as bag:
        found = find_delays(bag, robot.contract, "/", lambda _: None)
    assert len(found["pairs"]) == 2
    for pair, joint in zip(found["pairs"], ("shoulder", "elbow"), strict=True):
        if make is arm:
            assert pair["state"] == f"joint_states.position.{joint}"
            assert pair["answers_by"] == "speed"
        assert not pair["doubt"]
        assert pair["delay_ms"] == pytest.approx(1000 * effect_s, abs=2.0)
    (line,) = found["contract"]
    assert line["delay_s"] == pytest.approx(effect_s, abs=0.002)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("late")
    (folder / "arm.yaml").write_text(ARM)
    states = LinkFaults(latency_ns=5 * MS, jitter_ns=4 * MS)
    record(folder / "bag", arm(folder), LinkFaults(latency_ns=60 * MS), states, seconds=25)
    return folder / "bag"


def test_the_command_line_says_it_in_a_table_as_json_and_as_a_picture(
    bag: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    contract, picture = bag.parent / "arm.yaml", tmp_path / "delays.svg"
    inspect([bag], delay=True, contract=contract, picture=picture)
    shown = capsys.readouterr().out
    assert "the speed of joint_states.position.shoulder" in shown
    assert "velocity_controller/commands: in the contract  delay_s: 0.0" in shown
    assert len(list(ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}polyline"))) == 6
    inspect([bag], delay=True, contract=contract, as_json=True)
    found = json.loads(capsys.readouterr().out)["delay"]
    states, commands = found["streams"]
    assert states["topic"] == "/joint_states"
    assert states["median_ms"] == pytest.approx(7.0, abs=1.0)
    assert states["jitter_ms"] == pytest.approx(2.0, abs=1.0)
    assert commands["doubt"] == "has no header stamps"


@pytest.mark.parametrize("horizon", [1, 3])
def test_inference_is_counted_where_it_delays(
    bag: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, horizon: int
) -> None:
    contract = bag.parent / "arm.yaml"
    bundle = untrained_bundle(tmp_path, contract, horizon)
    inspect([bag], delay=True, contract=contract, bundle=bundle, as_json=True)
    found = json.loads(capsys.readouterr().out)["delay"]
    inference, (line,) = found["inference"], found["contract"]
    assert 0 < inference["p50_ms"] <= inference["p99_ms"]
    counted_s = line["node_delay_s"] - line["delay_s"]
    assert counted_s == pytest.approx(inference["send_after_s"])
    if horizon == 1:
        assert inference["p99_ms"] / 1000 <= counted_s <= inference["p99_ms"] / 1000 + 1e-4
    else:
        assert counted_s == 0


def test_what_inference_adds_is_said(
    bag: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    contract = bag.parent / "arm.yaml"
    inspect([bag], delay=True, contract=contract, bundle=untrained_bundle(tmp_path, contract))
    shown = capsys.readouterr().out
    assert "4 candidates, here and now: median" in shown
    assert "with the node's send_after_s: 0.0" in shown


def test_a_bundle_of_another_robot_is_refused(bag: Path, tmp_path: Path) -> None:
    contract = bag.parent / "arm.yaml"
    other = tmp_path / "other.yaml"
    other.write_text(contract.read_text().replace("robot: ", "robot: other_"))
    with pytest.raises(ConfigError, match="is of robot 'other_"):
        inspect([bag], delay=True, contract=contract, bundle=untrained_bundle(tmp_path, other))


def test_names_in_a_picture_are_no_markup(bag: Path) -> None:
    pair: dict[str, Any] = {
        "command": "<script>&\x00",
        "state": "</svg>",
        "answers_by": "value",
        "doubt": "it is unknown",
        "delay_ms": None,
        "curve": {"delay_ms": [], "unexplained": []},
        "example": {},
    }
    ElementTree.fromstring(draw("<bag>", {"pairs": [pair]}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delay": True}, "--delay needs --contract"),
        ({"contract": Path("arm.yaml")}, "--contract is for delays"),
        ({"picture": Path("a.svg")}, "--picture is for delays"),
        ({"bundle": Path("bundle")}, "--bundle is for delays"),
    ],
)
def test_options_that_lack_each_other_are_refused(
    bag: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        inspect([bag], **options)


def test_what_is_no_bag_has_no_delays(bag: Path) -> None:
    contract = bag.parent / "arm.yaml"
    with pytest.raises(Exception, match="is no bag"):
        inspect([contract], delay=True, contract=contract)
