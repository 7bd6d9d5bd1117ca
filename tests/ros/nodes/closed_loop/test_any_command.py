"""Robots that take other commands than arrays, trajectories and twists, all the way round."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from dql_core.data.dataset import load_dataset
from dql_ros.bag.reader import Bag
from dql_ros.codecs import stamp_ns
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.closed_loop import policy_driver, run_closed_loop
from dql_ros.tools.contract_check import check_bag, check_types
from tests.ros.built_messages import CAN_BUILD, build
from tests.ros.sim.test_task import CONTRACT, MODEL
from tests.ros.untrained import untrained_bundle

pytestmark = pytest.mark.ros
STEPS = 12
DRIVE = {"names": ["drive"], "low": -1.0, "high": 1.0}
COMMANDS: dict[str, list[dict[str, Any]]] = {
    "sensor_msgs/msg/Joy": [
        {"path": "axes", "indices": [1], **DRIVE},
        {"path": "axes", "indices": [0], "constant": 0.25},
        {"path": "buttons", "slice": "0:4", "constant": 1},
    ],
    "geometry_msgs/msg/WrenchStamped": [{"path": "wrench.force.x", **DRIVE}],
    "visualization_msgs/msg/MarkerArray": [
        {"path": "markers.0.points.0.x", **DRIVE},
        {"path": "markers.0.text", "constant": "speed"},
        {"path": "markers.0.type", "constant": 9},
    ],
}


JOG = "control_msgs/msg/JointJog"
JOG_DEFINITION = (
    "std_msgs/Header header\nstring[] joint_names\nfloat64[] displacements\n"
    "float64[] velocities\nfloat64 duration\n"
)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("msgtype", COMMANDS)
def test_a_command_of_another_type_drives_is_recorded_checked_and_converted(
    tmp_path: Path, msgtype: str
) -> None:
    messages, actions = driven(tmp_path, msgtype, COMMANDS[msgtype])
    sent = [number_of(message) for message in messages]
    assert np.ptp(sent) > 0
    np.testing.assert_array_equal(actions, np.array(sent[: len(actions)], np.float32))
    stamps_ns = [stamp_ns(whole(message)) for message in messages]
    assert np.diff(stamps_ns).min() >= 0
    assert stamps_ns[-1] > stamps_ns[0]


@pytest.mark.slow
@pytest.mark.skipif(
    not CAN_BUILD, reason="control_msgs is built here: needs gcc, g++ and the wheels"
)
def test_jogs_of_joints_drive_are_recorded_checked_and_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MoveIt Servo takes them, by nodes that have control_msgs in their ROS installation."""
    uses = ("builtin_interfaces", "std_msgs")
    site = build("control_msgs", {"msg/JointJog.msg": JOG_DEFINITION}, uses, tmp_path / "control")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
    fields = [
        {"path": "velocities", "joints": ["rail"], **DRIVE},
        {"path": "duration", "constant": 0.05},
    ]
    messages, actions = driven(tmp_path, JOG, fields)
    assert {(*message.joint_names, message.duration) for message in messages} == {("rail", 0.05)}
    assert {len(message.displacements) for message in messages} == {0}
    sent = np.array([message.velocities for message in messages], np.float32)
    np.testing.assert_array_equal(actions, sent[: len(actions), 0])


def driven(
    folder: Path, msgtype: str, fields: list[dict[str, Any]]
) -> tuple[list[Any], NDArray[np.float32]]:
    """Drive the sled by such commands; return those recorded, and the dataset's actions."""
    contract, model = folder / "sled.yaml", folder / "sled.xml"
    action = {"topic": "/cmd", "type": msgtype, "fields": fields, "frame_id": "rail"}
    contract.write_text(yaml.safe_dump(yaml.safe_load(CONTRACT) | {"action": [action]}))
    model.write_text(MODEL)
    rules = load_contract(contract)
    assert check_types(rules).problems == []
    (result,) = run_closed_loop(
        contract,
        policy_driver(untrained_bundle(folder, contract), seed=0),
        episodes=1,
        env=str(model),
        max_episode_steps=STEPS,
        record=folder / "bag",
    )
    assert result.length == STEPS
    check = check_bag(folder / "bag", rules)
    assert (check.findings.problems, check.transitions) == ([], STEPS)
    convert(Source(rules, [folder / "bag"]), folder / "out")
    (episode,) = load_dataset(folder / "out").episodes
    return commands(folder / "bag", msgtype), episode.actions[:, 0]


def commands(bag: Path, msgtype: str) -> list[Any]:
    with Bag(bag) as opened:
        types = opened.typestore("/cmd")
        return [
            types.deserialize_cdr(block.payload(index), msgtype)
            for batch in opened.batches(frozenset({"/cmd"}))
            for block in batch.blocks
            for index in range(len(block))
        ]


def number_of(message: Any) -> float:
    if hasattr(message, "markers"):
        return float(message.markers[0].points[0].x)
    return float(message.axes[1] if hasattr(message, "axes") else message.wrench.force.x)


def whole(message: Any) -> Any:
    """What has the header of a command, after a look at its constants and its frame."""
    stamped = message
    if hasattr(message, "markers"):
        (stamped,) = message.markers
        assert (stamped.text, stamped.type) == ("speed", 9)
    if hasattr(message, "axes"):
        assert (message.axes[0], message.buttons.tolist()) == (0.25, [1] * 4)
    assert stamped.header.frame_id == "rail"
    return stamped
