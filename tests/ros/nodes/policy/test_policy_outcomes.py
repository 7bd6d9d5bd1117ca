"""Who watches the policy labels its episodes by the policy node, which goes on as before."""

import itertools
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import yaml
from lifecycle_msgs.msg import Transition
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.topics import reliable
from tests.ros.nodes import scripted_policy_node as scripted
from tests.ros.nodes.arm import NODE, Arm, Told
from tests.ros.nodes.robot import SAFE, Robot

pytestmark = pytest.mark.ros
MODULE = "tests.ros.nodes.scripted_policy_node"
ACTION = [scripted.ACTION] * 2
RECORD = {"topic": "record", "type": "std_msgs/msg/String", "path": "data", "equals": "on"}


def contract(scara: Path, folder: Path, *, outcomes: bool = True) -> Path:
    document = yaml.safe_load(scara.read_text())
    document |= {"reward": {"function": "dql_core.rewards:outcome"}, "episode": {"during": RECORD}}
    path = folder / "arm.yaml"
    path.write_text(yaml.safe_dump(document | ({"outcomes": {}} if outcomes else {})))
    return path


def label(robot: Robot, success: bool) -> tuple[bool, str]:
    request = SetBool.Request(data=success)
    answer = robot.probe.call(SetBool, f"{NODE}/label_episode", request)
    return answer.success, answer.message


def discard(robot: Robot) -> tuple[bool, str]:
    answer = robot.probe.call(Trigger, f"{NODE}/discard_episode", Trigger.Request())
    return answer.success, answer.message


def test_labels_of_the_policy_node_are_recorded_and_change_no_command(
    robot: Robot, scara: Path, tmp_path: Path
) -> None:
    """Also once it is inactive, when the episode may still be judged."""
    rules, probe = contract(scara, tmp_path), robot.probe
    recorder = robot.start("recorder", contract=str(rules), out=str(tmp_path / "bag"))
    robot.run(MODULE, NODE, contract=str(rules))
    arm, told = Arm(robot), Told(robot)
    record = probe.node.create_publisher(String, "record", reliable(10))
    arm.aim(arm.now_ns)
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    wanted = {"outcome": 1, "velocity_controller/commands": 2, "record": 1}
    count = probe.node.count_subscribers
    probe.until(lambda: all(count(each) >= wanted[each] for each in wanted), "the recorder")
    answer = probe.begin_transition(NODE, Transition.TRANSITION_ACTIVATE)
    arm.live(answer.done, "the node to be active")

    def drive(words: str) -> None:
        record.publish(String(data=words))
        seen = len(arm.commands)
        arm.live(lambda: len(arm.commands) > seen + 6, "commands")

    for word in ("success", "discard", "failure"):
        drive("on")
        done, text = discard(robot) if word == "discard" else label(robot, word == "success")
        assert done, text
        drive("off")
    assert told.state == "running"
    assert {tuple(each.data) for each in arm.commands} <= {tuple(ACTION), tuple(SAFE)}
    drive("on")
    assert probe.change_state(NODE, Transition.TRANSITION_DEACTIVATE)
    assert arm.last == SAFE
    record.publish(String(data="off"))
    arm.live(record.wait_for_all_acked, "the end of the episode")
    assert label(robot, True) == (True, "labelled 'success'")
    assert probe.call(Trigger, "recorder/stop", Trigger.Request()).success
    assert not recorder.wait(0.0)
    report = convert(Source(load_contract(rules), [tmp_path / "bag"]), tmp_path / "out")
    assert report["totals"]["discarded"] == 1
    episodes = list(minari.MinariDataset(tmp_path / "out" / "data").iterate_episodes())
    said = [episode.infos["success"] for episode in episodes]
    assert [bool(each[-1]) for each in said] == [True, False, True]
    assert [bool(episode.terminations[-1]) for episode in episodes] == [True, True, True]
    assert [episode.rewards.sum() for episode in episodes] == [1.0, 0.0, 1.0]
    for episode in episodes[:2]:
        commands = {tuple(row) for row in episode.actions.tolist()}
        assert commands == {tuple(np.array(ACTION, np.float32).tolist())}


def test_a_label_that_nobody_hears_is_refused(robot: Robot, scara: Path, tmp_path: Path) -> None:
    rules, probe = contract(scara, tmp_path), robot.probe
    robot.run(MODULE, NODE, contract=str(rules))
    assert label(robot, True) == (
        False,
        "'success' labels nothing: the node is not configured",
    )
    assert probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    assert discard(robot) == (
        False,
        "'discard' labels nothing: nobody hears '/outcome': start a recorder",
    )
    heard = probe.collect(String, "outcome")
    refusals = itertools.takewhile(lambda answer: not answer[0], iter(lambda: discard(robot), ()))
    assert len(list(refusals)) < 1000
    probe.until(lambda: heard, "the label")
    assert heard[-1].data == "discard"
    assert probe.change_state(NODE, Transition.TRANSITION_CLEANUP)
    assert not label(robot, False)[0]


def test_without_outcomes_in_the_contract_the_remedy_is_named(
    robot: Robot, scara: Path, tmp_path: Path
) -> None:
    plain: dict[str, Any] = {"contract": str(contract(scara, tmp_path, outcomes=False))}
    robot.run(MODULE, NODE, **plain)
    assert robot.probe.change_state(NODE, Transition.TRANSITION_CONFIGURE)
    assert label(robot, False) == (
        False,
        "'failure' labels nothing: the contract has no 'outcomes': add 'outcomes: {}' to it",
    )
