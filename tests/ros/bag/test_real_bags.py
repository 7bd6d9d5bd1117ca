"""On recordings that other people made (../shared/data; see the README there)."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.codecs import stamp_ns
from dql_ros.contract import QualityOfService, load_contract
from dql_ros.convert.convert import Source, convert
from tests.ros.bag.messages import messages_of
from tests.ros.bag.sample_writer import SampleWriter

ROOT = Path(__file__).parents[3]
BAGS = ROOT.parent / "shared" / "data" / "bags"
FLIGHTS = [BAGS / "crazyflie" / name for name in ("pitch0bag", "rollbag", "yx1bag")]
VICON, COMMAND, CONTROL = "/vicon/Group466CF/Group466CF/pose", "/cf_command", "/cf_controll"
PERIOD = 100_000_000
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags"),
]


def shape(document: Any, where: str = "") -> set[tuple[str, str]]:
    """Every key of a document with the type of what it holds."""
    if isinstance(document, dict):
        return set().union(*(shape(value, f"{where}/{key}") for key, value in document.items()))
    if isinstance(document, list):
        return set().union(*(shape(value, f"{where}[]") for value in document))
    return {(where, type(document).__name__)}


def test_metadata_we_write_has_the_shape_of_a_real_recorders(tmp_path: Path) -> None:
    qos = QualityOfService(reliability="reliable")
    with SampleWriter(tmp_path / "bag") as writer:
        writer.add_topic("/pose", "geometry_msgs/msg/Pose", [qos])
    real = yaml.safe_load((FLIGHTS[0] / "metadata.yaml").read_text())
    ours = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    assert shape(ours) == shape(real)


@pytest.mark.parametrize("flight", FLIGHTS, ids=lambda path: path.name)
def test_all_messages_of_a_flight_are_read(flight: Path) -> None:
    with Bag(flight) as bag:
        count = sum(1 for _ in messages_of(bag, frozenset(bag.topics)))
        assert count == bag.message_count > 900


def test_three_flights_give_three_episodes_without_an_invented_value(tmp_path: Path) -> None:
    contract = load_contract(ROOT / "config" / "contracts" / "crazyflie.yaml")
    report = convert(Source(contract, FLIGHTS), tmp_path / "out")
    dataset = load_dataset(tmp_path / "out")
    assert len(dataset.episodes) == 3
    assert report["totals"]["clipped_actions"] == 0
    for flight, episode, row in zip(FLIGHTS, dataset.episodes, report["episodes"], strict=True):
        with AnyReader([flight]) as reader:
            messages: dict[str, list[tuple[int, Any]]] = {VICON: [], COMMAND: [], CONTROL: []}
            for connection, time, raw in reader.messages():
                if connection.topic in messages:
                    message = reader.deserialize(raw, connection.msgtype)
                    messages[connection.topic].append((time, message))
        (goal_time, goal) = messages[COMMAND][0]
        assert row["from_s"] == round((goal_time - messages[VICON][0][0]) / 1e9, 6)
        for tick, seen in enumerate(episode.observations):
            now = goal_time + tick * PERIOD
            known = [m for time, m in messages[VICON] if time <= now and stamp_ns(m) <= now]
            assert now - stamp_ns(known[-1]) <= 200_000_000
            pose = known[-1].pose
            expected = [*vars(pose.position).values(), *vars(pose.orientation).values()]
            expected = [value for value in expected if isinstance(value, float)]
            np.testing.assert_array_equal(
                seen, np.array([*expected, goal.x, goal.y, goal.z], "f4")
            )
        for tick, action in enumerate(episode.actions):
            now = goal_time + tick * PERIOD
            after = [m for time, m in messages[CONTROL] if now <= time < now + PERIOD]
            before = [(time, m) for time, m in messages[CONTROL] if time < now]
            if not after:
                assert now - before[-1][0] <= 500_000_000
            sent = after[0] if after else before[-1][1]
            fields = [*vars(sent.position).values(), sent.orientation.x, sent.orientation.y]
            expected = [value for value in fields if isinstance(value, float)]
            np.testing.assert_array_equal(action, np.array(expected, "f4"))
        distance = np.linalg.norm(
            episode.observations[1:, :3] - episode.observations[1:, 7:], axis=1
        )
        np.testing.assert_allclose(episode.rewards, -distance, rtol=1e-6)
    assert [len(episode) for episode in dataset.episodes] == [338, 239, 17]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_ticks_are_a_tenth_of_a_second_apart_whatever_the_messages_do(tmp_path: Path) -> None:
    contract = load_contract(ROOT / "config" / "contracts" / "crazyflie.yaml")
    report = convert(Source(contract, FLIGHTS), tmp_path / "out")
    for row in report["episodes"]:
        assert row["to_s"] - row["from_s"] == pytest.approx(row["length"] / 10, abs=1e-6)
    for bag in report["bags"]:
        spans = [(span["from_s"], span["to_s"]) for span in bag["left_out"]]
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
