"""Starting, stopping and labelling recordings over services, as an operator does."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.bag.recorder import LABELS_KEY
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from tests.ros.nodes.recorder.lever import NODE, Lever
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros


@pytest.fixture(name="lever")
def _lever(robot: Robot, tmp_path: Path) -> Lever:
    return Lever(robot, tmp_path)


def call(lever: Lever, service: str) -> Any:
    return lever.robot.probe.call(Trigger, f"{NODE}/{service}", Trigger.Request())


def drive_for(lever: Lever, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    lever.move_until(lambda: time.monotonic() > end_s, "time to pass")


def test_labels_are_the_episodes_of_the_converted_recording(lever: Lever, tmp_path: Path) -> None:
    """What comes before the label 'start' is no part of it, and 'success' terminates it."""
    probe = lever.robot.probe
    label = probe.node.create_publisher(String, f"{NODE}/label", reliable(10))
    seen = probe.collect(String, f"{NODE}/episode")
    lever.record()
    probe.until(label.get_subscription_count, "the recorder's labels")
    probe.until(lambda: probe.node.count_publishers(f"{NODE}/episode"), "the markers")
    drive_for(lever, 0.2)
    first = lever.sent
    label.publish(String(data="start"))
    lever.move_until(lambda: seen, "the first label")
    drive_for(lever, 0.5)
    answer = probe.call(SetBool, f"{NODE}/label_episode", SetBool.Request(data=True))
    assert answer.success, answer.message
    drive_for(lever, 0.2)
    answer = call(lever, "stop")
    assert answer.success, answer.message
    assert answer.message.endswith(f"messages in {lever.bag}")
    with Bag(lever.bag) as bag:
        labels = json.loads(bag.custom_data[LABELS_KEY])
    assert [label["label"] for label in labels] == ["start", "success"]
    contract = load_contract(lever.contract)
    convert(Source(contract, [lever.bag]), tmp_path / "out")
    (episode,) = load_dataset(tmp_path / "out").episodes
    assert episode.terminated
    spanned_s = (labels[1]["log_time_ns"] - labels[0]["log_time_ns"]) / 1e9
    assert len(episode) == pytest.approx(spanned_s * contract.rate_hz, abs=2)
    assert first - 1 <= episode.observations[0, 0] < lever.sent


def test_each_start_makes_a_bag_and_stop_finishes_it(lever: Lever) -> None:
    process = lever.record(record_at_start=False)
    lever.robot.probe.until(lambda: lever.has_told("stopped"), "the recorder to wait")
    drive_for(lever, 0.1)
    assert not lever.bag.exists()
    for name in ("bag", "bag_1"):
        folder = lever.bag.with_name(name)
        answer = call(lever, "start")
        assert (answer.success, answer.message) == (True, f"recording into {folder}")
        again = call(lever, "start")
        assert not again.success
        assert again.message == f"already recording into {folder}; stop that first"
        drive_for(lever, 0.2)
        assert call(lever, "stop").success
        with Bag(folder) as bag:
            assert bag.topics["/joint_states"].count > 0
            assert bag.message_count < 2 * lever.sent
    assert not call(lever, "stop").success
    answer = lever.robot.probe.call(SetBool, f"{NODE}/label_episode", SetBool.Request(data=False))
    assert not answer.success
    assert answer.message == "'failure' labels nothing: nothing is being recorded"
    process.send_signal(2)
    assert process.wait(30)
    assert process.exit_code == 0


def test_a_recording_is_finished_although_the_robot_goes_on(
    robot: Robot, scara: Path, tmp_path: Path
) -> None:
    robot.start("sim_bridge", contract=str(scara), mode="real_time", wait_for_policy=False)
    recorder = robot.start("recorder", contract=str(scara), out=str(tmp_path / "bag"))
    status = robot.probe.collect(String, "recorder/status", latched=True)
    robot.probe.until(lambda: status and (tmp_path / "bag").exists(), "the recording")
    states = robot.probe.collect(JointState, "/joint_states")
    robot.probe.until(lambda: len(states) > 5, "states")
    recorder.send_signal(signal.SIGINT)
    robot.probe.until(lambda: recorder.exit_code is not None, "the recorder to end")
    assert recorder.exit_code == 0
    with Bag(tmp_path / "bag") as bag:
        assert bag.topics["/joint_states"].count > 0
