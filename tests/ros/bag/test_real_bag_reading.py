"""Every recording in ../shared/data/bags is read whole, with the counts it is known to have."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.storage import absolute_topic
from tests.ros.bag.messages import messages_of

BAGS = Path(__file__).parents[3].parent / "shared" / "data" / "bags"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not BAGS.is_dir(), reason="no recordings in ../shared/data/bags"),
]
# Messages and topics by the README there, by their metadata.yaml, or counted with other tools.
SAMPLES = {
    "crazyflie/pitch0bag": (4536, 5),
    "crazyflie/rollbag": (3284, 5),
    "crazyflie/yx1bag": (904, 5),
    "robot_localization_ros1/test1.bag": (11_865 + 3_952 + 989, 3),
    "robot_localization_ros1/test2.bag": (3_061 + 3_060, 2),
    "turtlesim_jazzy": (2_501 + 18, 2),
    "rosbag2_samples/mcap/no_metadata_multiple_files": (1_324 + 1_324 + 529, 1),
    "rosbag2_samples/sqlite3/no_metadata_multiple_files": (1_324 + 1_324 + 529, 1),
    "rosbag2_samples/mcap/wbag": (6_074, 8),
    "rosbag2_samples/sqlite3/wbag": (6_074, 8),
    "rosbag2_samples/zstd_file_compression": (775, 3),
    "rosbag2_samples/zstd_message_compression": (1_127, 3),
    "nav2_mcap_zstd": (693, 3),
    "all_common_interfaces/test_bag_mcap": (188, 94),
    "all_common_interfaces/test_bag_sqlite3": (188, 94),
    "libmcap_0_8/base_msgs": (3, 3),
    "libmcap_0_8/array_msgs": (2, 2),
    "galactic_sqlite3": (280, 4),
}


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_message_of_every_sample_is_read(name: str, salvage: bool) -> None:
    count, topics = SAMPLES[name]
    with Bag(BAGS / name, salvage=salvage) as bag:
        assert len(bag.topics) == topics
        assert bag.message_count == count
        read: Counter[str] = Counter()
        for batch in bag.batches(frozenset(bag.topics)):
            for block in batch.blocks:
                read[block.topic] += len(block)
                assert bag.start_ns <= block.log_times_ns[0] <= block.log_times_ns[-1]
                assert block.log_times_ns[-1] <= bag.end_ns
                assert (np.diff(block.log_times_ns) >= 0).all()
        assert {topic.name: topic.count for topic in bag.topics.values() if topic.count} == read
        assert bag.losses == ()
        assert bag.unknown_types == ()
        without_metadata = "no_metadata" in name
        assert len(bag.notes) == without_metadata


@pytest.mark.parametrize(("name", "count"), [("test1", 10_550), ("test2", 4_183)])
def test_a_recording_of_ros1_that_was_cut_is_read_up_to_the_cut(
    tmp_path: Path, name: str, count: int
) -> None:
    whole = (BAGS / "robot_localization_ros1" / f"{name}.bag").read_bytes()
    path = tmp_path / "cut.bag"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with Bag(path, salvage=True) as bag:
        times = [message.log_time_ns for message in messages_of(bag, frozenset(bag.topics))]
        assert bag.message_count == len(times) == count
    assert times == sorted(times)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_message_can_be_deserialised_and_comes_by_its_time(name: str) -> None:
    with Bag(BAGS / name) as bag:
        times = [message.log_time_ns for message in messages_of(bag, frozenset(bag.topics))]
    assert len(times) == SAMPLES[name][0]
    assert times == sorted(times)


@pytest.mark.parametrize(
    "name", ["crazyflie/rollbag", "turtlesim_jazzy", "rosbag2_samples/sqlite3/wbag"]
)
def test_messages_are_those_that_rosbags_reads(name: str) -> None:
    standard = get_typestore(Stores.ROS2_JAZZY)
    with AnyReader([BAGS / name], default_typestore=standard) as reader:
        expected = sorted(
            (absolute_topic(connection.topic), time, bytes(raw))
            for connection, time, raw in reader.messages()
        )
    with Bag(BAGS / name) as bag:
        found = sorted(
            (block.topic, int(time), block.payload(index))
            for batch in bag.batches(frozenset(bag.topics))
            for block in batch.blocks
            for index, time in enumerate(block.log_times_ns)
        )
    assert found == expected


def test_ros1_messages_are_those_that_rosbags_reads() -> None:
    path = BAGS / "robot_localization_ros1" / "test2.bag"
    with AnyReader([path]) as reader, Bag(path) as bag:
        theirs = reader.messages()
        ours = messages_of(bag, frozenset(bag.topics))
        for (connection, time, raw), message in zip(theirs, ours, strict=True):
            expected = vars(reader.deserialize(raw, connection.msgtype))
            assert (connection.topic, time) == (message.topic, message.log_time_ns)
            stamp, stamped = expected["header"].stamp, message.message.header.stamp
            assert (stamp.sec, stamp.nanosec) == (stamped.sec, stamped.nanosec)
            for field in ("orientation", "angular_velocity", "pose", "twist"):
                if field in expected:
                    assert repr(expected[field]) == repr(getattr(message.message, field))


def test_official_bags_of_which_others_read_nothing() -> None:
    """Their files state other QoS than their metadata, by which some readers match topics."""
    with Bag(BAGS / "rosbag2_samples" / "mcap" / "wbag") as bag:
        texts = [message.message.data for message in messages_of(bag, frozenset(bag.topics))]
    assert len(texts) == 6074
    assert all(texts)
