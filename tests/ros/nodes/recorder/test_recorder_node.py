"""The recorder as a process; the test publishes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from geometry_msgs.msg import PointStamped, PoseStamped
from mcap.reader import make_reader
from nav_msgs.msg import Goals
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from dql_core.spec import CONTRACT_KEY
from dql_ros.bag.reader import Bag
from dql_ros.nodes.topics import reliable, time_message
from tests.ros.bag.messages import messages_of
from tests.ros.nodes.recorder.lever import NODE, Lever, finish
from tests.ros.nodes.robot import SCARA, Robot

pytestmark = pytest.mark.ros


def test_what_publishers_offer_is_recorded_in_full(robot: Robot, tmp_path: Path) -> None:
    """Best effort and latched publishers alike, and one that the contract does not name."""
    node = robot.probe.node
    best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    state = node.create_publisher(JointState, "joint_states", best_effort)
    target = node.create_publisher(PointStamped, "target", reliable(1, latched=True))
    note = node.create_publisher(String, "note", reliable(10))
    target.publish(PointStamped())
    bag = tmp_path / "bag"
    process = robot.start(NODE, contract=str(SCARA), out=str(bag), topics=["note"])
    publishers = (state, target, note)

    def heard() -> bool:
        return all(publisher.get_subscription_count() for publisher in publishers)

    robot.probe.until(heard, "the recorder")
    for index in range(50):
        state.publish(JointState(name=["elbow"], position=[float(index)]))
        note.publish(String(data=f"note {index}"))
        robot.probe.spin()
    finish(robot, process)
    assert "recorded 101 messages" in process.last_words
    with Bag(bag) as opened:
        counts = {name: topic.count for name, topic in opened.topics.items()}
        messages = list(messages_of(opened, frozenset({"/note", "/joint_states"})))
        contract_text = opened.custom_data[CONTRACT_KEY]
        start_ns, end_ns = opened.start_ns, opened.end_ns
    assert counts == {"/joint_states": 50, "/target": 1, "/note": 50, "/recorder/episode": 0}
    assert contract_text == SCARA.read_text()
    notes = [message.message.data for message in messages if message.topic == "/note"]
    assert notes == [f"note {index}" for index in range(50)]
    positions = [m.message.position[0] for m in messages if m.topic == "/joint_states"]
    assert positions == list(range(50))
    assert 0 < start_ns < end_ns
    offered = offered_qualities(bag)
    assert offered["/joint_states"]["reliability"] == "best_effort"
    assert offered["/target"]["durability"] == "transient_local"


def test_the_clock_is_subscribed_to_before_the_states(robot: Robot, tmp_path: Path) -> None:
    """A simulation begins once its states are heard, and without a clock they have no time."""
    node = robot.probe.node
    clock = node.create_publisher(Clock, "/clock", reliable(100))
    state = node.create_publisher(JointState, "joint_states", reliable(100))
    process = robot.start(NODE, contract=str(SCARA), out=str(tmp_path / "bag"))
    robot.probe.until(
        lambda: clock.get_subscription_count() and state.get_subscription_count(), "the recorder"
    )
    finish(robot, process)
    (path,) = (tmp_path / "bag").glob("*.mcap")
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    channels = [summary.channels[number].topic for number in sorted(summary.channels)]
    assert channels.index("/clock") < channels.index("/joint_states")


def test_with_sim_time_messages_bear_the_time_at_which_they_were_sent(
    robot: Robot, tmp_path: Path
) -> None:
    node = robot.probe.node
    clock = node.create_publisher(Clock, "/clock", reliable(100))
    command = node.create_publisher(
        Float64MultiArray, "velocity_controller/commands", reliable(100)
    )
    bag = tmp_path / "bag"
    process = robot.start(NODE, contract=str(SCARA), out=str(bag), use_sim_time=True)
    # The time source of the recorder listens to the clock as well.
    robot.probe.until(lambda: clock.get_subscription_count() == 2, "the recorder")
    robot.probe.until(command.get_subscription_count, "the recorder")
    for index in range(200):
        clock.publish(Clock(clock=time_message(index * 1_000_000_000)))
        command.publish(Float64MultiArray(data=[float(index), 0.0]))
    finish(robot, process)
    with Bag(bag) as opened:
        messages = list(messages_of(opened, frozenset({"/velocity_controller/commands"})))
    assert [message.log_time_ns for message in messages] == [
        int(message.message.data[0]) * 1_000_000_000 for message in messages
    ]
    assert len(messages) == 200


def test_a_publisher_that_offers_less_is_heard_although_it_came_later(
    robot: Robot, tmp_path: Path
) -> None:
    node = robot.probe.node
    first = node.create_publisher(String, "note", reliable(100))
    bag = tmp_path / "bag"
    process = robot.start(NODE, contract=str(SCARA), out=str(bag), topics=["note"])
    robot.probe.until(first.get_subscription_count, "the recorder")
    best_effort = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
    second = node.create_publisher(String, "note", best_effort)
    robot.probe.until(second.get_subscription_count, "the recorder to ask for less")
    robot.probe.until(first.get_subscription_count, "the recorder to hear the first still")
    for publisher in (first, second):
        publisher.publish(String(data="late"))
    robot.probe.spin()
    finish(robot, process)
    with Bag(bag) as opened:
        assert opened.topics["/note"].count == 2


def test_a_type_that_few_know_is_recorded_with_its_definition(
    robot: Robot, tmp_path: Path
) -> None:
    lever = Lever(robot, tmp_path)
    goals = robot.probe.node.create_publisher(Goals, "goals", reliable(1, latched=True))
    goals.publish(Goals(goals=[PoseStamped()] * 3))
    process = lever.record(topics=["goals"])
    robot.probe.until(goals.get_subscription_count, "the recorder")
    finish(robot, process)
    with Bag(lever.bag) as bag:
        assert bag.topics["/goals"].msgtype == "nav_msgs/msg/Goals"
        (message,) = messages_of(bag, frozenset({"/goals"}))
    assert len(message.message.goals) == 3


def test_an_existing_folder_is_not_recorded_into(robot: Robot, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    process = robot.start(NODE, contract=str(SCARA), out=str(tmp_path))
    assert process.wait(30)
    assert process.exit_code == 2
    assert "already exists" in process.last_words
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize(
    ("parameter", "complaint"),
    [
        ({"max_file_m": 5.0}, "recorder has no parameter 'max_file_m'"),
        (
            {"compression": "zip"},
            "parameter 'compression' of recorder is 'zip', which is not allowed",
        ),
        ({"depth": 0}, "parameter 'depth' of recorder"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(
    robot: Robot, tmp_path: Path, parameter: dict[str, Any], complaint: str
) -> None:
    common = {"contract": str(SCARA), "out": str(tmp_path / "bag")}
    process = robot.start(NODE, **common, **parameter)
    assert process.wait(30)
    assert process.exit_code == 2
    assert complaint in process.last_words
    assert not (tmp_path / "bag").exists()


def offered_qualities(bag: Path) -> dict[str, dict[str, Any]]:
    """Return the first offered QoS profile of each topic from metadata.yaml."""
    document = yaml.safe_load((bag / "metadata.yaml").read_text())
    topics = document["rosbag2_bagfile_information"]["topics_with_message_count"]
    return {
        topic["topic_metadata"]["name"]: topic["topic_metadata"]["offered_qos_profiles"][0]
        for topic in topics
        if topic["topic_metadata"]["offered_qos_profiles"]
    }
