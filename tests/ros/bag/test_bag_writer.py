import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mcap.reader
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.typesys.store import Typestore

from dql_core.errors import BagError
from dql_core.spec import CONTRACT_KEY
from dql_ros.bag.reader import Bag
from dql_ros.contract import QualityOfService
from tests.ros.bag.messages import messages_of
from tests.ros.bag.sample_writer import SampleWriter

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
    with SampleWriter(folder, contract_text="robot: arm\n# Jürgen's\n") as writer:
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
    with SampleWriter(recording.parent / "pose") as writer:
        writer.add_topic("/pose", "geometry_msgs/msg/Pose")
    text = (recording.parent / "pose" / "metadata.yaml").read_text()
    assert "RIHS01_d501954e9476cea2996984e812054b68026ae0bfae789d9a10b23daf35cc90fa" in text


def test_type_without_a_standard_definition_brings_its_own(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "turtle") as writer:
        with pytest.raises(BagError, match="type turtlesim/msg/Pose of /pose is not one of ROS"):
            writer.add_topic("/pose", "turtlesim/msg/Pose")
        writer.add_topic("/pose", "turtlesim/msg/Pose", definition="float32 x")
        writer.write("/pose", b"\0\1\0\0\0\0\0\0", 1)
    with AnyReader([tmp_path / "turtle"]) as reader:
        assert [connection.msgtype for connection in reader.connections] == ["turtlesim/msg/Pose"]


def test_recording_that_fails_has_no_metadata(tmp_path: Path) -> None:
    with suppress(KeyError), SampleWriter(tmp_path / "failed") as writer:
        writer.add_topic("/flag", "std_msgs/msg/Bool")
        writer.write("/flag", b"\0\1\0\0\1", 1)
        writer.write("/unannounced", b"", 1)
    assert [path.name for path in (tmp_path / "failed").iterdir()] == ["failed_0.mcap"]


def test_a_folder_that_holds_something_is_not_overwritten(recording: Path) -> None:
    with pytest.raises(BagError, match=r"flight: already exists; name another folder"):
        SampleWriter(recording)


def test_recording_without_messages_is_one_all_the_same(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "empty") as writer:
        writer.add_topic("/flag", "std_msgs/msg/Bool")
    with AnyReader([tmp_path / "empty"]) as reader:
        assert reader.message_count == 0


def numbered(folder: Path, count: int, **options: Any) -> SampleWriter:
    """Record ``count`` flags, 1 s apart, of which each says by its time which it is."""
    writer = SampleWriter(folder, contract_text="robot: arm\n", **options)
    writer.add_topic("/flag", "std_msgs/msg/Bool")
    write_numbered(writer, range(count))
    return writer


def write_numbered(writer: SampleWriter, seconds: range, *, flushing: bool = False) -> None:
    for second in seconds:
        writer.write("/flag", b"\0\1\0\0\1", START + second * 1_000_000_000)
        if flushing:
            writer.flush()


def seconds_in(folder: Path, **options: Any) -> list[int]:
    with Bag(folder, **options) as bag:
        messages = messages_of(bag, frozenset({"/flag"}))
        return [(message.log_time_ns - START) // 1_000_000_000 for message in messages]


@pytest.mark.parametrize(
    "limit", [{"max_file_bytes": 4_000}, {"max_file_ns": 30_000_000_000}], ids=["size", "time"]
)
@pytest.mark.parametrize("compression", ["zstd", "lz4", "none"])
def test_a_recording_is_split_into_files_that_are_read_as_one(
    tmp_path: Path, limit: dict[str, int], compression: str
) -> None:
    numbered(tmp_path / "long", 300, compression=compression, **limit).close()
    files = [f"long_{index}.mcap" for index in range(len(list((tmp_path / "long").iterdir())) - 1)]
    assert len(files) > 1
    if "max_file_ns" in limit:
        assert len(files) == 10
    text = (tmp_path / "long" / "metadata.yaml").read_text()
    bag = yaml.safe_load(text)["rosbag2_bagfile_information"]
    assert bag["relative_file_paths"] == [entry["path"] for entry in bag["files"]] == files
    assert sum(entry["message_count"] for entry in bag["files"]) == bag["message_count"] == 300
    assert bag["duration"] == {"nanoseconds": 299_000_000_000}
    assert seconds_in(tmp_path / "long") == list(range(300))
    with AnyReader([tmp_path / "long"]) as reader:
        assert len(list(reader.messages())) == 300


def test_each_file_of_a_split_recording_can_be_read_by_itself(tmp_path: Path) -> None:
    numbered(tmp_path / "long", 90, max_file_ns=30_000_000_000).close()
    assert seconds_in(tmp_path / "long" / "long_1.mcap") == list(range(30, 60))


def test_what_was_flushed_before_a_kill_is_salvaged_with_the_contract(tmp_path: Path) -> None:
    writer = numbered(tmp_path / "killed", 20)
    writer.flush()
    writer.write("/flag", b"\0\1\0\0\1", START + 20_000_000_000)
    copy = tmp_path / "seen"
    shutil.copytree(tmp_path / "killed", copy)  # what the disk has when the process is gone
    writer.close()
    with pytest.raises(BagError, match="the recorder was stopped before it had finished"):
        Bag(copy)
    assert seconds_in(copy, salvage=True) == list(range(20))
    with Bag(copy, salvage=True) as bag:
        assert bag.custom_data == {CONTRACT_KEY: "robot: arm\n"}


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let the operating system refuse to write more, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1, 50, 300, 700, 1_500])
def test_what_was_written_before_the_disk_was_full_is_kept(tmp_path: Path, room: int) -> None:
    writer = numbered(tmp_path / "full", 20)
    writer.flush()
    limit = writer.size_bytes + room
    with no_file_longer_than(limit):
        refused = r"full: cannot be written \(File too large\); what was"
        with pytest.raises(BagError, match=refused):
            write_numbered(writer, range(20, 400), flushing=True)
        with suppress(BagError):
            writer.close()
        assert (tmp_path / "full" / "full_0.mcap").stat().st_size <= limit
    kept = seconds_in(tmp_path / "full", salvage=True)
    assert kept == list(range(len(kept)))
    assert writer.counts == {"/flag": len(kept)}
    assert not list((tmp_path / "full").glob(".*"))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BagError, match=r"bag: cannot be written \(Not a directory\)"):
        SampleWriter(tmp_path / "file" / "bag")
