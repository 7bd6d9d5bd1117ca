"""Every recording in ../shared/data/bags converts, or is refused with a reason that is true."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from dql_ros.codecs import stamp_ns
from tests.ros.bag.sample_bags import BAGS, ROOT, Sample, outcome, page, samples

PAGE = ROOT / "docs" / "reference" / "sample-bags.md"
SAMPLES = {sample.bag: sample for sample in samples()}
# Episodes and transitions, or what the refusal must name.
EXPECTED: dict[str, tuple[int, int] | str] = {
    "crazyflie/pitch0bag": (1, 338),
    "crazyflie/rollbag": (1, 239),
    "crazyflie/yx1bag": (1, 17),
    "robot_localization_ros1/test1.bag": (1, 3951),
    "robot_localization_ros1/test2.bag": (1, 3059),
    "turtlesim_jazzy": (7, 141),
    "nav2_mcap_zstd": (1, 230),
    "rosbag2_samples/zstd_file_compression": (1, 381),
    "rosbag2_samples/zstd_message_compression": (1, 368),
    "galactic_sqlite3": (1, 91),
    "rosbag2_samples/mcap/no_metadata_multiple_files": r"/chatter: 'data' is a str, not one",
    "rosbag2_samples/sqlite3/no_metadata_multiple_files": r"/chatter: 'data' is a str, not one",
    "rosbag2_samples/mcap/wbag": r"/AAA: 'data' is a str, not one number",
    "rosbag2_samples/sqlite3/wbag": r"/AAA: 'data' is a str, not one number",
    "all_common_interfaces/test_bag_mcap": (1, 9),
    "all_common_interfaces/test_bag_sqlite3": (1, 9),
    "libmcap_0_8/array_msgs": r"/one_shot/imu: the header stamp is zero",
    "libmcap_0_8/base_msgs": r"no episode could be made \(no /one_shot/vector3, then the rec",
}
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags"),
]


def test_no_recording_is_forgotten() -> None:
    storages = [
        file for file in BAGS.rglob("*") if re.search(r"\.(mcap|db3|bag)(\.zstd)?$", file.name)
    ]
    asked = [sample.path for sample in samples()]
    assert all(file in asked or file.parent in asked for file in storages)
    assert EXPECTED.keys() == SAMPLES.keys()


@pytest.mark.parametrize("bag", SAMPLES)
def test_a_recording_converts_or_is_refused(tmp_path: Path, bag: str) -> None:
    sample, expected = SAMPLES[bag], EXPECTED[bag]
    found = outcome(sample, tmp_path / "out")
    assert sample.messages in {None, found.messages}
    if isinstance(expected, str):
        assert re.search(expected, found.refusal)
        assert not (tmp_path / "out").exists()
        return
    assert found.report is not None, found.refusal
    totals = found.report["totals"]
    assert (totals["episodes"], totals["transitions"]) == expected
    assert totals["losses"] == totals["failed_bags"] == 0
    for episode in found.episodes:
        assert np.isfinite(episode.observations).all()
        assert not episode.terminated, "a recording that stops is a truncation"


def test_the_page_of_results_is_what_comes_out() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("name", ["test1", "test2"])
def test_a_ros_1_bag_loses_nothing(tmp_path: Path, name: str) -> None:
    """Each odometry message is a step, with the newest IMU message that was there."""
    sample = SAMPLES[f"robot_localization_ros1/{name}.bag"]
    (episode,) = outcome(sample, tmp_path / "out").episodes
    wheels, imu = everything(sample)
    stamps = [stamp_ns(message) for _, message in wheels]
    assert stamps == sorted(set(stamps))
    speeds = [[m.twist.twist.linear.x, m.twist.twist.angular.z] for _, m in wheels]
    np.testing.assert_array_equal(episode.actions, np.array(speeds[: len(episode)], np.float32))
    assert len(speeds) == len(episode) + 1
    some = slice(None, None, 20)
    for tick, observation in zip(stamps[some], episode.observations[some], strict=True):
        known = [m for at_ns, m in imu if at_ns <= tick and stamp_ns(m) <= tick]
        last = max(known, key=stamp_ns)
        expected = [last.angular_velocity.z, last.linear_acceleration.x]
        np.testing.assert_array_equal(observation[:2], np.array(expected, np.float32))


def everything(sample: Sample) -> tuple[list[tuple[int, Any]], list[tuple[int, Any]]]:
    """Log times and messages of odometry and IMU, by rosbags alone."""
    wheels: list[tuple[int, Any]] = []
    imu: list[tuple[int, Any]] = []
    with AnyReader([sample.path]) as reader:
        for connection, time_ns, raw in reader.messages():
            if connection.topic.endswith("/odom"):
                wheels.append((time_ns, reader.deserialize(raw, connection.msgtype)))
            elif connection.topic == "/imu/data":
                imu.append((time_ns, reader.deserialize(raw, connection.msgtype)))
    return wheels, imu
