"""The SROS 2 policy names what the nodes have, and who cannot be protected does not run."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from dql_ros.contract import load_contract
from dql_ros.nodes.topics import reliable
from dql_ros.sros2 import policy_document
from tests.ros.nodes.robot import Robot
from tests.ros.test_sros2 import ENFORCED, allowed

pytestmark = pytest.mark.ros
COMMANDS = "velocity_controller/commands"


def had_by(graph: Node, node: str, right: str) -> set[str]:
    """Return the names of what a node has; empty while nobody knows it."""
    look = {
        "publish": graph.get_publisher_names_and_types_by_node,
        "subscribe": graph.get_subscriber_names_and_types_by_node,
        "reply": graph.get_service_names_and_types_by_node,
        "request": graph.get_client_names_and_types_by_node,
    }[right]
    return {name for name, _ in look(node, "/")} if node in graph.get_node_names() else set()


def of_other_mode(node: str, *, shadow: bool) -> dict[str, set[str]]:
    """What a control node has in shadow mode only, or outside of it only."""
    if shadow:
        return {"publish": {f"/{COMMANDS}"}}
    return {"publish": {f"/{node}/shadow/{COMMANDS}"}, "subscribe": {f"/{COMMANDS}"}}


def require_exact_rights(
    robot: Robot, document: str, node: str, besides: Mapping[str, set[str]] | None = None
) -> None:
    """Compare what a running node has with what the policy allows it, ``besides`` included."""

    def differing() -> dict[str, set[str]]:
        found = {}
        for right in ("publish", "subscribe", "reply", "request"):
            has, may = had_by(robot.probe.node, node, right), allowed(document, f"/{node}", right)
            if right == "subscribe":
                has.add("/clock")  # A node may always follow simulated time.
            found[right] = has ^ may ^ (besides or {}).get(right, set())
        return {right: names for right, names in found.items() if names}

    with suppress(AssertionError):
        robot.probe.until(lambda: not differing(), "the names of the node")
    assert differing() == {}


@pytest.mark.parametrize(
    ("use_sim_time", "shadow"), [(False, False), (True, False), (False, True)]
)
def test_each_node_may_do_what_it_does_and_no_more(
    robot: Robot, scara: Path, scara_bundle: Path, tmp_path: Path, use_sim_time: bool, shadow: bool
) -> None:
    document = policy_document(load_contract(scara))
    robot.start("sim_bridge", contract=str(scara), mode="real_time", wait_for_policy=False)
    common: dict[str, Any] = {"contract": str(scara), "use_sim_time": use_sim_time}
    robot.start("recorder", out=str(tmp_path / "bag"), **common)
    acting: dict[str, Any] = {"candidates_hz": 10.0, "when_too_slow": "warn", "shadow": shadow}
    robot.start("policy", policy=str(scara_bundle), **acting, **common)
    # What only a driver or a policy in shadow mode publishes, the recorder hears once it is there.
    robot.probe.node.create_publisher(Float64MultiArray, COMMANDS, reliable(1))
    assert robot.probe.change_state("policy", 1)  # What it has, it has once it is configured.
    recorded = {} if shadow else {"subscribe": {f"/policy/shadow/{COMMANDS}"}}
    require_exact_rights(robot, document, "sim_bridge")
    require_exact_rights(robot, document, "recorder", recorded)
    require_exact_rights(robot, document, "policy", of_other_mode("policy", shadow=shadow))


@pytest.mark.parametrize("shadow", [False, True])
def test_the_demonstrator_may_do_what_it_does(robot: Robot, scara: Path, shadow: bool) -> None:
    document = policy_document(load_contract(scara))
    acting: dict[str, Any] = {"candidates_hz": 10.0, "when_too_slow": "warn", "shadow": shadow}
    robot.start("demonstrator", contract=str(scara), **acting)
    assert robot.probe.change_state("demonstrator", 1)
    besides = of_other_mode("demonstrator", shadow=shadow)
    require_exact_rights(robot, document, "demonstrator", besides)


def test_with_a_takeover_who_commands_hears_the_person_and_says_so(
    robot: Robot, scara: Path, tmp_path: Path
) -> None:
    contract = tmp_path / "scara.yaml"
    switch = "{topic: /joy, type: sensor_msgs/msg/Joy, path: buttons.0}"
    contract.write_text(f"{scara.read_text()}\ntakeover: {{topics: [teleop], switch: {switch}}}\n")
    document = policy_document(load_contract(contract))
    acting: dict[str, Any] = {"candidates_hz": 10.0, "when_too_slow": "warn"}
    robot.start("demonstrator", contract=str(contract), **acting)
    assert robot.probe.change_state("demonstrator", 1)
    besides = of_other_mode("demonstrator", shadow=False)
    require_exact_rights(robot, document, "demonstrator", besides)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"ROS_SECURITY_ENCLAVE_OVERRIDE": "/nobody"},
            "enclaves/nobody' does not exist: make the enclave with 'ros2 security create_encl",
        ),
        ({"ROS_SECURITY_ENABLE": "True"}, "ROS_SECURITY_ENABLE is 'True', which ROS 2 reads as"),
        ({"ROS_SECURITY_STRATEGY": "enforce"}, "which ROS 2 reads as Permissive: write Enforce"),
        ({"ROS_SECURITY_KEYSTORE": ""}, "ROS_SECURITY_KEYSTORE is '', where no keystore is: name"),
    ],
)
def test_a_node_that_cannot_be_protected_ends_with_a_line(
    robot: Robot,
    scara: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    told: str,
) -> None:
    (tmp_path / "enclaves").mkdir()
    for name, value in (ENFORCED | {"ROS_SECURITY_KEYSTORE": str(tmp_path)} | changed).items():
        monkeypatch.setenv(name, value)
    process = robot.start("recorder", contract=str(scara), out=str(tmp_path / "bag"))
    assert process.wait(30)
    assert process.exit_code == 2
    assert told in process.last_words
    assert not (tmp_path / "bag").exists()


def test_a_node_does_not_run_unprotected_where_protection_is_asked_for(
    robot: Robot, scara: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheels from PyPI cannot protect; whoever can, misses the keys in this keystore."""
    (tmp_path / "enclaves").mkdir()
    for name, value in (ENFORCED | {"ROS_SECURITY_KEYSTORE": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    process = robot.start("recorder", contract=str(scara), out=str(tmp_path / "bag"))
    assert process.wait(30)
    assert process.exit_code != 0
    assert "secur" in process.last_words.lower()
    assert not (tmp_path / "bag").exists()
