import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.typesys.store import Typestore

from dql_ros.contract import Contract, load_contract
from dql_ros.tools.contract_types import names_path, node_at, type_problems

CONTRACTS = sorted((Path(__file__).parents[3] / "config" / "contracts").glob("*.yaml"))
ARM = yaml.safe_load((Path(__file__).parents[1] / "arm.yaml").read_text())


def problems(typestore: Typestore, **changes: Any) -> list[str]:
    contract = Contract.model_validate({**ARM, **changes})
    return [str(problem) for problem in type_problems(contract, lambda _: typestore)]


def observed(msgtype: str, *fields: dict[str, Any], **keys: Any) -> list[dict[str, Any]]:
    return [{"topic": "state", "type": msgtype, "fields": fields, **keys}]


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_bundled_contracts_fit_the_standard_types(path: Path, typestore: Typestore) -> None:
    assert type_problems(load_contract(path), lambda _: typestore) == []


@pytest.mark.parametrize(
    ("msgtype", "field", "problem"),
    [
        (
            "sensor_msgs/msg/JointStat",
            {"path": "a"},
            "unknown type .*mean 'sensor_msgs/msg/JointS",
        ),
        (
            "nav_msgs/msg/Odometry",
            {"path": "pose.pose.positon.x"},
            "no field 'positon' .*'position'",
        ),
        ("nav_msgs/msg/Odometry", {"path": "pose.pose"}, "'pose.pose' is a message, not a number"),
        (
            "nav_msgs/msg/Odometry",
            {"path": "pose.pose.orientation", "rotation": "cos_sin"},
            "is a message, not a number; a quaternion takes 'rotation: 6d'",
        ),
        (
            "nav_msgs/msg/Odometry",
            {"path": "pose.covariance"},
            "is an array of numbers, not a num",
        ),
        ("nav_msgs/msg/Odometry", {"path": "pose.covariance", "indices": [35, 36]}, "no index 36"),
        ("nav_msgs/msg/Odometry", {"path": "pose.covariance.36"}, "element 36 of 36"),
        ("nav_msgs/msg/Odometry", {"path": "pose.0"}, "asks for element 0 of a geometry_msgs"),
        ("nav_msgs/msg/Odometry", {"path": "pose.covariance", "joints": ["a"]}, "names no joints"),
        (
            "nav_msgs/msg/Odometry",
            {"path": "pose.pose.position", "rotation": "6d"},
            "no field 'w'",
        ),
        ("nav_msgs/msg/Odometry", {"path": "child_frame_id.x"}, "there is a string"),
        ("geometry_msgs/msg/Point", {"path": "x"}, "has no header; set 'stamp: receive'"),
        ("sensor_msgs/msg/JointState", {"path": "name", "indices": [0, 1]}, "is a list of texts"),
        ("sensor_msgs/msg/JointState", {"path": "position", "joints": ["a"]}, None),
        (
            "trajectory_msgs/msg/JointTrajectory",
            {"path": "points.0.positions", "joints": ["a"]},
            None,
        ),
        ("geometry_msgs/msg/PoseArray", {"path": "poses.3.position.x"}, None),
        (
            "sensor_msgs/msg/MultiDOFJointState",
            {"path": "transforms.0.translation.x"},
            "write transforms.joint_names=NAME..translation.x",
        ),
        (
            "diagnostic_msgs/msg/DiagnosticArray",
            {"path": "status.0.level"},
            "write status.name=NAME..level",
        ),
        (
            "sensor_msgs/msg/MultiDOFJointState",
            {"path": "transforms[joint_names=base].translation.x"},
            None,
        ),
        ("diagnostic_msgs/msg/DiagnosticArray", {"path": "status[name=arm].level"}, None),
        ("visualization_msgs/msg/MarkerArray", {"path": "markers[id=7].pose.position.x"}, "head"),
        (
            "diagnostic_msgs/msg/DiagnosticArray",
            {"path": "status[nam=arm].level"},
            "no field 'nam' .*'name'",
        ),
        (
            "diagnostic_msgs/msg/DiagnosticArray",
            {"path": "status[values=arm].level"},
            "'values' is no name",
        ),
        ("sensor_msgs/msg/JointState", {"path": "position[names=a]"}, "no names called 'names'"),
        ("sensor_msgs/msg/JointState", {"path": "position[name=a]"}, None),
        ("geometry_msgs/msg/PoseStamped", {"path": "pose.orientation", "rotation": "yaw"}, None),
    ],
)
def test_what_a_type_does_not_have_is_told(
    typestore: Typestore, msgtype: str, field: dict[str, Any], problem: str | None
) -> None:
    found = problems(typestore, observation=observed(msgtype, field))
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("observation.0 (state): ")
        assert re.search(problem, found[0]), found[0]


