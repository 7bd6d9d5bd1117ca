"""The package as a ROS workspace builds it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from dql_ros.processes import NodeProcess, environment_of, own_domain
from tests.ros.nodes.robot import Robot
from tests.ros.workspace import ROOT, Workspace, build, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", name="workspace")
def _workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(name="robot")
def _robot() -> Iterator[Robot]:
    with own_domain() as domain, Robot(domain) as robot:
        yield robot


def test_executables_are_where_ros2_run_looks_for_them(workspace: Workspace) -> None:
    names = {path.name for path in workspace.executables.iterdir()}
    assert {"policy_node", "sim_bridge_node", "recorder_node", "demonstrator_node", "dql"} <= names


def test_launch_files_and_configuration_are_shared(workspace: Workspace) -> None:
    installed = {str(path.relative_to(workspace.share)) for path in workspace.share.rglob("*.*")}
    assert {
        "package.xml",
        "launch/policy.launch.py",
        "config/contracts/scara.yaml",
        "config/nodes/policy.yaml",
    } <= installed
    index = workspace.prefix / "share" / "ament_index" / "resource_index" / "packages"
    assert [path.name for path in index.iterdir()] == ["dql_ros"]


def test_the_installed_package_is_complete(workspace: Workspace) -> None:
    code = "import dql_ros, dql_core.sim.scara_env as env; print(dql_ros.__file__, env.__file__)"
    command = [sys.executable, "-c", f"{code}; env.ScaraReachEnv().reset(seed=0)"]
    result = subprocess.run(
        command, env=workspace.environment(), cwd="/", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(str(workspace.prefix)) == 2
    profiles = Path(result.stdout.split()[0]).with_name("fastdds")
    assert {path.name for path in profiles.iterdir()} == {
        "loopback_2.xml",
        "loopback_3.xml",
        "network.xml",
    }


@pytest.mark.ros
def test_the_installed_policy_node_comes_up_and_ends(workspace: Workspace, robot: Robot) -> None:
    executable = workspace.executables / "policy_node"
    environment = workspace.environment() | {
        key: environment_of(robot.domain)[key]
        for key in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
    }
    node = NodeProcess("policy", [str(executable)], environment)
    try:
        response = robot.probe.call(GetState, "policy/get_state", GetState.Request())
        assert response.current_state.id == State.PRIMARY_STATE_UNCONFIGURED
    finally:
        node.stop()
    assert node.exit_code == 0, node.last_words


def test_colcon_runs_the_tests(workspace: Workspace) -> None:
    source = workspace.prefix.parents[1] / "src/dql_ros"
    shutil.copytree(ROOT / "tests", source / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    chosen = ["--pytest-args", "tests/core/test_errors.py", "-p", "no:cacheprovider"]
    run(workspace.prefix.parents[1], "test", *chosen)
    result = ElementTree.parse(workspace.prefix.parents[1] / "build/dql_ros/pytest.xml").getroot()
    (suite,) = result.iter("testsuite")
    assert int(suite.attrib["tests"]) > 0
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("0", "0")
