"""A topic that is published with several types: all of it is recorded, counted and told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, Float64, String

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.bag.recorder import RECORDING_KEY
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from tests.ros.bag.messages import messages_of
from tests.ros.nodes.recorder.lever import Lever, finish
from tests.ros.nodes.recorder.test_recorder_faults import Diagnostics
from tests.ros.nodes.robot import Probe, Robot

pytestmark = pytest.mark.ros
DISAGREEING = "tests.ros.nodes.recorder.disagreeing_recorder_node"
BOOLS = "/note (std_msgs/msg/Bool)"


@pytest.fixture(name="lever")
def _lever(robot: Robot, tmp_path: Path) -> Lever:
    return Lever(robot, tmp_path)


@pytest.fixture(name="other")
def _other(robot: Robot) -> Iterator[Probe]:
    """A program of its own: one DDS participant knows a topic with one type only."""
    probe = Probe(robot.domain, lambda: None)
    yield probe
    probe.close()


def publisher(probe: Probe, kind: Any, topic: str = "note", *, depth: int = 1000) -> Any:
    return probe.node.create_publisher(kind, topic, reliable(depth))


def publish(robot: Robot, sender: Any, kind: Any, values: list[Any]) -> None:
    for value in values:
        sender.publish(kind(data=value))
        robot.probe.spin()


def messages(bag: Path, topic: str) -> list[tuple[str, Any]]:
    """Return type and content of a topic's messages."""
    with Bag(bag) as opened:
        found = [each.message for each in messages_of(opened, frozenset({topic}))]
    return [(type(each).__name__.rpartition("__")[2], each.data) for each in found]


def number(diagnostics: Diagnostics, key: str) -> int:
    return int(diagnostics.value(key) or 0)


def test_a_topic_that_changes_its_type_is_recorded_on(
    lever: Lever, other: Probe, robot: Robot
) -> None:
    diagnostics = Diagnostics(robot)
    process = lever.record(topics=["note"])
    texts = publisher(robot.probe, String)
    robot.probe.until(texts.get_subscription_count, "the recorder")
    publish(robot, texts, String, ["a", "b", "c"])
    robot.probe.until(lambda: number(diagnostics, "received of /note") == 3, "the texts")
    robot.probe.node.destroy_publisher(texts)
    bools = publisher(other, Bool)
    publish(robot, bools, Bool, [True] * 100)  # from its first moment on
    robot.probe.until(bools.get_subscription_count, "the recorder to hear the new type")
    publish(robot, bools, Bool, [False] * 5)

    def is_told() -> bool:
        got, lost = (number(diagnostics, f"{what} of {BOOLS}") for what in ("received", "lost"))
        return got + lost == 105 and diagnostics.last().level == DiagnosticStatus.WARN

    robot.probe.until(is_told, "every message of the new type to be accounted for")
    words = "is published as std_msgs/msg/Bool and as std_msgs/msg/String: both recorded"
    assert f"{BOOLS} {words}" in diagnostics.last().message
    missed = number(diagnostics, f"lost of {BOOLS}")
    finish(robot, process)
    assert f"{BOOLS} {105 - missed}" in process.last_words
    found = messages(lever.bag, "/note")
    assert found[:3] == [("String", "a"), ("String", "b"), ("String", "c")]
    assert found[3:] == [("Bool", True)] * (100 - missed) + [("Bool", False)] * 5
    with Bag(lever.bag) as bag:
        assert bag.topics["/note"].msgtype == "std_msgs/msg/Bool and std_msgs/msg/String"
        assert f"{BOOLS} {words}" in bag.notes
        told = json.loads(bag.custom_data[RECORDING_KEY])
    assert told["lost"].get(BOOLS, 0) == missed


def test_publishers_of_two_types_at_once_are_both_recorded(
    lever: Lever, other: Probe, robot: Robot
) -> None:
    texts, bools = publisher(robot.probe, String), publisher(other, Bool)
    process = lever.record(topics=["note"])
    for sender in (texts, bools):
        robot.probe.until(sender.get_subscription_count, "the recorder")
    for _ in range(20):
        publish(robot, texts, String, ["x"])
        publish(robot, bools, Bool, [True])
    for sender in (texts, bools):
        assert sender.wait_for_all_acked(Duration(seconds=10))
    finish(robot, process)
    assert sorted(messages(lever.bag, "/note")) == [("Bool", True)] * 20 + [("String", "x")] * 20


