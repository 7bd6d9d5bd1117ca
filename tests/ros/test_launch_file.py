"""policy.launch.py: read without ROS's launch packages, and run with them where they are."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dql_ros.bag.reader import Bag
from dql_ros.domain import environment_of, own_domain
from dql_ros.nodes import control_node
from tests.ros.nodes.robot import SCARA, untrained_bundle
from tests.ros.workspace import build

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / "launch" / "policy.launch.py"
# Declared by rclpy on every node.
BUILT_IN = {"use_sim_time"}


def tree() -> ast.Module:
    return ast.parse(LAUNCH_FILE.read_text())


def passed_parameters() -> dict[str, set[str]]:
    """Return the names of the parameters that the file passes, by executable."""
    passed = {}
    for call in ast.walk(tree()):
        if isinstance(call, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in call.keywords}
            if {"executable", "parameters"} <= keywords.keys():
                keys = [
                    ast.literal_eval(key)
                    for found in ast.walk(keywords["parameters"])
                    if isinstance(found, ast.Dict)
                    for key in found.keys
                    if key is not None
                ]
                passed[ast.literal_eval(keywords["executable"])] = set(keys)
    return passed


def declared_parameters(executable: str) -> set[str]:
    """Return the names of the parameters that a node declares."""
    module = importlib.import_module(f"dql_ros.nodes.{executable}")
    names = {parameter.name for parameter in module.PARAMETERS}
    if hasattr(module, "ControlNode"):
        names |= {parameter.name for parameter in control_node.PARAMETERS}
    return names | BUILT_IN


def launch_arguments() -> dict[str, tuple[str, str]]:
    """Return default and description of each argument of the file."""
    for statement in tree().body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ARGUMENTS":
            arguments: dict[str, tuple[str, str]] = ast.literal_eval(statement.value)
            return arguments
    raise AssertionError("no ARGUMENTS")


def test_the_file_starts_these_nodes() -> None:
    assert set(passed_parameters()) == {"policy_node", "sim_bridge_node", "recorder_node"}


@pytest.mark.parametrize("executable", ["policy_node", "sim_bridge_node", "recorder_node"])
def test_every_parameter_that_the_file_passes_is_declared_by_the_node(executable: str) -> None:
    passed = passed_parameters()[executable]
    assert passed
    assert passed <= declared_parameters(executable)


@pytest.mark.parametrize("name", sorted(launch_arguments()))
def test_every_argument_is_described(name: str) -> None:
    _, description = launch_arguments()[name]
    assert re.fullmatch(r"[A-Z'/d].{20,}\.", description), description


def test_the_arguments_are_those_that_users_know() -> None:
    assert {
        "contract",
        "policy",
        "sim",
        "namespace",
        "use_sim_time",
        "params_file",
        "autostart",
        "log_level",
        "record",
    } <= set(launch_arguments())


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "nodes").glob("*.yaml")), ids=str)
def test_the_node_configurations_name_declared_parameters(path: Path) -> None:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    # Keyed '/**', since a file keyed by name does not reach a node in a namespace.
    assert list(document) == ["/**"]
    parameters = set(document["/**"]["ros__parameters"])
    assert parameters <= declared_parameters(f"{path.stem}_node")


@pytest.mark.ros
@pytest.mark.ros_launch
@pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="launch and launch_ros come with a ROS 2 installation only",
)
def test_the_launch_brings_all_up_drives_records_and_ends(tmp_path: Path) -> None:
    workspace = build(tmp_path / "workspace")
    bundle = untrained_bundle(tmp_path, SCARA)
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**: {ros__parameters: {episodes: 2, seed: 3}}")
    arguments = {
        "contract": SCARA,
        "policy": bundle,
        "mode": "lockstep",
        "sim": "true",
        "record": "true",
        "out": tmp_path / "bag",
        "namespace": "arm",
        "params_file": parameters,
    }
    code = """
        import sys
        from launch import LaunchDescription, LaunchService
        from launch.actions import IncludeLaunchDescription
        from launch.launch_description_sources import PythonLaunchDescriptionSource
        path, *pairs = sys.argv[1:]
        arguments = [tuple(pair.split(":=")) for pair in pairs]
        source = PythonLaunchDescriptionSource(path)
        include = IncludeLaunchDescription(source, launch_arguments=arguments)
        service = LaunchService()
        service.include_launch_description(LaunchDescription([include]))
        sys.exit(service.run())
    """
    with own_domain() as domain:
        kept = ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")
        environment = {key: environment_of(domain)[key] for key in kept}
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                "\n".join(line[8:] for line in code.splitlines()),
                str(workspace.share / "launch" / LAUNCH_FILE.name),
                *(f"{name}:={value}" for name, value in arguments.items()),
            ],
            env=workspace.environment() | environment | {"ROS_LOG_DIR": str(tmp_path / "log")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert said.count("process has finished cleanly") == 3, said
    assert "[arm.policy]: running" in said
    with Bag(tmp_path / "bag") as bag:
        counts = {name: topic.count for name, topic in bag.topics.items()}
    assert counts["/arm/target"] == 2
    assert counts["/arm/joint_states"] == counts["/arm/reward"] + 2
    assert counts["/arm/velocity_controller/commands"] >= counts["/arm/reward"]
