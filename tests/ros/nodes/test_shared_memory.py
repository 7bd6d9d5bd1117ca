"""No other program, whatever becomes of it, holds a lock that a node waits for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.srv import GetState

from dql_ros import transport
from dql_ros.processes import NodeCommand, NodeProcess, environment_of
from dql_ros.transport import inside, without_shared_memory
from tests.ros.nodes.robot import Robot

pytestmark = pytest.mark.ros
RANGE, PROFILE = "ROS_AUTOMATIC_DISCOVERY_RANGE", "FASTRTPS_DEFAULT_PROFILES_FILE"
RMW = "rmw_fastrtps_cpp"
NODES = ("policy", "demonstrator", "recorder", "sim_bridge")


def shared_with_others(process: int) -> list[str]:
    """Return what of Fast DDS's shared memory the process has mapped."""
    maps = Path(f"/proc/{process}/maps").read_text()
    return re.findall(r"/dev/shm/fast(?:rtps|dds)_\S+", maps)


def test_a_program_of_ros_does_otherwise(robot: Robot) -> None:
    code = "import rclpy; rclpy.init(); n = rclpy.create_node('n'); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment_of(robot.domain),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert shared_with_others(process.pid)
        process.communicate(b"\n", timeout=30)


@pytest.mark.parametrize("kind", NODES)
def test_a_node_shares_no_memory(robot: Robot, kind: str, scara: Path, tmp_path: Path) -> None:
    parameters = {"contract": str(scara)}
    if kind == "recorder":
        parameters["out"] = str(tmp_path / "bags")
    node = robot.start(kind, **parameters)
    robot.probe.until(lambda: kind in robot.probe.node.get_node_names(), "the node")
    assert node.exit_code is None
    assert not shared_with_others(node.pid)


def test_a_node_that_must_share_memory_says_so(robot: Robot, scara: Path, tmp_path: Path) -> None:
    arguments = NodeCommand("dql_ros.nodes.policy_node", "policy", {"contract": str(scara)})
    environment = environment_of(robot.domain) | {
        "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA",
        "ROS_LOG_DIR": str(tmp_path / "log"),
    }
    node = NodeProcess("policy", arguments.arguments(tmp_path), environment)
    try:
        robot.probe.call(GetState, "policy/get_state", GetState.Request())
        assert shared_with_others(node.pid)
        robot.probe.until(
            lambda: "unset FASTDDS_BUILTIN_TRANSPORTS" in node.last_words, "the warning"
        )
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("environment", "profile", "discovery"),
    [
        ({}, "network.xml", None),
        ({RANGE: "SUBNET", "ROS_STATIC_PEERS": "10.0.0.2"}, "network.xml", "SUBNET"),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.2:11811"}, "network.xml", None),
        ({RANGE: "LOCALHOST"}, "loopback_2.xml", "SYSTEM_DEFAULT"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "loopback_2.xml", "SYSTEM_DEFAULT"),
    ],
)
def test_fast_dds_is_asked_for_udp_only(
    environment: dict[str, str], profile: str, discovery: str | None
) -> None:
    changed = without_shared_memory({"HOME": "/home", **environment}, RMW)
    assert Path(changed[PROFILE]).name == profile
    assert Path(changed[PROFILE]).is_file()
    assert changed.get(RANGE) == discovery
    assert changed["HOME"] == "/home"
    assert "ROS_LOCALHOST_ONLY" not in changed


def test_the_profiles_for_both_versions_of_fast_dds_differ_in_two_names_only() -> None:
    both = [Path(transport.__file__).with_name("fastdds") / f"loopback_{n}.xml" for n in (2, 3)]
    text = both[0].read_text()
    for old, new in (
        ("heartbeatPeriod", "heartbeat_period"),
        ("heartbeatResponseDelay", "heartbeat_response_delay"),
    ):
        assert text.count(old) == 2
        text = text.replace(old, new)
    assert both[1].read_text() == text
    changed = without_shared_memory({RANGE: "LOCALHOST"}, RMW)
    assert changed["FASTDDS_DEFAULT_PROFILES_FILE"] == str(both[1])


@pytest.mark.parametrize(
    "environment",
    [
        {PROFILE: "/mine.xml"},
        {"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml", RANGE: "LOCALHOST"},
        {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
        {RANGE: "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.2"},
        {RANGE: "LOCALHOST", "ROS_DISCOVERY_SERVER": "10.0.0.2:11811"},
    ],
)
def test_what_the_user_has_chosen_for_fast_dds_is_kept(environment: dict[str, str]) -> None:
    assert without_shared_memory(environment, RMW) == environment


def test_the_own_environment_is_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    before = dict(os.environ)
    with inside(7, RMW):
        assert os.environ["ROS_DOMAIN_ID"] == "7"
        assert "ROS_LOCALHOST_ONLY" not in os.environ
    assert dict(os.environ) == before