def test_the_right_type_is_recorded_after_a_wrong_one_and_converted_alone(
    lever: Lever, other: Probe, robot: Robot, tmp_path: Path
) -> None:
    """A contract's topic that somebody else publishes as something else."""
    lever.contract.write_text(lever.contract.read_text().partition("episode:")[0])
    diagnostics = Diagnostics(robot)
    wrong = publisher(other, String, "joint_states")
    process = lever.record()
    robot.probe.until(wrong.get_subscription_count, "the recorder to hear the wrong type")
    for _ in range(20):
        wrong.publish(String(data="intruder"))
        lever.move()
    lever.move_until(lambda: number(diagnostics, "received of /joint_states") > 15, "states")
    key = "remark on /joint_states (std_msgs/msg/String)"
    assert diagnostics.value(key) == (
        "is published as std_msgs/msg/String, but the contract says sensor_msgs/msg/JointState: "
        "recorded as sent"
    )
    finish(robot, process)
    convert(Source(load_contract(lever.contract), [lever.bag]), tmp_path / "out")
    (episode,) = load_dataset(tmp_path / "out").episodes
    assert set(episode.observations[:, 0]) <= set(range(lever.sent))
    (bag,) = json.loads((tmp_path / "out" / "report.json").read_text())["bags"]
    assert any(
        note.startswith("/joint_states was recorded as sensor_msgs/msg/JointState and std_msgs")
        for note in bag["notes"]
    )


def test_what_a_publisher_sent_before_it_was_asked_for_less_is_told(
    lever: Lever, robot: Robot
) -> None:
    diagnostics = Diagnostics(robot)
    process = lever.record(topics=["note"])
    sender = publisher(robot.probe, String)
    robot.probe.until(sender.get_subscription_count, "the recorder")
    less = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    best_effort = robot.probe.node.create_publisher(String, "note", less)
    robot.probe.until(best_effort.get_subscription_count, "the recorder to ask for less")
    robot.probe.until(lambda: diagnostics.value("remark on /note"), "a remark")
    assert diagnostics.value("remark on /note") == (
        "got a publisher with a lower QoS (best_effort, volatile): its first messages are not "
        "recorded"
    )
    finish(robot, process)


def test_a_type_of_another_definition_is_not_recorded_under_a_wrong_one(
    lever: Lever, robot: Robot
) -> None:
    diagnostics = Diagnostics(robot)
    robot.probe.node.create_publisher(String, "note", reliable(1, latched=True))
    process = lever.record(DISAGREEING, topics=["note"])
    robot.probe.until(lambda: diagnostics.value("not recorded: /note"), "the refusal")
    assert diagnostics.value("not recorded: /note") == (
        "it is published with another definition of std_msgs/msg/String than is installed here: "
        "install the same version of 'std_msgs'"
    )
    # One that has the same definition can be heard, but not apart from the other.
    texts = publisher(robot.probe, String)
    robot.probe.until(texts.get_subscription_count, "the recorder")
    publish(robot, texts, String, ["a"])
    robot.probe.until(lambda: diagnostics.value("remark on /note"), "a remark")
    assert "has a publisher with another definition" in diagnostics.value("remark on /note")
    finish(robot, process)
    assert messages(lever.bag, "/note") == [("String", "a")]
    with Bag(lever.bag) as bag:
        assert "/note has a publisher with another definition of std_msgs" in "".join(bag.notes)


def test_a_topic_of_the_recorders_own_with_another_type_is_recorded(
    lever: Lever, other: Probe, robot: Robot
) -> None:
    """Its node publishes ~/status itself, and so cannot subscribe to it with another type."""
    numbers = publisher(other, Float64, "recorder/status")
    process = lever.record(topics=["recorder/status"])
    robot.probe.until(numbers.get_subscription_count, "the recorder")
    publish(robot, numbers, Float64, [1.5])
    assert numbers.wait_for_all_acked(Duration(seconds=10))
    finish(robot, process)
    assert ("Float64", 1.5) in messages(lever.bag, "/recorder/status")