def test_a_frame_that_is_taken_by_its_place_is_told(typestore: Typestore) -> None:
    field = {"path": "transforms.1.transform.translation.x"}
    stream = observed("tf2_msgs/msg/TFMessage", field, stamp="receive")
    assert problems(typestore, observation=stream) == [
        "observation.0 (state): 'transforms.1.transform.translation.x' takes whatever comes at "
        "place 1 of 'transforms', whose elements have names; write "
        "transforms[child_frame_id=NAME].transform.translation.x"
    ]


def test_commands_that_cannot_be_sent_are_told(typestore: Typestore) -> None:
    field = {"path": "data", "indices": [1], "low": 0, "high": 1}
    command = [{"topic": "c", "type": "std_msgs/msg/Float64MultiArray", "fields": [field]}]
    (found,) = problems(typestore, action=command, on_fault={})
    assert found.startswith("action.0 (c): 'data' cannot be sent, since")


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({"reward": {"topic": "r", "type": "std_msgs/msg/Float65"}}, "reward (r): unknown type"),
        ({"reward": {"topic": "r", "type": "std_msgs/msg/String"}}, "'data' is a text, not a num"),
        (
            {
                "episode": {
                    "terminated": {"topic": "t", "type": "std_msgs/msg/Bool", "path": "dat"}
                }
            },
            "episode.terminated (t): no field 'dat'",
        ),
        (
            {"episode": {"truncated": {"topic": "t", "type": "std_msgs/msg/Bool", "equals": "x"}}},
            "is a number, not a text",
        ),
        (
            {"episode": {"start": {"topic": "s", "type": "std_msgs/msg/Header", "path": "stamp"}}},
            "episode.start (s): 'stamp' is a message, not a number or a text",
        ),
    ],
)
def test_signals_and_events_are_looked_at(
    typestore: Typestore, section: dict[str, Any], found: str
) -> None:
    assert any(found in problem for problem in problems(typestore, **section))


def test_events_of_a_service_are_known_to_the_bag_alone(typestore: Typestore) -> None:
    start = {"topic": "s/_service_event", "type": "std_srvs/srv/Trigger_Event"}
    assert problems(typestore, episode={"start": start}) == []


def test_all_problems_are_told_at_once(typestore: Typestore) -> None:
    wrong = observed("geometry_msgs/msg/Point", {"path": "u"}, {"path": "v"})
    reward = {"topic": "r", "type": "std_msgs/msg/Float65"}
    assert len(problems(typestore, observation=wrong, reward=reward)) == 4


def test_definitions_tell_kinds_and_lengths(typestore: Typestore) -> None:
    kinds = {
        "header": "message",
        "name": "texts",
        "name.0": "text",
        "position": "array",
        "position.2": "number",
        "header.frame_id": "text",
    }
    for path, kind in kinds.items():
        assert node_at(typestore, "sensor_msgs/msg/JointState", path).kind == kind
    assert node_at(typestore, "nav_msgs/msg/Odometry", "pose.covariance").length == 36
    assert names_path(typestore, "sensor_msgs/msg/JointState", "effort") == "name"
    assert names_path(typestore, "nav_msgs/msg/Odometry", "pose.covariance") is None
