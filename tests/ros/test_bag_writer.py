from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import mcap.reader
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_ros.bag.writer import CONTRACT_KEY, BagWriter
from dql_ros.contract import QualityOfService

# What rosbag2_storage/yaml.hpp of Jazzy reads without asking whether it is there.
BAG_KEYS = [
    "version",
    "storage_identifier",
    "duration",
    "starting_time",
    "message_count",
    "topics_with_message_count",
    "compression_format",
    "compression_mode",
    "relative_file_paths",
    "files",
    "custom_data",
    "ros_distro",
]
TOPIC_KEYS = [
    "name",
    "type",
    "serialization_format",
    "offered_qos_profiles",
    "type_description_hash",
]
QOS_KEYS = [
    "history",
    "depth",
    "reliability",
    "durability",
    "deadline",
    "lifespan",
    "liveliness",
    "liveliness_lease_duration",
    "avoid_ros_namespace_conventions",
]
START = 1_747_919_552_739_717_185


@pytest.fixture
def recording(tmp_path: Path, typestore: Typestore, blank: Callable[[str], Any]) -> Path:
    folder = tmp_path / "flight"
    latched = QualityOfService(reliability="reliable", durability="transient_local")
    with BagWriter(folder, contract_text="robot: arm\n# Jürgen's\n") as writer:
        writer.add_topic("/target", "geometry_msgs/msg/PointStamped", [latched])
        writer.add_topic("/joint_states", "sensor_msgs/msg/JointState")
        writer.add_topic("/silent", "std_msgs/msg/Bool", [latched, latched])
        joints, target = (
            blank("sensor_msgs/msg/JointState"),
            blank("geometry_msgs/msg/PointStamped"),
        )
        for index in range(100):
            joints.header.stamp.sec = index
            raw = typestore.serialize_cdr(joints, "sensor_msgs/msg/JointState")
            writer.write("/joint_states", raw, START + index, publish_time_ns=index)
        raw = typestore.serialize_cdr(target, "geometry_msgs/msg/PointStamped")
        writer.write("/target", raw, START + 50)
    return folder


def test_rosbags_reads_every_message_of_the_folder(recording: Path) -> None:
    with AnyReader([recording]) as reader:
        assert reader.message_count == 101
        assert reader.start_time == START
        seconds = [
            reader.deserialize(raw, connection.msgtype).header.stamp.sec  # type: ignore[attr-defined]
            for connection, _, raw in reader.messages()
            if connection.topic == "/joint_states"
        ]
    assert seconds == list(range(100))


def test_both_times_of_a_message_are_kept(recording: Path) -> None:
    with (recording / "flight_0.mcap").open("rb") as file:
        reader = mcap.reader.make_reader(file)
        assert reader.get_header().profile == "ros2"
        messages = [message for _, _, message in reader.iter_messages(topics=["/joint_states"])]
    assert [message.log_time - START for message in messages] == list(range(100))
    assert [message.publish_time for message in messages] == list(range(100))


def test_metadata_has_what_rosbag2_needs(recording: Path) -> None:
    bag = yaml.safe_load((recording / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert list(bag) == BAG_KEYS
    assert bag["version"] == 9
    assert bag["duration"] == {"nanoseconds": 99}
    assert bag["starting_time"] == {"nanoseconds_since_epoch": START}
    assert bag["relative_file_paths"] == ["flight_0.mcap"]
    assert bag["files"][0]["message_count"] == 101
    assert bag["custom_data"] == {CONTRACT_KEY: "robot: arm\n# Jürgen's\n"}
    topics = {entry["topic_metadata"]["name"]: entry for entry in bag["topics_with_message_count"]}
    assert [topics[name]["message_count"] for name in topics] == [1, 100, 0]
    for entry in topics.values():
        assert list(entry["topic_metadata"]) == TOPIC_KEYS
    (qos,) = topics["/target"]["topic_metadata"]["offered_qos_profiles"]
    assert list(qos) == QOS_KEYS
    assert qos["durability"] == "transient_local"
    assert "&id" not in (recording / "metadata.yaml").read_text()


def test_type_hash_is_that_of_a_real_recorder(recording: Path) -> None:
    """The hash of geometry_msgs/msg/Pose in the crazyflie recordings, made by Jazzy's recorder."""
    with BagWriter(recording.parent / "pose") as writer:
        writer.add_topic("/pose", "geometry_msgs/msg/Pose")
    text = (recording.parent / "pose" / "metadata.yaml").read_text()
    assert "RIHS01_d501954e9476cea2996984e812054b68026ae0bfae789d9a10b23daf35cc90fa" in text


def test_type_without_a_standard_definition_brings_its_own(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "turtle") as writer:
        with pytest.raises(BagError, match="type turtlesim/msg/Pose of /pose is not one of ROS"):
            writer.add_topic("/pose", "turtlesim/msg/Pose")
        writer.add_topic("/pose", "turtlesim/msg/Pose", definition="float32 x")
        writer.write("/pose", b"\0\1\0\0\0\0\0\0", 1)
    with AnyReader([tmp_path / "turtle"]) as reader:
        assert [connection.msgtype for connection in reader.connections] == ["turtlesim/msg/Pose"]


def test_recording_that_fails_has_no_metadata(tmp_path: Path) -> None:
    with suppress(KeyError), BagWriter(tmp_path / "failed") as writer:
        writer.add_topic("/flag", "std_msgs/msg/Bool")
        writer.write("/flag", b"\0\1\0\0\1", 1)
        writer.write("/unannounced", b"", 1)
    assert [path.name for path in (tmp_path / "failed").iterdir()] == ["failed_0.mcap"]


def test_a_folder_that_holds_something_is_not_overwritten(recording: Path) -> None:
    with pytest.raises(BagError, match=r"flight: already exists; name another folder"):
        BagWriter(recording)


def test_recording_without_messages_is_one_all_the_same(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "empty") as writer:
        writer.add_topic("/flag", "std_msgs/msg/Bool")
    with AnyReader([tmp_path / "empty"]) as reader:
        assert reader.message_count == 0
